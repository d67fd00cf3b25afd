//go:build e2e

package failover

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"guardring/e2e/rig"
	"guardring/e2e/tornet"
	"guardring/shmproto"
)

// pulse is the heartbeat in the scenarios: long enough that whoever watches it does not miss one on a busy machine.
const pulse = 400 * time.Millisecond

// mostBeats is within how many heartbeats a coordinator is replaced (docs/DESIGN.md).
const mostBeats = 3

// stage is a scene with a coordinator that acts, to which something happens, and one that stands by.
type stage struct {
	*scene
	victim, standby *tornet.Process
	term            shmproto.Term // the victim's
	struck          time.Time
	neighbours      []*tornet.Process // of a starved victim
}

// scenario is one way in which a coordinator stops.
type scenario struct {
	name string
	// step is where the victim is killed, or stopped, in the middle of an order.
	step          string
	kills         bool
	previousBuild bool
	// strike does it to a victim without a step, and returns when it is done.
	strike func(s *stage)
	// heal has the victim go on, if it is still there.
	heal func(s *stage)
	// fades: the victim's last sign of life is the beginning, for nobody can say when it stopped.
	fades bool
	// anew: whoever takes over was not there when it happened.
	anew bool
	// late is how many late writes there must be, or the scenario shows nothing.
	late int
}

func scenarios() []scenario {
	all := []scenario{
		{name: "killed", strike: func(s *stage) { s.signal(s.victim, syscall.SIGKILL) }},
		{name: "asked to end", strike: func(s *stage) { s.signal(s.victim, syscall.SIGTERM) }},
		{name: "stopped and continued", strike: func(s *stage) { s.signal(s.victim, syscall.SIGSTOP) }, heal: goOn},
		{name: "starved", strike: starve, heal: feed, fades: true},
		{name: "both killed, two started at once", strike: twoAtOnce, anew: true},
		{name: "upgraded", previousBuild: true, strike: func(s *stage) { s.signal(s.victim, syscall.SIGTERM) }},
		{name: "an older build killed", previousBuild: true, strike: func(s *stage) { s.signal(s.victim, syscall.SIGKILL) }},
	}
	for _, step := range steps {
		all = append(all, scenario{name: "killed at " + step, step: step, kills: true}, scenario{name: "stopped at " + step, step: step, heal: goOn})
		if step == "order-due" {
			all[len(all)-1].late = 1
		}
	}
	return all
}

func goOn(s *stage) { s.t.Helper(); s.signal(s.victim, syscall.SIGCONT) }

// twoAtOnce kills both, and starts two others at the same moment.
func twoAtOnce(s *stage) {
	s.t.Helper()
	s.signal(s.victim, syscall.SIGKILL)
	s.signal(s.standby, syscall.SIGKILL)
	s.victim, s.standby = s.coordinate(s.rig.Host), s.coordinate(s.rig.Host)
}

func (s *stage) signal(p *tornet.Process, sig syscall.Signal) {
	s.t.Helper()
	if err := p.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
	if sig == syscall.SIGKILL || sig == syscall.SIGTERM {
		<-p.Done()
	}
}

// TestReplaced: in whatever way a coordinator stops, the other one acts within three heartbeats, a question that is asked meanwhile gets
// its answer, the one who was first keeps its guard, and nothing that the old one does later has an effect.
func TestReplaced(t *testing.T) {
	for _, c := range scenarios() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			replace(t, c)
		})
	}
}

func replace(t *testing.T, c scenario) {
	s := &stage{scene: newScene(t, hostBinary, pulse, 3)}
	first, second, third := s.players[0], s.players[1], s.players[2]
	s.begin(c)

	// The second gateway wants what the first one has: by that question a victim with a step stops, and the others are stopped before it.
	s.struck = time.Now()
	if c.strike != nil {
		c.strike(s)
	}
	must(t, errors.Join(second.ask(0), second.answered()))
	// What it was told may still be the victim's word. Its successor says it again.
	o, err := second.await("of a newer term", func(o *shmproto.Order) bool { return o.Term > s.term })
	must(t, err)
	answered := time.Since(s.struck)
	must(t, second.obey(o))
	if c.kills && s.victim.Running() {
		t.Errorf("nobody was killed at %s", c.step)
	}
	if len(second.held) > 0 {
		t.Errorf("%s keeps guard 0, although %s was first", second.name, first.name)
	}
	beats, acted := s.replaced(c)
	t.Logf("figures: %s: replaced within %.0f of its successor's heartbeats (%v, of %v each), its order after %v", c.name, beats, acted.Round(time.Millisecond), pulse, answered.Round(time.Millisecond))
	if beats > mostBeats {
		t.Errorf("replaced after %.0f heartbeats, want %d at most", beats, mostBeats)
	}

	// The victim goes on, and stands by. Nobody is told anything by that.
	if c.heal != nil {
		c.heal(s)
		s.await("the former coordinator stands by", func(st rig.Status) bool { return role(st, s.victim) == "standby" && role(st, s.standby) == "acting" })
	}
	must(t, errors.Join(first.hold(pulse), second.hold(pulse)))
	must(t, errors.Join(third.ask(0, 3), third.answered()))
	if third.held[0] || !third.held[3] {
		t.Errorf("%s keeps %v, want guard 3 and not guard 0, which %s has", third.name, third.held, first.name)
	}
	w := s.watch
	s.endWatch()
	counts := s.account(w, s.obeyed())
	t.Logf("figures: %s: %s", c.name, counts)
	if counts.late < c.late {
		t.Errorf("%d late writes, want %d: this shows nothing", counts.late, c.late)
	}
	if err := s.judge(); err != nil {
		t.Error(err)
	}
}

