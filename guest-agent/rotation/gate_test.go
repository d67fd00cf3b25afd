package rotation

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// gatedRun is a new member's way through the gate, up to a kill.
type gatedRun struct {
	a       *agent
	seq     int
	effects int
	kill    int // the effect that is not done any more; -1: none
	opened  bool
	clear   bool // the host's order is in force when streams go
}

// watch counts effects, kills, and begins a user's streams right after the option was
// set for the first time.
func (r *gatedRun) watch() {
	r.a.stop = func(act Action) bool {
		if _, ok := act.(AttachStream); ok && r.clear && r.a.tor.filtered(guard(0)) {
			panic("a stream is let go before the order is in force")
		}
		r.effects++
		return r.effects-1 == r.kill
	}
}

// host answers what is gated, as the coordinator does once per incarnation.
func (r *gatedRun) host() {
	if l := r.a.last; l != nil && l.Flags&shmproto.MemberGated != 0 {
		if !r.opened && slices.Equal(r.a.tor.values(optionGate), []string{"1"}) {
			r.opened = true
			r.a.step(r.a.tor.open("s1")...)
			r.a.step(r.a.tor.open("s2")...)
		}
		r.seq++
		r.a.answer(r.seq, guard(0))
	}
}

// TestGateKilledAtEachEffect kills the agent before each command and file write on its
// way through the gate, also when it leaves; Tor may be restarted or get a HUP meanwhile.
// The next one goes on: what waited is let go, after the order is in force, and the
// option is Tor's again.
func TestGateKilledAtEachEffect(t *testing.T) {
	for _, mode := range []GateMode{GateOpen, GateClosed} {
		for _, between := range []string{"nothing", "hup", "restart"} {
			for _, leave := range []bool{false, true} {
				for kill := 0; ; kill++ {
					name := fmt.Sprintf("mode=%d/%s/leave=%t/kill=%d", mode, between, leave, kill)
					f := newFakeTor(8)
					f.conf[guard(0)], f.conf[guard(1)] = true, true
					r := &gatedRun{a: newAgent(f, Config{Gate: mode}), kill: kill, clear: !leave}
					finish := func() {
						if leave {
							if l := r.a.last; l != nil && !r.opened && slices.Equal(f.values(optionGate), []string{"1"}) {
								r.opened = true
								r.a.step(f.open("s1")...)
							}
							r.a.step(Leave{})
							r.a.sleep(3 * time.Second)
							return
						}
						r.host()
					}
					r.watch()
					r.a.up()
					finish()
					if dead := r.a.dead; dead {
						b := newAgent(f, r.a.cfg)
						b.now = r.a.now.Add(time.Second)
						switch between {
						case "hup":
							f.hup()
						case "restart":
							f.hup()
							clear(f.streams)
							clear(f.circ)
						}
						r.a, r.kill = b, -1
						r.watch()
						r.a.up()
						finish()
						if !leave && r.a.last.Receipt.Status != shmproto.ReceiptApplied { // passed before the order came
							r.seq++
							r.a.answer(r.seq, guard(0))
						}
					} else if r.effects <= kill { // nothing was left to kill
						if kill < 4 {
							t.Errorf("%s: only %d effects", name, r.effects)
						}
						break
					}
					checkGateEnd(t, name, r, leave)
				}
			}
		}
	}
}

func checkGateEnd(t *testing.T, name string, r *gatedRun, leave bool) {
	t.Helper()
	f := r.a.tor
	fail := func(format string, args ...any) {
		t.Errorf("%s: %s\n%s", name, fmt.Sprintf(format, args...), named(strings.Join(r.a.log, "\n")))
	}
	if v := f.values(optionGate); len(v) != 0 && v[0] == "1" {
		fail("Tor still leaves streams unattached")
	}
	for id, c := range f.streams {
		if c == "" {
			fail("stream %s waits for ever", id)
		}
		if !leave && f.went[id] == guard(0) {
			fail("stream %s went through the excluded guard", id)
		}
	}
	note := parseGate(f.include.Text)
	if leave {
		if note.state != noteNone || f.include.Text != EmptyInclude() && f.include.Text != "" {
			fail("leaving left a file behind: %q", f.include.Text)
		}
		return
	}
	if note.state != notePassed || f.filtered(guard(0)) {
		fail("note %v, excluded guard passes the filter: %t", note, f.filtered(guard(0)))
	}
	if r.a.last.Flags&shmproto.MemberGated != 0 {
		fail("still published as gated")
	}
}

// TestGateLimitOutlivesTheAgent: an agent that is started again and again does not
// hold the streams for longer than the limit; a clock that jumps does not, either.
func TestGateLimitOutlivesTheAgent(t *testing.T) {
	for _, jump := range []time.Duration{20 * time.Second, -time.Hour, time.Hour} {
		f := newFakeTor(8)
		a := newAgent(f, Config{Gate: GateOpen})
		a.up()
		a.step(f.open("s1")...)
		waited := 2 * time.Second
		for i := 0; f.streams["s1"] == ""; i++ {
			if waited > 3*time.Minute {
				t.Fatalf("jump %s: the stream waits after %s", jump, waited)
			}
			b := newAgent(f, a.cfg)
			b.now = a.now
			if i == 0 {
				b.now = b.now.Add(jump)
			}
			a = b
			a.up()
			a.sleep(18 * time.Second)
			waited += 20 * time.Second
		}
		if jump == 20*time.Second && waited > 100*time.Second {
			t.Errorf("the stream waited %s", waited)
		}
	}
}

