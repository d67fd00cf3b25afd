//go:build e2e

package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"guardring/e2e/oracle"
	"guardring/e2e/outcome"
	"guardring/e2e/rig"
	"guardring/e2e/tornet"
	"guardring/e2e/vmtest/gateway"
)

// names are the gateways of a scene. The first two are planted with a common guard, the third shares nothing.
var names = []string{"updates", "browsing", "apps"}

// scene is a host with three gateway VMs whose users make requests.
type scene struct {
	t        *testing.T
	host     *gateway.Host
	gateways map[string]*gateway.Gateway
	traffic  map[string]*outcome.Traffic
	planted  map[string][]string
	common   string
	before   outcome.Snapshot
	stop     context.CancelFunc
}

// setting is what a scene's gateways have of their own.
type setting struct {
	// machine says what kind of machine a gateway is, beyond q35 with an IOMMU.
	machine func(*gateway.Config)
	way     string // what its agent must choose: vfio or poll
}

var (
	byVFIO    = setting{func(*gateway.Config) {}, "vfio"}
	byPolling = setting{func(c *gateway.Config) { c.NoIOMMU = true }, "poll"}
	onOldPC   = setting{func(c *gateway.Config) { c.NoIOMMU, c.Machine = true, "pc" }, "poll"}
)

// open boots the scene and waits until the duplicate is in use by both. No agent and no coordinator runs yet.
func open(t *testing.T, settings map[string]setting) *scene {
	t.Helper()
	host, err := gateway.NewHost(hostBinary, guestBinary, "disjoint", names...)
	if err != nil {
		t.Fatal(err)
	}
	return openOn(t, settings, host)
}

// openOn is open on a host whose server does not run yet.
func openOn(t *testing.T, settings map[string]setting, host *gateway.Host) *scene {
	t.Helper()
	if err := startNetwork(); err != nil {
		t.Fatalf("private Tor network: %v", err)
	}
	began := time.Now()
	g := network.Guards
	plant := map[string][]*tornet.Relay{"updates": {g[0], g[1], g[2]}, "browsing": {g[0], g[3], g[4]}, "apps": {g[5], g[6], g[7]}}
	s := &scene{t: t, host: host, gateways: map[string]*gateway.Gateway{}, traffic: map[string]*outcome.Traffic{}, planted: map[string][]string{},
		common: g[0].Fingerprint, before: outcome.Snapshot{}}
	t.Cleanup(s.close)
	ctx := s.ctx(3 * time.Minute)
	if err := s.host.StartServer(ctx); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	booted := make([]*gateway.Gateway, len(names))
	errs := make([]error, len(names))
	for i, name := range names {
		for _, r := range plant[name] {
			s.planted[name] = append(s.planted[name], r.Fingerprint)
		}
		cfg := gateway.Config{Name: name, Number: i, Network: network, Plant: plant[name], Region: s.host.Region(name), Agent: guestBinary,
			Options: "join-gate: off\n"}
		settings[name].machine(&cfg)
		wg.Go(func() { booted[i], errs[i] = gateway.Boot(ctx, kit, cfg) })
	}
	wg.Wait()
	for i, name := range names {
		if booted[i] != nil {
			s.gateways[name] = booted[i]
		}
	}
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	users, stop := context.WithCancel(t.Context())
	s.stop = stop
	for _, name := range names {
		s.traffic[name] = &outcome.Traffic{}
		go s.traffic[name].Run(users, s.gateways[name].Tor, echo.Addr())
	}
	for _, name := range names {
		s.before[name] = s.awaitPlanted(name)
	}
	t.Logf("three gateways with circuits through their planted guards after %.1f s", time.Since(began).Seconds())
	return s
}

