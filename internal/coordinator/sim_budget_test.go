package coordinator

import (
	"slices"
	"testing"
	"time"
)

// spending is what the simulation notes of each member, apart from the
// core's accounts, to hold them against the promises.
type spending struct {
	since        time.Time   // when the member was first known
	used, unused []time.Time // when it was told to give up a guard
	claims       int         // guards newly claimed
}

// owing is what is known of a claim before a step.
type owing struct{ due, allowed time.Time }

// before notes what the claims are like before a step.
func (s *sim) before() {
	s.owing = map[Member]map[Key]owing{}
	for _, m := range s.h.core.members {
		s.owing[m.name] = map[Key]owing{}
		for _, cl := range m.claims {
			s.owing[m.name][cl.key] = owing{cl.due, cl.allowed}
		}
	}
	s.stamp = s.h.core.stamp
}

// count notes how many new claims are free: for guards that orders have taken,
// and after a clone was named.
func (s *sim) count(notices []Notice) {
	for _, n := range notices {
		if n.Kind == NoticeExcluded && n.Why == WhyConflict {
			s.orders[n.Member]++
		}
		if n.Kind == NoticeFresh && n.Reason == "" { // its free exchange
			s.orders[n.Member] += s.h.core.cfg.Budgets.NewClaims.Join
		}
	}
}

// tally notes what a step has cost whom, and fails the test if it is more than
// the budgets allow over any time, or earlier than was said.
func (s *sim) tally(e Event) {
	s.t.Helper()
	if s.free {
		return
	}
	cfg := &s.h.core.cfg
	for name := range s.spent {
		if s.h.core.byName[name] == nil {
			delete(s.spent, name) // forgotten: after the retention it may begin anew
		}
	}
	_, pardon := e.(Allowed)
	for _, m := range s.h.core.members {
		x := s.spent[m.name]
		if x == nil {
			x = &spending{since: s.now}
			s.spent[m.name] = x
		}
		for _, cl := range m.claims {
			if cl.stamp.Counter > s.stamp && !pardon {
				x.claims++
			}
		}
		for _, ex := range m.exclusions {
			cl := m.claim(ex.Key)
			if ex.Why != WhyConflict || cl == nil || !cl.live() || slices.ContainsFunc(s.held[m.name], func(y Exclusion) bool { return y.Key == ex.Key }) {
				continue
			}
			was := s.owing[m.name][ex.Key]
			if cl.used && (was.due.IsZero() || s.now.Before(was.due)) {
				s.t.Fatalf("%s was told to give up %s, which it used, at %v; due %v", m.name, ex.Key, s.now, was.due)
			}
			switch {
			case pardon || !was.allowed.IsZero():
			case cl.used:
				x.used = append(x.used, s.now)
			default:
				x.unused = append(x.unused, s.now)
			}
		}
		s.within(m.name, x.used, cfg.Budgets.ForcedUsed)
		s.within(m.name, x.unused, cfg.Budgets.ForcedUnused)
		if n := len(x.used); n > cfg.Budgets.ForcedUsedPerYear && x.used[n-1].Sub(x.used[n-1-cfg.Budgets.ForcedUsedPerYear]) < year {
			s.t.Fatalf("%s was told to give up used guards at %v", m.name, x.used)
		}
		if most := cfg.Budgets.NewClaims.Join + int(s.now.Sub(x.since)/cfg.Budgets.NewClaims.Every) + s.orders[m.name]; x.claims > most && !s.pardons {
			s.t.Fatalf("%s made %d new claims since %v, at most %d are allowed", m.name, x.claims, x.since, most)
		}
	}
}

// within fails the test if between any two of the times there were more than the
// budget's burst and what grows meanwhile.
func (s *sim) within(m Member, at []time.Time, b Budget) {
	s.t.Helper()
	for i := range at {
		n := len(at) - i
		if most := max(b.Burst, b.Join) + int(at[len(at)-1].Sub(at[i])/b.Every) + 1; n > most {
			s.t.Fatalf("%s: %d forced changes at %v, at most %d are allowed", m, n, at[i:], most)
		}
	}
	if b.Burst == 1 && len(at) > 1 && at[len(at)-1].Sub(at[len(at)-2]) < b.Every {
		s.t.Fatalf("%s: forced changes at %v, at most one each %v is allowed", m, at, b.Every)
	}
}

// A bucket gives what it should, however often it is looked at, and whatever the
// clock does.
func TestBucket(t *testing.T) {
	b := Budget{Join: 5, Every: time.Hour, Burst: 2}
	start := testStart
	k := Bucket{Left: b.Join}
	take := func(at time.Duration, want bool) {
		t.Helper()
		if got := k.take(b, start.Add(at)); got != want {
			t.Fatalf("take after %v: %t, want %t (%+v)", at, got, want, k)
		}
	}
	for range 3 {
		take(0, true)
	}
	if n := k.filled(b, start.Add(1000*time.Hour)).Left; n != 2 {
		t.Fatalf("%d tokens: above the burst nothing grows, below it up to the burst", n)
	}
	take(0, true)
	take(0, true)
	take(0, false)
	for at := time.Duration(0); at < time.Hour; at += time.Second {
		take(at, false)
	}
	take(time.Hour, true) // looked at 3600 times: no drift
	take(time.Hour, false)
	take(2*time.Hour+30*time.Minute, true)
	take(2*time.Hour+59*time.Minute, false)
	take(3*time.Hour, true) // half an hour was not lost
	take(500*time.Hour, true)
	take(500*time.Hour, true)
	take(500*time.Hour, false) // no more than the burst
	take(-5000*time.Hour, false)
	back := start.Add(-5000 * time.Hour)
	if !notAfter(&k.Since, back) {
		t.Fatal("a time ahead of the clock was not mended")
	}
	take(-4999*time.Hour, true)
	take(-4999*time.Hour, false)
	if next := k.next(b, back); !next.Equal(back.Add(2 * time.Hour)) {
		t.Fatalf("next at %v", next)
	}
}