// TestGateWaitsForTor: a Tor without a consensus has no guards to answer for. The limit
// counts from when it has; and its selection is known before its state file is written.
func TestGateWaitsForTor(t *testing.T) {
	f := newFakeTor(8)
	sample := f.sample
	f.sample = nil
	a := newAgent(f, Config{Gate: GateOpen})
	a.up()
	a.step(f.open("s1")...)
	a.sleep(10 * time.Minute)
	if g := a.m.Gate(); g.State != "closed" || !strings.Contains(g.Why, "not chosen its guards") {
		t.Errorf("gate %+v of a Tor without guards", g)
	}
	f.sample = sample
	a.step(GuardChanged{Fingerprint: sample[0], Status: "NEW"})
	a.sleep(5 * time.Second)
	if a.last.Selection != shmproto.SelectionDefault || a.last.Flags&shmproto.MemberGated == 0 {
		t.Errorf("published selection %d, flags %#x", a.last.Selection, a.last.Flags)
	}
	a.sleep(80 * time.Second)
	if g := a.m.Gate(); g.State != "closed" {
		t.Errorf("gate %+v before the limit", g)
	}
	a.sleep(10 * time.Second)
	if g := a.m.Gate(); g.State != "open" || g.LetGo != 1 {
		t.Errorf("gate %+v after the limit", g)
	}
}

// TestDirectoryStreamsAreNotOurs: Tor attaches its own streams itself.
func TestDirectoryStreamsAreNotOurs(t *testing.T) {
	f := newFakeTor(8)
	a := newAgent(f, Config{Gate: GateOpen})
	a.up()
	a.step(StreamChanged{Stream: guardstate.Stream{ID: "d", Status: "NEW", Purpose: "DIR_FETCH"}})
	if g := a.m.Gate(); g.State != "closed" || g.Waiting != 0 {
		t.Errorf("gate %+v: a directory fetch does not wait", g)
	}
	a.step(StreamChanged{Stream: guardstate.Stream{ID: "d", Status: "SENTCONNECT", Circuit: "7"}})
	if g := a.m.Gate(); g.State != "closed" {
		t.Errorf("gate %+v: Tor attached its own stream, no other controller did", g)
	}
}

// FuzzGateNote: whatever stands in the file, a note that is written reads back, and
// nothing else in the file changes.
func FuzzGateNote(f *testing.F) {
	f.Add(EmptyInclude()+gateWord+"closed since=2026-11-21T12:00:00Z\nReachableORAddresses accept *:*\n", uint8(2))
	f.Add(gateWord+"\n", uint8(0))
	f.Fuzz(func(t *testing.T, text string, state uint8) {
		parseGate(text)
		n := gateNote{state: noteState(state % 4)}
		switch n.state {
		case noteClosed:
			n.since = time.Date(2026, 11, 21, 12, 0, int(state), 0, time.UTC)
		case noteOpening, notePassed:
			n.why = whyLimit
		}
		again := withGate(text, n)
		if got := parseGate(again); got != n {
			t.Fatalf("%+v reads back as %+v", n, got)
		}
		others := func(text string) (out []string) {
			for line := range strings.Lines(text) {
				if !strings.HasPrefix(line, gateWord) {
					out = append(out, line)
				}
			}
			return out
		}
		if text != "" && !slices.Equal(others(text), others(again)) {
			t.Fatalf("%q became %q", text, again)
		}
	})
}

// TestGateStopKilledAtEachEffect: the agent is stopped while the gate is closed, and
// killed at each effect on its way out. Either it has let everything go, or its
// successor does.
func TestGateStopKilledAtEachEffect(t *testing.T) {
	for kill := 0; ; kill++ {
		f := newFakeTor(8)
		a := newAgent(f, Config{Gate: GateOpen})
		a.up()
		a.step(f.open("s1")...)
		a.step(f.open("s2")...)
		effects := 0
		a.stop = func(Action) bool { effects++; return effects-1 == kill }
		a.step(Stop{})
		if a.dead {
			b := newAgent(f, a.cfg)
			b.now = a.now.Add(time.Second)
			b.up()
			b.step(Stop{})
			a = b
		} else if effects <= kill {
			if kill < 3 {
				t.Errorf("only %d effects", effects)
			}
			break
		}
		if v := f.values(optionGate); a.m.Ending() || len(v) > 0 || f.streams["s1"] == "" || f.streams["s2"] == "" {
			t.Errorf("killed at %d: ending %t, option %v, streams %v\n%s", kill, a.m.Ending(), v, f.streams, strings.Join(a.log, "\n"))
		}
		if n := parseGate(f.include.Text); n.state != noteClosed {
			t.Errorf("killed at %d: note %v: the next start must close the gate again", kill, n)
		}
	}
}

// TestOpeningGateHasItsLimit: status asks whether it has passed until the gate is open.
func TestOpeningGateHasItsLimit(t *testing.T) {
	limit := time.Unix(90, 0)
	m := &Machine{gate: gate{phase: gateOpening, why: whyAnswered, deadline: limit}}
	if g := m.Gate(); g.State != "opening" || !g.Deadline.Equal(limit) {
		t.Errorf("it is %q with the limit %v", g.State, g.Deadline)
	}
}
