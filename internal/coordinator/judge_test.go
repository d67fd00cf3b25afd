package coordinator

import (
	"errors"
	"strings"
	"testing"
	"time"

	"guardring/shmproto"
)

// judgedDamages are what a faulty core could do, done by hand to a core that is none, and
// what the Judge must say. b has come after a to guard 1 and is told to give it up.
var judgedDamages = []struct {
	name string
	late bool // in the step after that in which b is told
	do   func(c *Coordinator, b *member, r *Ready)
	says string
}{
	{"nothing", false, func(*Coordinator, *member, *Ready) {}, ""},
	{"nothing, later", true, func(*Coordinator, *member, *Ready) {}, ""},
	{"the first one moves", false, func(_ *Coordinator, _ *member, r *Ready) {
		for i := range r.Notices {
			if n := &r.Notices[i]; n.Kind == NoticeExcluded {
				n.Stamp, n.Others = n.Others, n.Stamp
			}
		}
	}, "the incumbent was moved"},
	{"an order that is not durable", false, func(_ *Coordinator, _ *member, r *Ready) { r.Save = nil }, "not what the ledger is told"},
	{"an order of somebody else", false, func(_ *Coordinator, _ *member, r *Ready) { r.Orders[0].Order.Seq++ }, "is not the member's"},
	{"two claims of one age", false, func(c *Coordinator, b *member, _ *Ready) { b.claims[0].stamp.Counter = 1 }, "claim with stamp"},
	{"two members of one age", false, func(c *Coordinator, b *member, _ *Ready) { b.joined = c.members[0].joined }, "have one place"},
	{"both moved", false, func(c *Coordinator, b *member, _ *Ready) {
		c.members[0].exclusions = []Exclusion{{Key: RelayKey(fp(1)), Why: WhyConflict, For: b.name}}
		c.members[0].seq++
	}, "in favour of each other"},
	{"a guard is given back", true, func(_ *Coordinator, b *member, _ *Ready) { b.exclusions, b.seq = nil, b.seq+1 }, "lifted within its hold"},
	{"an order changes its words", true, func(_ *Coordinator, b *member, _ *Ready) { b.exclusions = nil }, "says now what it did not say before"},
	{"orders begin again", true, func(_ *Coordinator, b *member, _ *Ready) { b.seq = 0 }, "comes after order"},
	{"a used guard goes at once", false, func(_ *Coordinator, b *member, _ *Ready) {
		b.claim(RelayKey(fp(1))).used = true
	}, "before its delay was over"},
	{"more claims than are free", false, func(c *Coordinator, b *member, _ *Ready) {
		for n := 11; n <= 16; n++ {
			c.attach(&claim{m: b, key: RelayKey(fp(n)), stamp: c.nextStamp()})
		}
	}, "new claims since"},
	{"more claims than a member may have", false, func(c *Coordinator, b *member, _ *Ready) {
		for n := 11; n <= 16; n++ {
			c.attach(&claim{m: b, key: RelayKey(fp(n)), stamp: c.nextStamp()})
		}
	}, "has 7 claims"},
	{"observe changes an order", true, func(c *Coordinator, b *member, _ *Ready) {
		c.cfg.Policy = PolicyObserve
		b.exclusions, b.seq = nil, b.seq+1
	}, "under the policy observe"},
}

// leadTo has b told to give up guard 1, and calls last for the step that the test is about.
func leadTo(t *testing.T, late bool, step func(h *harness, e Event) Ready) (h *harness, last Event) {
	t.Helper()
	h = newHarness(t, Config{Policy: PolicyDisjoint, Levels: RelayOnly})
	h.deep = false
	events := []Event{shows("a", 1, 2, 3), shows("b", 1, 4, 5)}
	if late {
		events = append(events, Tick{testStart.Add(time.Hour)})
	}
	for _, e := range events[:len(events)-1] {
		step(h, e)
	}
	return h, events[len(events)-1]
}

// shows has a gateway of one member show guards, the first of them primary.
func shows(gateway string, guards ...int) Published {
	p := &shmproto.Publication{Attachment: 1, Incarnation: 1, Seq: 1, Member: "default",
		State: shmproto.MemberPresent, Selection: shmproto.SelectionDefault, NumPrimary: 1, PassPercent: 100}
	for i, n := range guards {
		g := shmproto.Guard{Fingerprint: fp(n), Flags: shmproto.GuardListed | shmproto.GuardFiltered}
		if i == 0 {
			g.Flags |= shmproto.GuardPrimary
		}
		p.Guards = append(p.Guards, g)
	}
	return Published{At: testStart, Gateway: gateway, Publication: p}
}

