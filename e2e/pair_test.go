//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"guardring/e2e/oracle"
	"guardring/e2e/rig"
	"guardring/e2e/tornet"
)

// Names of the two gateways' members: alice is the incumbent, bob the newcomer who must move.
const (
	alice = "alice/default"
	bob   = "bob/default"
)

var serial atomic.Int32

// setup says what is special about a pair.
type setup struct {
	// common is the planted guard that both use; guard 0 if nil.
	common *tornet.Relay
	// bobGuards follow the common one in bob's sample; guards 3 and 4 if nil.
	bobGuards []*tornet.Relay
	// plantA and plantB are all planted guards of each, where they have none in common; common is then alice's first.
	plantA, plantB []*tornet.Relay
	// calm has both use their first planted guard only: the others are primary, and were never used.
	calm bool
	// hostOptions are lines of the host's configuration.
	hostOptions string
	// protection are the host's delay and budgets: at once and unlimited unless given.
	protection string
	// bobHead and bobTail are lines of bob's torrc.
	bobHead, bobTail string
	// bobOptions are lines of bob's agent configuration.
	bobOptions string
	// bobUser is the user that bob's Tor becomes; root's rights are needed. "": ours.
	bobUser string
	// afterJoin may edit bob's torrc between join and Tor's start.
	afterJoin func(torrc string) string
	// noHost leaves the host to the test.
	noHost bool
	// policy is disjoint unless given.
	policy string
	// fdStore has the server use a descriptor store.
	fdStore bool
	// wantBob are bob's primaries before; the planted ones if nil.
	wantBob []*tornet.Relay
}

// pair is two gateways with a planted common guard that both use.
type pair struct {
	t      *testing.T
	rig    *rig.Rig
	common *tornet.Relay
	calm   bool
	a, b   *tornet.Client
	ga, gb *rig.Gateway
	// before is what Tor showed of each before any agent ran.
	beforeA, beforeB oracle.View
	// original is bob's torrc before join.
	original []byte
	// copied says that the test itself makes a clone or a rollback.
	copied bool
	// hups are the reloads that the test itself sent to bob's Tor.
	hups int
}

// newPair starts two Tors and the host, and alice's agent, and waits until the coordinator knows alice's claim. Bob's agent is the
// test's to start. When the test ends everything is stopped, and Tor's logs must show no reload but the test's own.
func newPair(t *testing.T, s setup) *pair {
	t.Helper()
	t.Parallel()
	g := network.Guards
	if s.common == nil {
		s.common = append(slices.Clone(s.plantA), g[0])[0]
	}
	if s.bobGuards == nil {
		s.bobGuards = []*tornet.Relay{g[3], g[4]}
	}
	if s.policy == "" {
		s.policy = "disjoint"
	}
	if s.plantA == nil {
		s.plantA, s.plantB = []*tornet.Relay{s.common, g[1], g[2]}, append([]*tornet.Relay{s.common}, s.bobGuards...)
	}
	aliceTail := ""
	if s.calm {
		aliceTail = noConflux
		s.bobTail += noConflux
	}
	p := &pair{t: t, common: s.common, calm: s.calm}
	var err error
	if p.rig, err = rig.New(hostBinary, guestBinary, s.policy); err != nil {
		t.Fatal(err)
	}
	p.rig.DescriptorStore, p.rig.Options, p.rig.Protection = s.fdStore, s.hostOptions, s.protection
	t.Cleanup(func() { p.close() })
	n := serial.Add(1)
	if p.a, err = network.AddClient(tornet.ClientConfig{Name: fmt.Sprintf("a%d", n), Plant: s.plantA, Tail: aliceTail}); err != nil {
		t.Fatal(err)
	}
	if s.bobUser != "" {
		s.bobHead += "User " + s.bobUser + "\n"
	}
	if p.b, err = network.AddClient(tornet.ClientConfig{Name: fmt.Sprintf("b%d", n), Plant: s.plantB, Head: s.bobHead, Tail: s.bobTail}); err != nil {
		t.Fatal(err)
	}
	if p.ga, err = p.rig.Add("alice", p.a); err != nil {
		t.Fatal(err)
	}
	if p.gb, err = p.rig.Add("bob", p.b); err != nil {
		t.Fatal(err)
	}
	p.gb.Options = s.bobOptions
	if err := p.gb.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	if p.original, err = os.ReadFile(p.b.Torrc()); err != nil {
		t.Fatal(err)
	}
	for _, gw := range []*rig.Gateway{p.ga, p.gb} {
		if _, err := gw.Join(p.ctx(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	if s.afterJoin != nil {
		p.editTorrc(s.afterJoin)
	}
	if s.bobUser != "" {
		giveAway(t, p.b.Dir, s.bobUser)
	}
	wantB := s.plantB
	if s.wantBob != nil {
		wantB = s.wantBob
	}
	var bobErr error
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.beforeB, bobErr = p.boot(p.b, wantB)
	}()
	p.beforeA, err = p.boot(p.a, s.plantA)
	<-done
	if err := errors.Join(err, bobErr); err != nil {
		t.Fatal(err)
	}
	if !s.noHost {
		p.startHost()
		p.startAlice()
	}
	return p
}

func (p *pair) ctx(d time.Duration) context.Context { return deadline(p.t, d) }

// noConflux keeps a Tor to its first primary guard.
const noConflux = "ConfluxEnabled 0\n"

// boot starts a client, makes a request, and waits until it uses the planted guards: if calm, the first of them only.
func (p *pair) boot(c *tornet.Client, planted []*tornet.Relay) (oracle.View, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), 90*time.Second)
	defer cancel()
	if err := c.Bootstrap(ctx); err != nil {
		return oracle.View{}, err
	}
	// The first request may meet a circuit that Tor gives up while it measures how long circuits take.
	for {
		err := request(ctx, c)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return oracle.View{}, err
		}
	}
	want := fingerprints(planted)
	used := want
	if p.calm {
		used = want[:1]
	}
	return oracle.Await(ctx, c, "use of the planted guards", func(v oracle.View) bool {
		if !oracle.AllIn(v.InUse, used) {
			_ = oracle.CloseStrays(c, used) // the next look tells whether they are gone
		}
		return oracle.AllIn(v.InUse, used) && len(v.Primary) >= len(planted) && slices.Equal(v.Primary[:len(planted)], want) &&
			slices.Contains(v.InUse, want[0])
	})
}

