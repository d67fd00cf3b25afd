package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"guardring/e2e/oracle"
	"guardring/e2e/outcome"
	"guardring/e2e/rig"
	"guardring/e2e/tornet"
)

// Times of the run. Tor writes its state file up to 30 s late; the oracle reads its order there, so nothing is settled earlier.
const (
	startTimeout   = 100 * time.Second
	startTimeoutVM = 3 * time.Minute // without KVM, on a busy machine
	workTimeout    = 90 * time.Second
	settleObserve  = 20 * time.Second
	settle         = 5 * time.Second
)

// gatewayNames are the three gateways; the first two are planted with a common guard.
var gatewayNames = []string{"updates", "browsing", "apps"}

// stage is everything that runs.
type stage struct {
	cfg     config
	began   time.Time
	net     *tornet.Network
	rig     *rig.Rig
	vm      *machines // nil without VMs
	echo    *tornet.Echo
	clients map[string]*tornet.Client
	witness map[string]*outcome.Witness
	traffic map[string]*outcome.Traffic
	planted map[string][]string // fingerprints, by gateway
	common  string
	rivals  []string
	seconds map[string]int
}

func (s *stage) say(format string, args ...any) {
	fmt.Printf("[%5.1f s] %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

func run(ctx context.Context, cfg config) (err error) {
	s := &stage{cfg: cfg, began: time.Now(), clients: map[string]*tornet.Client{}, witness: map[string]*outcome.Witness{},
		traffic: map[string]*outcome.Traffic{}, planted: map[string][]string{}, rivals: gatewayNames[:2], seconds: map[string]int{}}
	defer func() { err = errors.Join(err, s.stop()) }()
	limit := startTimeout
	if cfg.vm {
		limit = startTimeoutVM
	}
	starting, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := s.startTors(starting); err != nil {
		return err
	}
	users, stopUsers := context.WithCancel(ctx)
	defer stopUsers()
	for _, name := range gatewayNames {
		s.traffic[name] = &outcome.Traffic{}
		go s.traffic[name].Run(users, s.clients[name], s.echo.Addr())
	}
	before, err := s.before(starting)
	if err != nil {
		return err
	}
	s.seconds["until_before"] = int(time.Since(s.began).Seconds())
	printMatrix(os.Stdout, "before guardring", before, s.net, cfg.colour)

	r, err := s.work(ctx, before)
	if err != nil {
		return err
	}
	s.seconds["all"] = int(time.Since(s.began).Seconds())
	r.Seconds = s.seconds
	if err := r.write(cfg.out); err != nil {
		return err
	}
	s.say("report written to %s", cfg.out)
	err = s.verdict(r)
	if cfg.hold {
		if err != nil {
			s.say("%v", err)
		}
		s.hold(ctx)
	}
	return err
}

// verdict says how it went.
func (s *stage) verdict(r report) error {
	if !r.OK {
		for _, f := range r.Faults {
			fmt.Println("  fault:", f)
		}
		return fmt.Errorf("the oracle found %s", count(len(r.Faults), "fault"))
	}
	if s.cfg.policy == "observe" {
		s.say("ok: the conflict is reported, and nothing has changed")
	} else {
		s.say("ok: disjoint, one guard changed in %s, everything else as before", r.Changed[0])
	}
	return nil
}

// startTors starts the private network and the three clients, two of them planted with a common guard.
func (s *stage) startTors(ctx context.Context) (err error) {
	s.say("starting a private Tor network: 3 authorities, 14 guards, 4 exits, on loopback only")
	s.net, err = tornet.Start(ctx, tornet.Config{CacheDir: s.cfg.cache, Routable: s.cfg.vm, Progress: func(p string) { s.say("  %s", p) }})
	if err != nil {
		return err
	}
	if s.echo, err = tornet.StartEcho(); err != nil {
		return err
	}
	g := s.net.Guards
	s.common = g[0].Fingerprint
	planted := map[string][]*tornet.Relay{
		"updates": {g[0], g[1], g[2]}, "browsing": {g[0], g[3], g[4]}, "apps": {g[5], g[6], g[7]},
	}
	for name, relays := range planted {
		for _, r := range relays {
			s.planted[name] = append(s.planted[name], r.Fingerprint)
		}
	}
	if s.cfg.vm {
		return s.startMachines(ctx, planted)
	}
	return s.startClients(ctx, planted)
}

// startClients starts the three Tors as processes of this machine.
func (s *stage) startClients(ctx context.Context, planted map[string][]*tornet.Relay) (err error) {
	if s.rig, err = rig.New(s.cfg.host, s.cfg.guest, s.cfg.policy); err != nil {
		return err
	}
	s.say("starting three Tor clients; the state files of %s and %s both begin with %s %s", s.rivals[0], s.rivals[1], s.net.Guards[0].Name, s.common[:8])
	booted := make(chan error)
	for _, name := range gatewayNames {
		c, err := s.net.AddClient(tornet.ClientConfig{Name: name, Plant: planted[name]})
		if err != nil {
			return err
		}
		s.clients[name] = c
		gw, err := s.rig.Add(name, c)
		if err != nil {
			return err
		}
		if _, err := gw.Join(ctx); err != nil {
			return err
		}
		go func() { booted <- c.Bootstrap(ctx) }()
	}
	var errs []error
	for range gatewayNames {
		errs = append(errs, <-booted)
	}
	return errors.Join(errs...)
}

// before waits until every client carries streams over its planted guards, and has written its state file.
func (s *stage) before(ctx context.Context) (outcome.Snapshot, error) {
	s.say("waiting until each carries requests through its planted guards")
	out := outcome.Snapshot{}
	for _, name := range gatewayNames {
		planted := s.planted[name]
		v, err := oracle.Await(ctx, s.clients[name], "use of the planted guards", func(v oracle.View) bool {
			done, _, _ := s.traffic[name].Counts()
			if !oracle.AllIn(v.InUse, planted) {
				_ = oracle.CloseStrays(s.clients[name], planted) // the next look tells whether they are gone
			}
			return done > 0 && slices.Equal(v.Primary, planted) && slices.Contains(v.InUse, planted[0]) && oracle.AllIn(v.InUse, planted) && len(v.Sample) >= 3
		})
		if err != nil {
			_, _, last := s.traffic[name].Counts()
			return nil, errors.Join(err, last)
		}
		out[name] = v
		if s.witness[name], err = outcome.NewWitness(ctx, s.clients[name], s.common); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// work runs guardring and waits for the outcome.
func (s *stage) work(ctx context.Context, before outcome.Snapshot) (report, error) {
	if s.vm != nil {
		s.say("starting guardring coordinate (policy %s), and guardring-guest run in the VMs", s.cfg.policy)
	} else {
		s.say("starting guardring run (policy %s) and three guardring-guest run", s.cfg.policy)
	}
	s.say("  (delay and budgets are switched off here: a used guard is moved at once, so that you see it move;")
	s.say("  by default that waits for 10 minutes to 6 hours, because your network provider sees the change)")
	working, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	started := time.Now()
	if err := s.startGuardring(working); err != nil {
		return report{}, err
	}
	judge, settled := outcome.Disjoint, settle
	if s.cfg.policy == "observe" {
		judge, settled = outcome.Unchanged, settleObserve
	}
	after, faults, err := s.await(working, before, judge, settled)
	if err != nil {
		return report{}, err
	}
	status, raw, err := s.rig.Status(ctx)
	if err != nil {
		return report{}, err
	}
	printMatrix(os.Stdout, "after guardring", after, s.net, s.cfg.colour)
	r := report{Policy: s.cfg.policy, Faults: faults, Common: s.common, Changed: outcome.Changed(before, after),
		Before: reportGuards(before), After: reportGuards(after), Status: raw,
		Coordinator: coordinator{Epoch: status.Epoch, Term: status.Term}}
	s.seconds["work"] = int(time.Since(started).Seconds())
	sight, seen := status.FirstSight(s.common)
	if !seen {
		r.Faults = append(r.Faults, "guardring status does not tell when it first saw the conflict")
	}
	r.Cost = s.sum(before, after, sight)
	r.Cost.Doorbells = status.Doorbells
	r.OK = len(r.Faults) == 0
	s.printCost(r)
	if s.vm != nil {
		err = s.printInterrupts(ctx)
	}
	return r, err
}

// startGuardring starts what has not been started with the gateways: VMs need the server before they start.
func (s *stage) startGuardring(ctx context.Context) error {
	if s.vm != nil {
		return errors.Join(s.vm.startAgents(ctx), s.vm.host.StartCoordinator(ctx))
	}
	if _, err := s.rig.StartHost(ctx); err != nil {
		return err
	}
	for _, g := range s.rig.Gateways {
		if _, err := g.StartGuest(); err != nil {
			return err
		}
	}
	return nil
}

// await looks at the Tors until the judge has found nothing wrong for as long as settled, or ctx ends; then it returns the last faults.
func (s *stage) await(ctx context.Context, before outcome.Snapshot, judge func(before, after outcome.Snapshot, rivals []string, common string) []string,
	settled time.Duration) (outcome.Snapshot, []string, error) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	var rightSince, said time.Time
	for {
		after := outcome.Snapshot{}
		for _, name := range gatewayNames {
			v, err := oracle.Look(s.clients[name])
			if err != nil {
				return nil, nil, err
			}
			after[name] = v
		}
		faults := judge(before, after, s.rivals, s.common)
		if s.cfg.policy == "observe" {
			faults = append(faults, s.unreported(ctx)...)
		}
		switch {
		case len(faults) > 0:
			rightSince = time.Time{}
		case rightSince.IsZero():
			rightSince = time.Now()
		case time.Since(rightSince) >= settled:
			return after, nil, nil
		}
		if time.Since(said) > 5*time.Second {
			said = time.Now()
			if len(faults) > 0 {
				s.say("  waiting: %s%s", faults[0], more(faults))
			} else {
				s.say("  as it should be; watching whether it stays so for %v", settled)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if len(faults) == 0 {
				return nil, nil, fmt.Errorf("not settled: %w", ctx.Err())
			}
			return after, faults, nil
		}
	}
}

func more(faults []string) string {
	if len(faults) < 2 {
		return ""
	}
	return fmt.Sprintf(" (and %d more)", len(faults)-1)
}

// unreported is a fault while guardring's status does not name the conflict.
func (s *stage) unreported(ctx context.Context) []string {
	status, _, err := s.rig.Status(ctx)
	if err != nil {
		return []string{err.Error()}
	}
	if _, ok := status.FirstSight(s.common); !ok {
		return []string{"guardring status does not report the conflict yet"}
	}
	return nil
}

// sum adds up what it cost. Circuits are counted by the moved gateways' Tors.
func (s *stage) sum(before, after outcome.Snapshot, sight time.Time) cost {
	c := cost{GuardsChanged: outcome.Lost(before, after)}
	for _, name := range outcome.Changed(before, after) {
		ended, last, left := s.witness[name].Since(sight)
		c.CircuitsClosed += ended
		if ended > 0 && left == 0 {
			c.FirstSightToGone = max(c.FirstSightToGone, last.Sub(sight).Milliseconds())
		}
	}
	for _, t := range s.traffic {
		done, failed, _ := t.Counts()
		c.Requests += done
		c.RequestsFailed += failed
	}
	return c
}

func (s *stage) printCost(r report) {
	fmt.Printf("cost: %s changed, %s closed, %d ms from first sight to the last circuit gone,\n"+
		"      %s rung, %d of %s failed meanwhile; coordinator term %d\n", count(r.Cost.GuardsChanged, "guard"),
		count(r.Cost.CircuitsClosed, "circuit"), r.Cost.FirstSightToGone, count(int(r.Cost.Doorbells), "doorbell"),
		r.Cost.RequestsFailed, count(r.Cost.Requests, "request"), r.Coordinator.Term)
}

// count writes a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// hold says what to look at, and waits for Ctrl-C.
func (s *stage) hold(ctx context.Context) {
	fmt.Printf("\nEverything keeps running until Ctrl-C. To look at it, from another terminal:\n\n")
	fmt.Printf("  %s status --config %s --watch\n", s.rig.Host, s.rig.ConfigFile())
	fmt.Printf("  %s explain --config %s browsing\n", s.rig.Host, s.rig.ConfigFile())
	if s.vm != nil {
		fmt.Printf("  tail -f %s\n", strings.Join(s.vm.logs(), " "))
	} else {
		for _, g := range s.rig.Gateways {
			fmt.Printf("  %s status --config %s\n", s.rig.Guest, g.ConfigFile())
		}
	}
	for _, name := range gatewayNames {
		fmt.Printf("  less %s    # what Tor says of its guards\n", s.clients[name].GuardLog())
	}
	fmt.Println()
	<-ctx.Done()
}

// stop ends everything, in the order of dependence.
func (s *stage) stop() error {
	var errs []error
	for _, w := range s.witness {
		w.Close()
	}
	switch {
	case s.vm != nil:
		errs = append(errs, s.vm.stop())
	case s.rig != nil:
		errs = append(errs, s.rig.Stop())
	}
	if s.echo != nil {
		errs = append(errs, s.echo.Close())
	}
	if s.net != nil {
		errs = append(errs, s.net.Stop())
	}
	return errors.Join(errs...)
}
