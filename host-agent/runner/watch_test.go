package runner

import (
	"slices"
	"testing"
	"time"

	"guardring/host-agent/report"
	"guardring/internal/coordinator"
)

// member returns what the acting coordinator says of one.
func (r *rig) member(name string) (m report.Member) {
	r.t.Helper()
	for _, m := range r.actingDocument().Members {
		if m.Member == name {
			return m
		}
	}
	return report.Member{}
}

func (r *rig) state(name, want string) report.Member {
	r.t.Helper()
	r.eventually(name+" is "+want, func() bool { return r.member(name).State == want })
	return r.member(name)
}

// claims are a member's stamps by guard.
func claims(m report.Member) map[string]uint64 {
	held := map[string]uint64{}
	for _, g := range m.Guards {
		if g.Stamp != 0 {
			held[g.Fingerprint] = g.Stamp
		}
	}
	return held
}

// TestSwitchedOff: a gateway whose process is gone is away, keeps its claims and
// gets its place back; nobody else's order changes, and what the former holder
// published is not taken for the next one's word.
func TestSwitchedOff(t *testing.T) {
	r := newRig(t, coordinator.PolicyDisjoint, "a", "b")
	r.cfg.Rescan = 100 * time.Millisecond
	r.coordinateHere()
	kill := r.guestProcess("a", sampleA()...)
	before := claims(r.state("a/default", "present"))
	b := r.guest("b")
	b.publish(sampleB()...)
	b.excludes(r, 1)
	seq := b.order.Seq

	kill()
	away := r.state("a/default", "away")
	if away.Since.IsZero() || len(before) != 3 || len(claims(away)) != 3 {
		t.Fatalf("away since %v with claims %v, had %v", away.Since, claims(away), before)
	}
	for fp, stamp := range before {
		if claims(away)[fp] != stamp {
			t.Errorf("claim on %s has stamp %d, had %d", fp, claims(away)[fp], stamp)
		}
	}
	kill = r.guestProcess("a") // is started, and its agent says nothing yet
	r.eventually("the seat is taken", func() bool {
		i := slices.IndexFunc(r.actingDocument().Gateways, func(g report.Gateway) bool { return g.Name == "a" && g.Present })
		return i >= 0
	})
	time.Sleep(5 * r.cfg.Rescan) // for what must not happen there is no event
	if m := r.member("a/default"); m.State != "away" || !m.Since.Equal(away.Since) {
		t.Fatalf("%s since %v by what the former holder said; was away since %v", m.State, m.Since, away.Since)
	}
	kill()
	r.guestProcess("a", sampleA()...)
	back := r.state("a/default", "present")
	for fp, stamp := range before {
		if claims(back)[fp] != stamp {
			t.Errorf("came back with stamp %d on %s, had %d", claims(back)[fp], fp, stamp)
		}
	}
	if !b.told(1) || b.order.Seq != seq {
		t.Errorf("b's order changed: %+v, was seq %d", b.order, seq)
	}
}

// TestSwitchedOffUnwatched: what a gateway said last counts, and it is away,
// also if no coordinator was there to see either.
func TestSwitchedOffUnwatched(t *testing.T) {
	r := newRig(t, coordinator.PolicyDisjoint, "a", "b")
	r.guestProcess("a", sampleA()...)()
	r.eventually("the seat is free", func() bool { return r.srv.Status().Gateways[0].Seats[2].State == "free" })
	first := r.coordinate("")
	away := r.state("a/default", "away")
	if len(claims(away)) != 3 {
		t.Fatalf("claims %v", claims(away))
	}
	// The next one knows it from the ledger, and since when.
	_ = first.Process.Kill()
	_ = first.Wait()
	r.coordinate("")
	if now := r.state("a/default", "away"); !now.Since.Equal(away.Since) {
		t.Errorf("away since %v, was away since %v", now.Since, away.Since)
	}
}

// TestMoverSwitchedOff: a conflict whose newcomer is switched off is not called
// unresolved, and is dealt with when it is back.
func TestMoverSwitchedOff(t *testing.T) {
	r := newRig(t, coordinator.PolicyDisjoint, "a", "b")
	r.coordinateHere()
	r.guest("a").publish(sampleA()...)
	r.state("a/default", "present")
	kill := r.guestProcess("b", sampleB()...)
	conflict := func(want string) {
		t.Helper()
		r.eventually("the conflict is "+want, func() bool {
			d := r.actingDocument()
			return len(d.Conflicts) == 1 && d.Conflicts[0].Newcomer == "b/default" && d.Conflicts[0].State == want
		})
	}
	conflict(report.ConflictOrdered)
	kill()
	conflict(report.ConflictAway)
	b := r.guest("b")
	b.publish(sampleB()...)
	b.excludes(r, 1)
	conflict(report.ConflictOrdered)
}