func fingerprints(rs []*tornet.Relay) []string {
	var out []string
	for _, r := range rs {
		out = append(out, r.Fingerprint)
	}
	return out
}

func (p *pair) startHost(env ...string) *tornet.Process {
	p.t.Helper()
	proc, err := p.rig.StartHost(p.ctx(20*time.Second), env...)
	if err != nil {
		p.t.Fatal(err)
	}
	return proc
}

func (p *pair) startAlice() *tornet.Process {
	p.t.Helper()
	proc, err := p.ga.StartGuest()
	if err != nil {
		p.t.Fatal(err)
	}
	p.awaitStatus(20*time.Second, "alice's claim", func(s rig.Status) bool { return s.Holds(alice, p.common.Fingerprint) })
	return proc
}

func (p *pair) startBob(env ...string) *tornet.Process {
	p.t.Helper()
	proc, err := p.gb.StartGuest(env...)
	if err != nil {
		p.t.Fatal(err)
	}
	return proc
}

// awaitStatus asks guardring until ok holds. It orders the test's steps and checks what guardring reports; whether Tor is right is
// asked of Tor.
func (p *pair) awaitStatus(d time.Duration, what string, ok func(rig.Status) bool) rig.Status {
	p.t.Helper()
	ctx := p.ctx(d)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var last json.RawMessage
	for {
		s, raw, err := p.rig.Status(ctx)
		if err == nil {
			if ok(s) {
				return s
			}
			last = raw
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			p.t.Fatalf("awaiting %s: %v, last status: %v %s", what, ctx.Err(), err, last)
		}
	}
}

// gone tells whether the guard is given up by every sign that Tor gives.
func gone(v oracle.View, fp string) bool {
	return len(v.Primary) > 0 && !slices.Contains(v.Primary, fp) && len(v.InUse) > 0 && !slices.Contains(v.InUse, fp)
}

// awaitApart waits until bob's Tor has given the common guard up, and checks that nothing else of bob or alice has changed.
func (p *pair) awaitApart(d time.Duration) {
	p.t.Helper()
	stop := keepBusy(p.t, p.b)
	defer stop()
	v, err := oracle.Await(p.ctx(d), p.b, "the common guard given up", func(v oracle.View) bool {
		return gone(v, p.common.Fingerprint) && len(v.Primary) >= len(p.beforeB.Primary)
	})
	if err != nil {
		p.t.Fatal(err)
	}
	if want := without(p.beforeB.Primary, p.common.Fingerprint); !slices.Equal(v.Primary[:len(want)], want) {
		p.t.Errorf("bob's other primary guards are %v, before %v", v.Primary, want)
	}
	p.checkAlice()
	va, err := oracle.Look(p.a)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, fp := range append(v.InUse, v.Primary...) {
		if slices.Contains(va.Primary, fp) || slices.Contains(va.InUse, fp) {
			p.t.Errorf("bob and alice both hold %s", network.GuardByFingerprint(fp).Name)
		}
	}
}

// checkAlice checks that alice's Tor is as it was.
func (p *pair) checkAlice() {
	p.t.Helper()
	v, err := oracle.Look(p.a)
	if err != nil {
		p.t.Fatal(err)
	}
	if !slices.Equal(v.Primary, p.beforeA.Primary) {
		p.t.Errorf("alice's primary guards are %v, before %v", v.Primary, p.beforeA.Primary)
	}
	conf, err := p.a.Control().Conf("ReachableORAddresses")
	if err != nil {
		p.t.Fatal(err)
	}
	if slices.ContainsFunc(conf, func(l string) bool { return strings.Contains(l, p.common.Address) }) {
		p.t.Errorf("alice rejects the common guard: %v", conf)
	}
}

