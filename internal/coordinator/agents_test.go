package coordinator

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"guardring/guest-agent/rotation"
	"guardring/internal/guardstate"
	"guardring/shmproto"
)

var lives = batchFlags("TestAgents", "lives", 60, "life")

// foundWithAgents are schedules of TestAgents that once showed a fault: of the code, of the
// simulation, or of a rule that was taken out. They are run first.
//
// Found by an earlier form of this simulation, with a schedule that is no more: the judge took
// for a broken promise what a stopped coordinator had lifted late, having seen more than the
// next one.
var foundWithAgents = []uint64{
	// A receipt still said applied when the agent had seen that another controller had
	// changed the option back.
	403,
	// The control connection broke while the file was being written. The join gate, past its
	// limit, was opened before the file was read again, and the note that it was open was
	// written over it: an exclusion was lost.
	2281,
	// A stream waited at a join gate for ever, after a HUP had reset the option and the agent
	// was restarted and left.
	1963,
	// An agent left, and what a stopped coordinator had decided of it before was written late.
	3924,
	// Two shared a guard and nobody was told: the one's Tor had chosen it unseen, as its third
	// primary, and had not used it, and a guess is no claim. Now Tors come to use what they
	// have chosen.
	10184,
	// An agent was restarted, left and came back before a coordinator had read that it had
	// left: it obeyed an order from before that, until it was told so. That is how it must be.
	20555,
}

// TestAgents is TestFailover with the real core of the guest's agent in each gateway, each
// with a modelTor: so publications and orders are those of the two real cores, in real
// regions. Agents are killed and stopped between any two effects, Tors are restarted and
// sent HUP, other controllers meddle, disks are full, packet filters help or refuse, streams
// come to circuits that are about to be closed and wait at join gates, members leave and
// come back, VMs are cloned, relays move, vanish and come; a gateway in four is hostile or
// deaf. What an agent does to its Tor is judged before each command, what it says when it
// says it, what it has left undone whenever it is at rest; at the end, when everybody is
// well, orders are in force in Tor and file, and members that left have left nothing behind.
func TestAgents(t *testing.T) {
	seeds := lives.seeds(foundWithAgents)
	var mu sync.Mutex
	var sum agentTally
	began := time.Now()
	var found atomic.Bool // one worker has failed
	workers := min(runtime.GOMAXPROCS(0), len(seeds))
	t.Run("all", func(t *testing.T) {
		for n := range workers {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				t.Parallel()
				defer func() { found.CompareAndSwap(false, t.Failed()) }()
				r := newRooms(t)
				for i := n; i < len(seeds) && !found.Load(); i += workers {
					w := newAgents(t, seeds[i], r)
					w.run()
					mu.Lock()
					sum.add(w.agents)
					mu.Unlock()
				}
			})
		}
	})
	t.Logf("%d schedules: %+v, %.0f a second", len(seeds), sum, float64(len(seeds))/time.Since(began).Seconds())
	if n := len(seeds); n >= 50 && (sum.Shown < 3*n || sum.Killed < n || sum.Applied < n/4 || sum.Changes < n || sum.Left < n/20 || sum.Cloned < n/20 || sum.Rested < 20*n) {
		t.Errorf("%d schedules hardly did anything: %+v", n, sum)
	}
}

// agentTally counts what happened to agents, so that a simulation that does nothing is
// noticed.
type agentTally struct{ Shown, Killed, Changes, Applied, Left, Cloned, Rested, Merged int }

func (s *agentTally) add(o agentTally) {
	s.Shown, s.Killed, s.Changes, s.Applied = s.Shown+o.Shown, s.Killed+o.Killed, s.Changes+o.Changes, s.Applied+o.Applied
	s.Left, s.Cloned, s.Rested, s.Merged = s.Left+o.Left, s.Cloned+o.Cloned, s.Rested+o.Rested, s.Merged+o.Merged
}

// newAgents is newFailover with real agents.
func newAgents(t *testing.T, seed uint64, r *rooms) *failover {
	w := emptyWorld(t, seed, r, rand.New(rand.NewPCG(seed, 29)))
	w.batch = lives
	w.steps, w.pause = 700, 1200*time.Millisecond
	w.rounds, w.lull = 15, 40*time.Second
	w.net = &network{relays: map[guardstate.Fingerprint]guardstate.Relay{}}
	relays := 16 + w.rng.IntN(12)
	for n := range relays {
		w.net.add(fp(n + 1))
	}
	for i := range 2 + w.rng.IntN(2) {
		g := w.newGate(i)
		if i > 0 && w.rng.IntN(4) == 0 {
			g.mood = []mood{deaf, hostile}[w.rng.IntN(2)]
			g.tor = randomTor(w.rng, g.name, 12, relays)
		} else {
			g.tor = &fakeTor{gateway: g.name, pub: shmproto.Publication{Member: "default", Attachment: 1}}
			g.agent = w.newAgent(g)
		}
		g.start(0)
		w.gates = append(w.gates, g)
	}
	w.start(0)
	w.start(1)
	return w
}