func (s *scene) awaitPlanted(name string) oracle.View {
	s.t.Helper()
	planted, c := s.planted[name], s.gateways[name].Tor
	v, err := oracle.Await(s.ctx(90*time.Second), c, "use of the planted guards", func(v oracle.View) bool {
		done, _, _ := s.traffic[name].Counts()
		if !oracle.AllIn(v.InUse, planted) {
			_ = oracle.CloseStrays(c, planted) // the next look tells whether they are gone
		}
		return done > 0 && slices.Equal(v.Primary, planted) && slices.Contains(v.InUse, planted[0]) && oracle.AllIn(v.InUse, planted) && len(v.Sample) >= 3
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return v
}

// work starts in each gateway the agent, with the commands that a user gives, and then a coordinator: a gateway that joined later
// than the others might lose the guard that another one has just moved to, and rightly so.
func (s *scene) work(settings map[string]setting) {
	s.t.Helper()
	ctx := s.ctx(60 * time.Second)
	var wg sync.WaitGroup
	errs := make([]error, len(names))
	for i, name := range names {
		wg.Go(func() {
			said, err := s.gateways[name].Prepare(ctx)
			s.t.Logf("%s: guardring-guest prepare says: %s", name, last(strings.ReplaceAll(strings.TrimSpace(said), "\n", "; "), 120))
			if err == nil {
				err = s.gateways[name].StartAgent(ctx)
			}
			errs[i] = err
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		s.t.Fatal(err)
	}
	for _, name := range names {
		s.awaitConnected(name)
	}
	if err := s.host.StartCoordinator(ctx); err != nil {
		s.t.Fatal(err)
	}
	s.awaitDisjoint(90 * time.Second)
	for _, name := range names {
		if got := s.agentStatus(name).Region.Device; got != settings[name].way {
			s.t.Errorf("the agent of %s uses %q, not %q", name, got, settings[name].way)
		}
	}
}

// awaitConnected waits until the gateway's agent has taken its place in the region.
func (s *scene) awaitConnected(name string) {
	s.t.Helper()
	ctx := s.ctx(30 * time.Second)
	for {
		out, err := s.gateways[name].Agent(ctx, "status", "--json")
		if err == nil && strings.Contains(out, `"connected": true`) {
			return
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			s.t.Fatalf("the agent of %s does not connect: %v: %s", name, err, out)
		}
	}
}

// settled is how long the outcome must last.
const settled = 4 * time.Second

// awaitDisjoint waits until Tor shows the due change, and nothing else, for some seconds.
func (s *scene) awaitDisjoint(limit time.Duration) outcome.Snapshot {
	s.t.Helper()
	began := time.Now()
	ctx := s.ctx(limit)
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	var since time.Time
	for {
		after, err := s.look()
		if err != nil {
			s.t.Fatal(err)
		}
		faults := outcome.Disjoint(s.before, after, names[:2], s.common)
		switch {
		case len(faults) > 0:
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		case time.Since(since) > settled:
			s.t.Logf("disjoint %.1f s after the start; %v has changed", since.Sub(began).Seconds(), outcome.Changed(s.before, after))
			return after
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.t.Fatalf("not disjoint after %v: %s", limit, strings.Join(faults, "; "))
		}
	}
}

func (s *scene) look() (outcome.Snapshot, error) {
	out := outcome.Snapshot{}
	for _, name := range names {
		v, err := oracle.Look(s.gateways[name].Tor)
		if err != nil {
			return nil, err
		}
		out[name] = v
	}
	return out, nil
}

// agentStatus is what the tests read of `guardring-guest status --json`.
type agentStatus struct {
	Region struct {
		Connected bool   `json:"connected"`
		Device    string `json:"device"`
		Because   string `json:"because"`
		Wakeups   uint64 `json:"poll_wakeups"`
	} `json:"region"`
}

func (s *scene) agentStatus(name string) agentStatus {
	s.t.Helper()
	out, err := s.gateways[name].Agent(s.ctx(20*time.Second), "status", "--json")
	if err != nil {
		s.t.Fatal(err)
	}
	var a agentStatus
	if err := json.Unmarshal([]byte(out), &a); err != nil {
		s.t.Fatalf("status of %s: %v: %s", name, err, out)
	}
	return a
}

func (s *scene) interrupts(name string) int {
	s.t.Helper()
	n, err := s.gateways[name].Interrupts(s.ctx(20 * time.Second))
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

func (s *scene) status() rig.Status {
	s.t.Helper()
	st, _, err := s.host.Status(s.ctx(20 * time.Second))
	if err != nil {
		s.t.Fatal(err)
	}
	return st
}

// patience is how many times longer than a calm machine needs, several times over, a busy one is waited for: limits are there to end what
// hangs, not to judge how fast it is.
const patience = 3

// ctx ends with the test at the latest.
func (s *scene) ctx(limit time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(s.t.Context(), patience*limit)
	s.t.Cleanup(cancel)
	return ctx
}

func (s *scene) close() {
	if s.stop != nil {
		s.stop()
	}
	if s.t.Failed() {
		s.t.Logf("the coordinator says:\n%s", s.host.LogEnd("host"))
		s.t.Logf("the server says:\n%s", s.host.LogEnd("server"))
		for _, name := range names {
			if g := s.gateways[name]; g != nil {
				s.t.Logf("the agent of %s says:\n%s", name, last(g.AgentLog(), 3000))
				s.t.Logf("the console of %s ends with:\n%s", name, last(g.Console(), 1000))
			}
		}
	}
	for _, g := range s.gateways {
		if err := g.Close(); err != nil {
			s.t.Error(err)
		}
	}
	if err := s.host.Stop(); err != nil {
		s.t.Error(err)
	}
}