func TestJudge(t *testing.T) {
	for _, d := range judgedDamages {
		t.Run(d.name, func(t *testing.T) {
			var j *Judge
			h, e := leadTo(t, d.late, func(h *harness, e Event) Ready {
				if j == nil {
					j = NewJudge(h.core)
				}
				r := h.core.Step(e)
				if err := j.Step(h.core, e, r); err != nil {
					t.Fatal(err)
				}
				return r
			})
			r := h.core.Step(e)
			b := h.core.byName[Member{"b", "default"}]
			if len(b.exclusions) != 1 {
				t.Fatalf("b has %d exclusions", len(b.exclusions))
			}
			d.do(h.core, b, &r)
			err := j.Step(h.core, e, r)
			if d.says == "" && err != nil || d.says != "" && (err == nil || !strings.Contains(err.Error(), d.says)) {
				t.Errorf("want %q, got %v", d.says, err)
			}
		})
	}
}

// TestJudgeCountsForcedChanges: a core that forgets what it has spent is found out.
func TestJudgeCountsForcedChanges(t *testing.T) {
	h := newHarness(t, Config{Policy: PolicyDisjoint, Levels: RelayOnly})
	h.deep = false
	j := NewJudge(h.core)
	for n := 1; ; n++ {
		at := testStart.Add(time.Duration(n) * time.Minute)
		for _, gateway := range []string{"a", "b"} {
			p := shows(gateway, n, 1000*n+100, 1000*n+200)
			if gateway == "b" {
				p = shows(gateway, n, 1000*n+300, 1000*n+400)
			}
			p.At, p.Publication.Seq = at, shmproto.Seq(n)
			r := h.core.Step(p)
			err := j.Step(h.core, p, r)
			if err != nil && strings.Contains(err.Error(), "forced changes at") && n > 3 {
				return
			}
			if err != nil && !strings.Contains(err.Error(), "new claims since") || n > 20 {
				t.Fatalf("in round %d: %v", n, err)
			}
		}
		for _, m := range h.core.members { // the fault
			m.account = nil
		}
	}
}

// journal is what a Recorder writes of the scenario, from a checkpoint on.
func journalOf(t *testing.T) (from Checkpoint, lines [][]byte, end *Coordinator) {
	t.Helper()
	var rec Recorder
	first := true
	step := func(h *harness, e Event) Ready {
		if first {
			from, first = h.core.Checkpoint(), false
		}
		r := h.core.Step(e)
		line, err := rec.Line(e, r)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
		return r
	}
	h, e := leadTo(t, true, step)
	step(h, e)
	return from, lines, h.core
}

// play plays a journal to its end, or to the first fault.
func play(from Checkpoint, lines [][]byte) (*Player, error) {
	p, err := NewPlayer(from)
	for _, line := range lines {
		if err == nil {
			_, _, err = p.Play(line)
		}
	}
	return p, err
}

// TestDamagedJournals: what a journal holds that cannot be is told from what is only another decision.
func TestDamagedJournals(t *testing.T) {
	from, lines, end := journalOf(t)
	before, err := play(from, lines)
	if err != nil {
		t.Fatal(err)
	}
	var broken *Broken
	var difference *Difference
	check := func(name, says string, do func(c *Coordinator, b *member)) {
		t.Helper()
		c := resumed(t, end)
		do(c, c.byName[Member{"b", "default"}])
		p, err := NewPlayer(c.Checkpoint())
		if err == nil {
			err = p.Follows(before)
		}
		if says == "" && err != nil || says != "" && (!errors.As(err, &broken) || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: %v, want %q", name, err, says)
		}
	}
	check("as it was left", "", func(*Coordinator, *member) {})
	check("two claims of one age", "claim with stamp", func(_ *Coordinator, b *member) { b.claims[0].stamp.Counter = 1 })
	check("an exclusion is missing", "lifted within its hold", func(_ *Coordinator, b *member) { b.exclusions = nil })
	check("the orders begin again", "begin again", func(_ *Coordinator, b *member) { b.seq = 0 })
	check("after another ledger", "", func(c *Coordinator, b *member) { b.seq, c.cfg.Epoch.Random = 0, 7 })

	for i, line := range lines {
		for name, damaged := range map[string]string{
			"other guards": strings.Replace(string(line), fp(1).String(), fp(7).String(), 1),
			"cut off":      string(line[:len(line)/2]),
			"another time": strings.Replace(string(line), "T00:", "T05:", 1),
		} {
			if damaged == string(line) {
				continue
			}
			all := append(append(append([][]byte{}, lines[:i]...), []byte(damaged)), lines[i+1:]...)
			if _, err := play(from, all); err == nil {
				t.Errorf("line %d with %s is played as if nothing were wrong", i+1, name)
			} else if errors.As(err, &difference) && strings.Contains(err.Error(), fp(1).String()) {
				t.Errorf("a fault shows a fingerprint: %v", err)
			}
		}
	}
}
