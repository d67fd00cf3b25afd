package coordinator

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"guardring/shmproto"
)

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

// publishes has a gateway of one member show guards, each of them primary, some of
// them in use.
func publishes(h *harness, at time.Time, gateway string, seq int, inUse int, guards ...int) Ready {
	p := &shmproto.Publication{Attachment: 1, Incarnation: 1, Seq: shmproto.Seq(seq), Member: "default",
		State: shmproto.MemberPresent, Selection: shmproto.SelectionDefault, NumPrimary: 1, PassPercent: 100}
	for i, n := range guards {
		g := shmproto.Guard{Fingerprint: fp(n), Flags: shmproto.GuardListed | shmproto.GuardFiltered}
		if i == 0 {
			g.Flags |= shmproto.GuardPrimary
		}
		if i < inUse {
			g.Flags |= shmproto.GuardInUse
		}
		p.Guards = append(p.Guards, g)
	}
	return h.step(Published{At: at, Gateway: gateway, Publication: p})
}

// The host's clock is set back by a year: what was spent in what is now the future
// does not keep a budget empty for longer than it would be anyway, and a delay does
// not grow.
func TestClockSetBack(t *testing.T) {
	h := newHarness(t, Config{Policy: PolicyDisjoint})
	late := testStart.Add(year)
	publishes(h, late, "a", 1, 1, 1, 2, 3)
	publishes(h, late, "b", 1, 1, 1, 2, 3, 4, 5)
	h.step(Tick{late.Add(6 * time.Hour)}) // the order is given, and paid
	b := h.core.byName[Member{"b", "default"}]
	if left, _ := h.core.left(b, BudgetForcedUsed); left != 0 || len(b.exclusions) == 0 {
		t.Fatalf("%d left after an order of %d exclusions", left, len(b.exclusions))
	}
	publishes(h, late.Add(7*time.Hour), "c", 1, 1, 1, 2, 3, 4, 5, 6, 7) // delayed
	c := h.core.byName[Member{"c", "default"}]

	h.step(Tick{testStart})
	if _, next := h.core.left(b, BudgetForcedUsed); next.After(testStart.Add(60 * day)) {
		t.Errorf("the next token comes at %v", next)
	}
	for _, cl := range c.claims {
		if cl.due.After(testStart.Add(6 * time.Hour)) {
			t.Errorf("%s is due at %v", keyName(cl.key), cl.due)
		}
	}
	r := h.step(Tick{testStart.Add(6 * time.Hour)})
	if !slices.ContainsFunc(r.Orders, func(o SlotOrder) bool { return o.Gateway == "c" }) {
		t.Errorf("c was not told: %v", r.Orders)
	}
	// It was set back while no coordinator ran.
	h.start()
	h.step(Tick{testStart.Add(-year)})
	b = h.core.byName[Member{"b", "default"}]
	if _, next := h.core.left(b, BudgetForcedUsed); next.After(testStart.Add(60*day - year)) {
		t.Errorf("after a restart the next token comes at %v", next)
	}
}

// The delay is between its bounds, differs, and is another one with another seed.
func TestDelay(t *testing.T) {
	drawn := func(seed byte) (at []time.Duration) {
		h := newHarness(t, Config{Policy: PolicyDisjoint, Levels: RelayOnly, Seed: [16]byte{seed}})
		h.deep = false
		publishes(h, testStart, "a", 1, 1, 1, 2, 3)
		for i := range 50 {
			gateway := "b" + strconv.Itoa(i)
			publishes(h, testStart, gateway, 1, 1, 1, 100+4*i, 101+4*i, 102+4*i, 103+4*i)
			at = append(at, h.core.byName[Member{gateway, "default"}].claims[0].due.Sub(testStart))
		}
		return at
	}
	one, two := drawn(1), drawn(2)
	least, most := slices.Min(one), slices.Max(one)
	if least < 10*time.Minute || most >= 6*time.Hour {
		t.Errorf("delays from %v to %v", least, most)
	}
	if most-least < 3*time.Hour {
		t.Errorf("50 delays are all between %v and %v", least, most)
	}
	if slices.Equal(one, two) {
		t.Error("another seed draws the same delays")
	}
	if !slices.Equal(one, drawn(1)) {
		t.Error("the same seed draws other delays")
	}
}

// A member that meets another's guard every other day with a used one of its own, for
// three years, is told to give one up as often as the budget says, and no more.
func TestForcedChangesOverYears(t *testing.T) {
	cfg := atWill(Config{Policy: PolicyDisjoint, Levels: RelayOnly})
	cfg.Budgets.ForcedUsed, cfg.Budgets.ForcedUsedPerYear = Budget{}, 0
	h := newHarness(t, cfg)
	h.deep = false
	var told []time.Time
	for i := range 3 * 365 / 2 {
		at := testStart.Add(time.Duration(i) * 2 * day)
		publishes(h, at, "a", i+1, 0, i, 10_000+i, 20_000+i)
		r := publishes(h, at, "b", i+1, 1, i, 30_000, 30_001, 30_002)
		for _, n := range r.Notices {
			if n.Kind == NoticeExcluded && n.Member.Gateway == "b" && n.Why == WhyConflict {
				told = append(told, at)
			}
		}
	}
	if len(told) != 6 {
		t.Errorf("told %d times in three years: %v", len(told), told)
	}
	for i := range told {
		if i > 0 && told[i].Sub(told[i-1]) < 60*day || i > 1 && told[i].Sub(told[i-2]) < year {
			t.Errorf("told at %v", told)
		}
	}
}