func (w *failover) newAgent(g *gate) *agent {
	t := &modelTor{net: w.net, rng: w.rng, carries: map[guardstate.CircuitID]string{}, told: map[string]bool{}}
	t.include = rotation.Include{Exists: true, Included: true, First: true}
	if w.rng.IntN(3) == 0 {
		t.user = []string{"reject 10.250.0.0/16, accept *:*"}
	}
	t.load()
	t.draw(12)
	t.choose()
	cfg := rotation.Config{Member: "default", Gate: rotation.GateMode(w.rng.IntN(2)), Cut: w.rng.IntN(3) == 0, Enforce: w.rng.IntN(3) == 0}
	return &agent{g: g, tor: t, cfg: cfg}
}

// draw draws a new sample from the relays that are listed.
func (t *modelTor) draw(size int) {
	t.sample = nil
	for _, i := range t.rng.Perm(len(t.net.order)) {
		if f := t.net.order[i]; len(t.sample) < size && t.net.relays[f].Listed {
			t.sample = append(t.sample, sampled{id: f})
		}
	}
}

// churn changes something of a relay.
func (w *failover) churn() {
	f := w.net.order[w.rng.IntN(len(w.net.order))]
	r := w.net.relays[f]
	if w.rng.IntN(2) == 0 {
		r.Listed = !r.Listed
		w.net.relays[f] = r
	} else {
		w.net.move(f, byte(1+w.rng.IntN(200)))
	}
	w.consensus()
}

// consensus has every Tor take in that relays have changed.
func (w *failover) consensus() {
	for _, g := range w.gates {
		if g.agent == nil {
			continue
		}
		t := g.agent.tor
		t.moved++
		t.choose()
		t.say(&t.events, rotation.ConsensusArrived{})
	}
}

// heal ends whatever troubles a gateway, as its operator would.
func (a *agent) heal() {
	g, t := a.g, a.tor
	a.paused, t.failWrite, t.refuses, t.stubborn, t.filterless = 0, false, false, false, false
	if a.excused() || g.w.rng.IntN(2) == 0 { // what was refused is tried again then
		a.disconnect()
	}
	if g.copied && !a.over { // guardring-guest fresh
		t.include.Text = rotation.EmptyInclude()
		for range 12 { // relays that nobody has
			a.g.w.net.add(a.g.w.freshGuard().Fingerprint)
		}
		t.sample, t.primary = nil, nil
		for _, f := range t.net.order[len(t.net.order)-12:] {
			t.sample = append(t.sample, sampled{id: f})
		}
		t.told = map[string]bool{}
		t.restart()
		clear(g.kept)
		g.start(g.writer)
	}
	t.uses()
}

// uses: Tor comes to use what it has chosen, the third primary too, as it does when others
// fail. Until then an agent that has not seen it choose can only guess what is primary, and
// a guess is no claim: two may share such a guard, and nobody can know.
func (t *modelTor) uses() {
	for _, f := range t.primary {
		if !slices.ContainsFunc(t.circ, func(c guardstate.Circuit) bool { return c.Path[0] == f }) {
			t.through(f)
		}
	}
}

// round is what a calm agent does in a while.
func (a *agent) round() {
	g := a.g
	g.ghost = g.commit(g.ghost, len(g.ghost))
	for i := len(a.tor.circ) - 1; i >= 0; i-- { // no stream lasts for ever
		if !a.cfg.Cut && a.tor.carries[a.tor.circ[i].ID] != "" {
			a.tor.end(i)
		}
	}
	if !a.over {
		a.tor.uses()
		a.slow()
		a.drain()
		a.rests()
	}
}

// whole fails the test unless Tor, file and publication are as they must be at the end.
func (a *agent) whole(m *member) {
	g, t := a.g, a.tor
	fail := func(format string, args ...any) {
		g.w.fail("%s at the end: %s\n%s", g.name, fmt.Sprintf(format, args...), a)
	}
	if len(t.waiting) > 0 || t.gated {
		fail("%d streams wait at a gate, which is closed: %t", len(t.waiting), t.gated)
	}
	if a.wants && !a.over {
		fail("leave was never finished")
	}
	if a.over {
		a.gone()
		return
	}
	o, p := g.order, &g.tor.pub
	if m.seq > 0 {
		r := p.Receipt
		if o == nil || r.Seq != o.Seq || r.Term != o.Term || r.Status != shmproto.ReceiptApplied {
			fail("its order is not answered with applied: %+v of %+v", r, o)
		}
	}
	for _, hup := range []bool{false, true} {
		if hup {
			t.hup()
		}
		for _, f := range t.net.order {
			in, r := o != nil && slices.Contains(o.Exclusions, f), t.net.relays[f]
			if user := accepts(policyOf(t.user), r); accepts(t.policy, r) != (user && !in) {
				fail("after HUP %t: a relay may be used: %t, excluded: %t", hup, accepts(t.policy, r), in)
			}
		}
	}
	a.shows()
	if missing := a.missing(&shmproto.Order{Exclusions: excludes(t.include.Text)}); missing != "" {
		fail("%s", missing)
	}
}