// obeyed waits until status says of everybody who was told anything that the last order is applied.
func (s *stage) obeyed() rig.Status {
	s.t.Helper()
	return s.await("every last order is applied", func(st rig.Status) bool {
		all := st.Acting()
		for _, p := range s.players {
			must(s.t, p.hold(watching))
			m := st.Member(p.name + "/default")
			if n := len(p.accepted); n > 0 {
				all = all && m.Order.Seq == uint64(p.accepted[n-1].Seq) && m.Receipt.Status == "applied"
			}
		}
		return all
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func role(st rig.Status, p *tornet.Process) string {
	for _, c := range st.Coordinators {
		if c.PID == p.PID() {
			return c.Role
		}
	}
	return ""
}

// begin has the victim act, the other one stand by, and the first gateway hold guard 0.
func (s *stage) begin(c scenario) {
	s.t.Helper()
	build := s.rig.Host
	if c.previousBuild {
		build = previousBuild(s.t)
	}
	s.victim = s.coordinate(build)
	s.await("it acts", rig.Status.Acting)
	must(s.t, s.players[0].claim(s.scene, 0))
	if c.step != "" {
		// Only now, for it would stop in the first order.
		signal := "GUARDRING_STOP_AT="
		if c.kills {
			signal = "GUARDRING_KILL_AT="
		}
		s.signal(s.victim, syscall.SIGTERM)
		s.victim = s.coordinate(build, signal+c.step)
	} else {
		// An order that stands is written anew by whoever takes over.
		must(s.t, errors.Join(s.players[1].ask(1), s.players[1].answered()))
	}
	s.await("the victim acts", func(st rig.Status) bool { return role(st, s.victim) == "acting" })
	s.standby = s.coordinate(s.rig.Host)
	st := s.await("the other one stands by", func(st rig.Status) bool { return role(st, s.standby) == "standby" })
	s.term = shmproto.Term(st.Term)
	for end := time.Now().Add(patience); !s.beating(); time.Sleep(watching) {
		if time.Now().After(end) {
			s.t.Fatal("the one who stands by has no heartbeat")
		}
	}
}

// beating: the victim's lease and the other one's have been seen to change.
func (s *stage) beating() bool {
	acting, standing := 0, 0
	for _, b := range s.watch.seen() {
		switch {
		case b.Acting && b.Term == s.term:
			acting++
		case !b.Acting && acting > 0:
			standing++
		}
	}
	return acting > 1 && standing > 1
}

// replaced says how many heartbeats its successor lived through from the fault until it acted, and how long that was. They are counted by
// the number in the lease, so none is missed by whoever looks too seldom; the successor's own clock runs as slowly as the machine does.
func (s *stage) replaced(c scenario) (beats float64, took time.Duration) {
	s.t.Helper()
	var seen []beat
	at := -1
	for end := time.Now().Add(patience); at < 0; time.Sleep(watching) { // the gateway may have been faster than who watches
		if time.Now().After(end) {
			s.t.Fatalf("no lease of a newer term than %d was seen", s.term)
		}
		seen = s.watch.seen()
		at = slices.IndexFunc(seen, func(b beat) bool { return b.Acting && b.Term > s.term })
	}
	next, since := seen[at], s.struck
	if c.fades {
		for _, b := range seen[:at] {
			if b.Acting && b.Term == s.term {
				since = b.at
			}
		}
	}
	from := next.Heartbeat - 1 // the claim itself counts one
	for _, b := range seen[:at] {
		old := !b.at.After(since)
		if b.seat != next.seat || c.anew && old {
			continue
		}
		if old || c.anew {
			from = b.Heartbeat
		}
		if c.anew {
			break
		}
	}
	return float64(next.Heartbeat - 1 - from), next.at.Sub(since)
}

// claim shows guards as its own with an open join gate, so that no order answers it, and waits until status has them.
func (p *player) claim(s *scene, guards ...int) error {
	p.open = true
	defer func() { p.open = false }()
	if err := p.ask(guards...); err != nil {
		return err
	}
	s.await(p.name+" holds its guards", func(st rig.Status) bool {
		for _, g := range guards {
			if !st.Holds(p.name+"/default", p.guard(g).Fingerprint) {
				return false
			}
		}
		return true
	})
	if o, err := p.look(); err != nil || o != nil {
		return fmt.Errorf("%s has the order %v, %w, although nobody had asked before", p.name, o, err)
	}
	p.settle(nil)
	return nil
}