// staysApart watches bob's Tor for as long as d: the guard must not come back for a moment. In-use is asked with new requests going on.
func (p *pair) staysApart(d time.Duration) {
	p.t.Helper()
	stop := keepBusy(p.t, p.b)
	defer stop()
	p.watch(d, func(v oracle.View) error {
		if slices.Contains(v.InUse, p.common.Fingerprint) || slices.Contains(v.Primary, p.common.Fingerprint) {
			return fmt.Errorf("the guard came back: in use %v, primary %v", v.InUse, v.Primary)
		}
		return nil
	})
}

// staysTogether watches that bob keeps the common guard and is connected.
func (p *pair) staysTogether(d time.Duration) {
	p.t.Helper()
	stop := keepBusy(p.t, p.b)
	defer stop()
	p.watch(d, func(v oracle.View) error {
		if !slices.Equal(v.Primary, p.beforeB.Primary) {
			return fmt.Errorf("bob's primary guards changed to %v", v.Primary)
		}
		return nil
	})
	p.connected()
	p.checkAlice()
}

// watch looks at bob's Tor several times a second for as long as d. The time is the test: nothing may happen in it.
func (p *pair) watch(d time.Duration, check func(oracle.View) error) {
	p.t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); <-tick.C {
		v, err := oracle.Look(p.b)
		if err == nil {
			err = check(v)
		}
		if err != nil {
			p.t.Fatal(err)
		}
	}
}

// connected checks that bob's Tor carries requests.
func (p *pair) connected() {
	p.t.Helper()
	if err := request(p.ctx(30*time.Second), p.b); err != nil {
		p.t.Error(err)
	}
}

func request(ctx context.Context, c *tornet.Client) error {
	conn, err := c.Dial(ctx, echo.Addr(), fmt.Sprintf("r%d", serial.Add(1)))
	if err != nil {
		return err
	}
	defer conn.Close()
	return tornet.Ping(conn)
}

// keepBusy makes a request each second with a circuit of its own, as a user would, until stop is called.
func keepBusy(t *testing.T, c *tornet.Client) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			_ = request(ctx, c) // a circuit may be cut while it is being moved
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { cancel(); <-done }
}

func without(in []string, s string) []string {
	var out []string
	for _, x := range in {
		if x != s {
			out = append(out, x)
		}
	}
	return out
}

// editTorrc changes bob's torrc on disk.
func (p *pair) editTorrc(edit func(string) string) {
	p.t.Helper()
	b, err := os.ReadFile(p.b.Torrc())
	if err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(p.b.Torrc(), []byte(edit(string(b))), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

const reloadLine = "Received reload signal"

// hup reloads bob's Tor as logrotate does, and waits until it has read its configuration.
func (p *pair) hup() {
	p.t.Helper()
	ev, cancel := p.b.Control().Events()
	defer cancel()
	if _, err := p.b.Control().Do("SETEVENTS SIGNAL NOTICE"); err != nil {
		p.t.Fatal(err)
	}
	p.hups++
	if err := p.b.HUP(); err != nil {
		p.t.Fatal(err)
	}
	ctx := p.ctx(10 * time.Second)
	for {
		select {
		case e, ok := <-ev:
			if !ok {
				p.t.Fatalf("bob's Tor ended at HUP")
			}
			if strings.Contains(e, "SIGNAL RELOAD") {
				return
			}
		case <-ctx.Done():
			p.t.Fatal("bob's Tor does not react to HUP")
		}
	}
}

// copyNotice is how the host's log names a clone or a rollback.
var copyNotice = regexp.MustCompile(`msg="(clone|rollback) .*`)

// close stops everything of the pair. On failure the logs of the agents are shown.
func (p *pair) close() {
	for c, want := range map[*tornet.Client]int{p.a: 0, p.b: p.hups} {
		if c == nil {
			continue
		}
		log, err := c.Log()
		if got := strings.Count(log, reloadLine); err != nil || got != want {
			p.t.Errorf("%s was reloaded %d times, the test did so %d times: somebody sent RELOAD (%v)", c.Name, got, want, err)
		}
	}
	if !p.copied {
		if m := copyNotice.FindString(p.rig.Log("host")); m != "" {
			p.t.Errorf("the host takes somebody for a copy, and nobody is one: %s", m)
		}
	}
	if p.t.Failed() {
		for _, name := range []string{"host", "alice", "bob"} {
			p.t.Logf("%s says:\n%s", name, p.rig.LogEnd(name))
		}
		if p.b != nil {
			log, _ := p.b.Log()
			p.t.Logf("bob's Tor says:\n%s", log[max(0, len(log)-2000):])
		}
	}
	if err := p.rig.Stop(); err != nil {
		p.t.Error(err)
	}
	for _, c := range []*tornet.Client{p.a, p.b} {
		if c != nil {
			if err := network.RemoveClient(c); err != nil {
				p.t.Error(err)
			}
		}
	}
}
