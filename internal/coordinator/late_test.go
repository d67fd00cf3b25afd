package coordinator

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"guardring/shmproto"
)

// spoken: later than what a snapshot says: the coordinator's own word.
func spoken(records ...Record) []Record {
	for i := range records {
		records[i].At = testStart
	}
	return records
}

func recordOf(kind RecordKind, m Member, change func(*Record)) Record {
	r := Record{Version: RecordVersion, Kind: kind, Gateway: m.Gateway, Instance: m.Instance}
	if change != nil {
		change(&r)
	}
	return r
}

// merged restores a ledger: a snapshot, what came late, and the successor's own records.
func merged(t *testing.T, cfg Config, before, late, after []Record) *Coordinator {
	t.Helper()
	cfg.Epoch = testEpoch
	c, err := New(cfg)
	if err == nil {
		err = c.Restore(slices.Concat(before, Late(late), after))
	}
	if err == nil {
		err = c.valid()
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestLateOrder: what a stopped coordinator ordered too late lifts nothing that its
// successor ordered, has no number of the successor's, and moves nobody for whom the
// other one has moved. A member that has left keeps nothing of it.
func TestLateOrder(t *testing.T) {
	a, b := Member{"a", "default"}, Member{"b", "default"}
	order := func(m Member, seq uint64, guards ...int) Record {
		other := a
		if m == a {
			other = b
		}
		return recordOf(RecordOrder, m, func(r *Record) {
			r.Seq = seq
			for _, g := range guards {
				r.Exclusions = append(r.Exclusions, Exclusion{Key: RelayKey(fp(g)), Since: testStart, Why: WhyConflict, For: other})
			}
		})
	}
	// above is an exclusion in one network with another guard.
	above := func(r Record, over int) Record {
		r.Exclusions[0].Level, r.Exclusions[0].Over = LevelSubnet, RelayKey(fp(over))
		return r
	}
	gone := recordOf(RecordMember, a, func(r *Record) { r.Gone = true })
	for _, x := range []struct {
		name                string
		before, late, after []Record
		want                []int
		seq                 uint64
	}{
		{"of the successor's number", []Record{order(a, 5, 1, 2)}, []Record{order(a, 5, 1, 3)}, nil, []int{1, 2, 3}, 6},
		{"one more", []Record{order(a, 5, 1)}, []Record{order(a, 6, 1, 3)}, nil, []int{1, 3}, 6},
		{"lifts", []Record{order(a, 5, 1, 2)}, []Record{order(a, 6, 1)}, nil, []int{1, 2}, 7},
		{"the same", []Record{order(a, 5, 1, 2)}, []Record{order(a, 5, 1, 2)}, nil, []int{1, 2}, 5},
		{"it answers another publication", []Record{order(a, 5, 1)}, []Record{recordOf(RecordOrder, a, func(r *Record) {
			*r = order(a, 5, 1)
			r.Answers.Seq = 7
		})}, nil, []int{1}, 6},
		{"the successor's own come after it", []Record{order(a, 4, 1)}, []Record{order(a, 5, 1, 3)}, spoken(order(a, 5, 1, 2)), []int{1, 2}, 6},
		{"and have a lower number", []Record{order(a, 4, 1)}, []Record{order(a, 9, 1, 3)}, spoken(order(a, 5, 1, 2)), []int{1, 2}, 10},
		{"the other one moved", []Record{order(b, 1, 3), order(a, 4, 1)}, []Record{order(a, 5, 1, 3)}, nil, []int{1}, 6},
		{"the other one moved in one network with it", []Record{order(b, 1, 3), order(a, 4)}, []Record{above(order(a, 5, 1), 3)}, nil, nil, 6},
		{"the other one moved for it in one network", []Record{above(order(b, 1, 3), 1), order(a, 4)}, []Record{order(a, 5, 1)}, nil, nil, 6},
		{"it has left", []Record{order(a, 5), gone}, []Record{order(a, 5, 3)}, nil, nil, 6},
		{"it has left since", []Record{order(a, 5, 3)}, []Record{order(a, 6, 3, 4)}, spoken(order(a, 6), gone), nil, 7},
		{"first orders", nil, []Record{recordOf(RecordMember, a, nil), order(a, 1, 3)}, nil, []int{3}, 1},
		{"what was adopted is no order", []Record{order(a, 0, 1)}, []Record{order(a, 0, 2)}, nil, []int{1, 2}, 0},
	} {
		t.Run(x.name, func(t *testing.T) {
			m := merged(t, Config{Policy: PolicyDisjoint}, x.before, x.late, x.after).byName[a]
			var want []Key
			for _, g := range x.want {
				want = append(want, RelayKey(fp(g)))
			}
			var got []Key
			for _, e := range m.exclusions {
				got = append(got, e.Key)
			}
			if fmt.Sprint(got) != fmt.Sprint(want) || m.seq != x.seq {
				t.Errorf("order %d of %v, want %d of %v", m.seq, got, x.seq, want)
			}
		})
	}
}

// TestLateRecords: a late record takes nothing from what the successor holds, and gives
// nobody an advantage over it. One line is a member: what it is, then each claim (guard,
// its place in the order of stamps, + live, - left, * used), then its exclusions.
func TestLateRecords(t *testing.T) {
	a, b := Member{"a", "default"}, Member{"b", "default"}
	known := func(m Member) Record { return recordOf(RecordMember, m, func(r *Record) { r.Joined = 1 }) }
	second := func(m Member) Record { return recordOf(RecordMember, m, func(r *Record) { r.Joined = 2 }) }
	gone := func(m Member) Record {
		return recordOf(RecordMember, m, func(r *Record) { r.Gone, r.Away = true, testStart.Add(-time.Hour) })
	}
	away := func(m Member, d time.Duration) Record {
		return recordOf(RecordMember, m, func(r *Record) { r.Away = testStart.Add(-d) })
	}
	claimed := func(m Member, g int, stamp uint64) Record {
		return recordOf(RecordClaim, m, func(r *Record) { r.Key, r.Stamp = RelayKey(fp(g)), Stamp{stamp, testStart} })
	}
	used := func(r Record) Record { r.Used = true; return r }
	left := func(r Record, d time.Duration) Record { r.Used, r.Left = true, testStart.Add(-d); return r }
	release := func(m Member, g int) Record {
		return recordOf(RecordRelease, m, func(r *Record) { r.Key = RelayKey(fp(g)) })
	}
	order := func(m Member, seq uint64, guards ...int) Record {
		return recordOf(RecordOrder, m, func(r *Record) {
			r.Seq = seq
			for _, g := range guards {
				r.Exclusions = append(r.Exclusions, Exclusion{Key: RelayKey(fp(g)), Since: testStart, Why: WhyConflict, For: Member{"c", "x"}})
			}
		})
	}
	forget := func(m Member) Record { return recordOf(RecordForget, m, nil) }
	clone := func(r Record, of Member) Record { r.CloneOf = of; return r }
	for _, x := range []struct {
		name                string
		before, late, after []Record
		want                string
	}{
		{"gone does not make it leave", []Record{known(a), used(claimed(a, 1, 4)), order(a, 3, 9)},
			[]Record{release(a, 1), order(a, 4), gone(a)}, nil, "a/default 1#1+* !9"},
		{"gone, and it has never been known", nil, []Record{known(a), claimed(a, 1, 1), release(a, 1), gone(a)}, nil, "a/default"},
		{"forget does not", []Record{known(a), used(claimed(a, 1, 4)), order(a, 3, 9)}, []Record{release(a, 1), order(a, 4), forget(a)}, nil, "a/default 1#1+* !9"},
		{"forgotten, and it has never been known", nil, []Record{known(a), claimed(a, 1, 1), forget(a)}, nil, ""},
		{"it has left, and was back", []Record{gone(a)}, []Record{known(a), claimed(a, 1, 1), order(a, 2, 9)}, nil, "a/default 1#1+ !9"},
		{"it has left since", []Record{known(a), claimed(a, 1, 1)}, []Record{known(a), claimed(a, 2, 2), order(a, 2, 9)},
			spoken(release(a, 1), gone(a)), "a/default gone"},
		{"it was forgotten since", []Record{away(a, 1500*time.Hour)}, []Record{known(a), claimed(a, 2, 2), order(a, 2, 9)}, spoken(forget(a)), ""},
		{"it was forgotten since, and is back", []Record{away(a, 1500*time.Hour)}, []Record{known(a), claimed(a, 2, 2), order(a, 2, 9)},
			spoken(forget(a), known(a), claimed(a, 3, 3)), "a/default 3#1+"},
		{"away it is not", []Record{known(a), used(claimed(a, 1, 1))}, []Record{away(a, 1500*time.Hour)}, nil, "a/default 1#1+*"},
		{"away it is no longer", []Record{away(a, time.Hour)}, []Record{away(a, 1500*time.Hour)}, nil, "a/default away 1h0m0s"},
		{"it was back", []Record{away(a, time.Hour)}, []Record{known(a)}, nil, "a/default"},
		{"it is away since", []Record{known(a)}, []Record{known(a)}, spoken(away(a, time.Hour)), "a/default away 1h0m0s"},
		{"a release takes nothing", []Record{known(a), claimed(a, 1, 1)}, []Record{release(a, 1)}, nil, "a/default 1#1+"},
		{"leaving a guard takes nothing", []Record{known(a), used(claimed(a, 1, 1))}, []Record{left(claimed(a, 1, 1), time.Hour)}, nil, "a/default 1#1+*"},
		{"a return does not cost the place", []Record{known(a), used(claimed(a, 1, 1)), known(b), claimed(b, 1, 2)},
			[]Record{left(claimed(a, 1, 1), time.Hour), used(claimed(a, 1, 5))}, nil, "a/default 1#1+* b/default 1#2+"},
		{"nor does it win one", []Record{known(a), left(claimed(a, 1, 1), time.Hour), known(b), claimed(b, 1, 6)},
			[]Record{used(claimed(a, 1, 5))}, nil, "a/default 1#2+* b/default 1#1+"},
		{"who comes late comes last", []Record{known(a), claimed(a, 1, 1)}, []Record{second(b), claimed(b, 2, 2)},
			spoken(claimed(a, 2, 3)), "a/default 1#1+ 2#2+ b/default 2#3+"},
		{"what was used was used", []Record{known(a), claimed(a, 1, 1)}, []Record{used(claimed(a, 1, 1))}, nil, "a/default 1#1+*"},
		{"what was taken back", []Record{known(a)}, []Record{claimed(a, 1, 1), release(a, 1)}, nil, "a/default"},
		{"released since", []Record{known(a), claimed(a, 1, 1)}, []Record{used(claimed(a, 1, 1))}, spoken(release(a, 1)), "a/default"},
		{"left since", []Record{known(a), used(claimed(a, 1, 1))}, []Record{used(claimed(a, 1, 1))}, spoken(left(claimed(a, 1, 1), time.Hour)), "a/default 1#1-*"},
		{"left later", []Record{known(a), left(claimed(a, 1, 1), time.Hour)}, []Record{left(claimed(a, 1, 1), 2*time.Hour)}, nil, "a/default 1#1-*"},
		{"no room but what is free", []Record{known(a), claimed(a, 1, 1), claimed(a, 2, 2), left(claimed(a, 3, 3), time.Hour), claimed(a, 4, 4), claimed(a, 5, 5)},
			[]Record{left(claimed(a, 6, 6), time.Hour), claimed(a, 7, 8), claimed(a, 8, 7)}, nil, "a/default 1#1+ 2#2+ 3#3-* 4#4+ 5#5+ 8#6+"},
		{"the gateway's room is one", []Record{known(a), claimed(a, 1, 1), claimed(a, 2, 2), claimed(a, 3, 3), claimed(a, 4, 4), claimed(a, 5, 5), claimed(a, 6, 6),
			known(Member{"a", "two"}), claimed(Member{"a", "two"}, 1, 11), claimed(Member{"a", "two"}, 2, 12), claimed(Member{"a", "two"}, 3, 13),
			claimed(Member{"a", "two"}, 4, 14), claimed(Member{"a", "two"}, 5, 15), claimed(Member{"a", "two"}, 6, 16)},
			[]Record{second(Member{"a", "three"}), claimed(Member{"a", "three"}, 1, 7)}, nil,
			"a/default 1#1+ 2#2+ 3#3+ 4#4+ 5#5+ 6#6+ a/three a/two 1#7+ 2#8+ 3#9+ 4#10+ 5#11+ 6#12+"},
		{"a clone it stays", []Record{known(a), clone(second(b), a)}, []Record{second(b)}, nil, "a/default b/default=a/default"},
		{"a clone it has become", []Record{known(a), second(b)}, []Record{clone(second(b), a)}, nil, "a/default b/default=a/default"},
		{"of nobody that came later", []Record{known(a), second(b)}, []Record{clone(known(a), b)}, nil, "a/default b/default"},
		{"of nobody that has left", []Record{gone(a), second(b)}, []Record{clone(second(b), a)}, nil, "a/default gone b/default"},
	} {
		t.Run(x.name, func(t *testing.T) {
			cfg := Config{Policy: PolicyDisjoint}
			got := inShort(merged(t, cfg, x.before, x.late, x.after))
			if got != x.want {
				t.Errorf("%s, want %s", got, x.want)
			}
		})
	}
}

// inShort says in one line what TestLateRecords looks at.
func inShort(c *Coordinator) string {
	place := map[uint64]int{}
	var stamps []uint64
	for _, m := range c.members {
		for _, cl := range m.claims {
			stamps = append(stamps, cl.stamp.Counter)
		}
	}
	slices.Sort(stamps)
	for i, s := range stamps {
		place[s] = i + 1
	}
	var words []string
	for _, m := range c.members {
		w := m.name.String()
		if !m.cloneOf.IsZero() {
			w += "=" + m.cloneOf.String()
		}
		words = append(words, w)
		switch {
		case m.gone:
			words = append(words, "gone")
		case !m.away.IsZero():
			words = append(words, "away", testStart.Sub(m.away).String())
		}
		for _, cl := range m.claims {
			w := fmt.Sprintf("%d#%d", number(cl.relay()), place[cl.stamp.Counter])
			if w += "+"; !cl.live() {
				w = strings.TrimSuffix(w, "+") + "-"
			}
			if cl.used {
				w += "*"
			}
			words = append(words, w)
		}
		for _, f := range m.fingerprints() {
			words = append(words, fmt.Sprintf("!%d", number(f)))
		}
	}
	return strings.Join(words, " ")
}

// TestLateBudget: of two accounts the emptier one counts, budget by budget; what a late
// exclusion took is owed for once.
func TestLateBudget(t *testing.T) {
	a := Member{"a", "default"}
	h := func(n int) time.Time { return testStart.Add(time.Duration(n) * time.Hour) }
	account := func(x Account) Record {
		return recordOf(RecordBudget, a, func(r *Record) { r.Account = &x })
	}
	own := Account{
		NewClaims:     Bucket{Left: 1, Since: h(0)}, // one each 24 h, at most 3
		SampleChanges: Bucket{Left: 20},             // more than the burst: nothing grows
		ForcedUnused:  Bucket{Left: 0, Since: h(0)},
		ForcedUsed:    Bucket{Left: 1},
		Used:          []time.Time{h(-1000)},
		Caused:        []Cause{{"b", h(-50)}, {"c", h(-40)}},
		Owed:          1,
	}
	late := Account{
		NewClaims:     Bucket{Left: 0, Since: h(-20)}, // has as much as own at +4 h, and again at +24 h: full sooner than own
		SampleChanges: Bucket{Left: 6},
		ForcedUnused:  Bucket{Left: 1, Since: h(100)},
		ForcedUsed:    Bucket{Left: 0, Since: h(-10)},
		Used:          []time.Time{h(-2000), h(-10)},
		Caused:        []Cause{{"b", h(-45)}, {"d", h(-1)}},
		Owed:          2,
	}
	known := recordOf(RecordMember, a, nil)
	c := merged(t, Config{Policy: PolicyDisjoint}, []Record{known, account(own)}, []Record{account(late)}, nil)
	got, err := json.Marshal(c.byName[a].account)
	want, _ := json.Marshal(Account{
		NewClaims: late.NewClaims, SampleChanges: late.SampleChanges, ForcedUnused: own.ForcedUnused, ForcedUsed: late.ForcedUsed,
		Used: late.Used, Caused: []Cause{{"b", h(-45)}, {"c", h(-40)}, {"d", h(-1)}}, Owed: 1,
	})
	if err != nil || string(got) != string(want) {
		t.Errorf("%v\n%s, want\n%s", err, got, want)
	}
	for _, n := range budgetNames {
		for at := -100; at < 400; at++ {
			left := func(x Account) int {
				c.now = h(at)
				n, _ := c.left(&member{account: &x}, n)
				return n
			}
			if n != BudgetCaused && left(*c.byName[a].account) > min(left(own), left(late)) {
				t.Errorf("%s: more is left %d h from now than either would have let", n, at)
			}
		}
	}

	order := recordOf(RecordOrder, a, func(r *Record) {
		r.Seq, r.Exclusions = 1, []Exclusion{{Key: RelayKey(fp(1)), Why: WhyConflict, For: Member{"b", "x"}}, {Key: RelayKey(fp(2)), Why: WhySuccessor, For: Member{"b", "x"}}}
	})
	claim := recordOf(RecordClaim, a, func(r *Record) { r.Key, r.Stamp = RelayKey(fp(3)), Stamp{Counter: 9} })
	for _, x := range []struct {
		name        string
		late, after []Record
		owed        int
	}{
		{"a guard was taken", []Record{order}, nil, 2},
		{"and replaced", []Record{order, claim}, nil, 1},
		{"one was replaced", []Record{claim}, nil, 0},
		{"the successor ordered otherwise", []Record{order}, spoken(recordOf(RecordOrder, a, func(r *Record) { r.Seq = 1 })), 1},
	} {
		c := merged(t, Config{Policy: PolicyDisjoint}, []Record{known, account(own)}, append(x.late, account(late)), x.after)
		if got := c.byName[a].account.Owed; got != x.owed {
			t.Errorf("%s: %d owed, want %d", x.name, got, x.owed)
		}
	}
}

var ledgers = batchFlags("TestLateJoin", "ledgers", 40, "ledger")

// TestLateJoin: three coordinators go on from one ledger, two of them too late. Whatever
// they write, the join does not depend on the order in which it is read nor on how often,
// and takes nothing from what the third one holds by itself.
func TestLateJoin(t *testing.T) {
	var sum struct{ claims, exclusions, members, numbers int }
	seeds := ledgers.seeds(nil)
	for _, seed := range seeds {
		fail := func(format string, args ...any) {
			t.Helper()
			t.Fatalf("%s\nreplay: %s %d", fmt.Sprintf(format, args...), ledgers.replay, seed)
		}
		rng := rand.New(rand.NewPCG(seed, 31))
		cfg := Config{Policy: PolicyDisjoint, Epoch: testEpoch, MaxClaims: 4, MaxExclusions: 6, MaxGatewayClaims: 6, Levels: WithFamily | WithSubnet}
		if seed%2 == 0 {
			cfg = atWill(cfg)
		}
		if seed%3 == 0 {
			cfg.DelayMin, cfg.DelayMax = -1, -1
		}
		start, end := testStart, testStart
		live := func(c *Coordinator, steps int) (all []Record) {
			now := start
			for range steps {
				now = now.Add(time.Duration(rng.IntN(1+rng.IntN(1+rng.IntN(90*24)))) * time.Hour)
				all = append(all, c.Step(lateEvent(rng, now)).Save...)
				if err := c.Invariants(); err != nil {
					fail("%v", err)
				}
				end = latest(end, now)
			}
			return all
		}
		from := func(records ...Record) *Coordinator {
			c, err := New(cfg)
			if err == nil {
				err = c.Restore(records)
			}
			if err == nil {
				err = c.valid()
			}
			if err != nil {
				fail("%v", err)
			}
			return c
		}
		first := from()
		live(first, 10+rng.IntN(30))
		start = first.now
		before := first.Snapshot()
		one, two := Late(live(from(before...), rng.IntN(12))), Late(live(from(before...), rng.IntN(12)))
		after := live(from(before...), rng.IntN(12))
		own := from(slices.Concat(before, after)...)
		whole := from(slices.Concat(before, one, two, after)...)
		want, err := json.Marshal(whole.Snapshot())
		if err != nil {
			t.Fatal(err)
		}
		for n := range 8 {
			var shuffled []Record
			switch n {
			case 0:
				shuffled = slices.Concat(before, two, one, after)
			case 1:
				shuffled = slices.Concat(before, after, two, two, one, two)
			default:
				shuffled = slices.Concat(before, interleaved(rng, interleaved(rng, one, two), after))
			}
			if got, err := json.Marshal(from(shuffled...).Snapshot()); err != nil || string(got) != string(want) {
				fail("%v: read in another order, it is\n%s, not\n%s", err, got, want)
			}
		}
		if err := whole.keeps(own, end); err != nil {
			fail("%v", err)
		}
		for _, m := range whole.members {
			o := own.byName[m.name]
			if o == nil {
				sum.members++
				continue
			}
			sum.claims += len(m.claims) - len(o.claims)
			sum.exclusions += len(m.exclusions) - len(o.exclusions)
			if m.seq != o.seq {
				sum.numbers++
			}
		}
	}
	t.Logf("%d ledgers: late records alone made %+v", len(seeds), sum)
	if n := len(seeds); n >= 40 && (sum.claims < n/4 || sum.exclusions < n/8 || sum.members < n/8 || sum.numbers < n/8) {
		t.Errorf("%d ledgers hardly had anything late: %+v", n, sum)
	}
}

// interleaved has both in their own order.
func interleaved(rng *rand.Rand, a, b []Record) (all []Record) {
	for len(a)+len(b) > 0 {
		if rng.IntN(len(a)+len(b)) < len(a) {
			all, a = append(all, a[0]), a[1:]
		} else {
			all, b = append(all, b[0]), b[1:]
		}
	}
	return all
}

// lateEvent is something that a gateway shows, or a tick.
func lateEvent(rng *rand.Rand, now time.Time) Event {
	gateway := string(rune('a' + rng.IntN(3)))
	switch rng.IntN(10) {
	case 0:
		return Tick{now}
	case 1:
		return GatewaySeen{At: now, Gateway: gateway, Present: rng.IntN(2) == 0}
	}
	p := &shmproto.Publication{Attachment: 1, Incarnation: shmproto.Incarnation(rng.Uint64()), Seq: 1, Member: []string{"default", "apps", "x"}[rng.IntN(3)],
		State: shmproto.MemberPresent, Selection: shmproto.SelectionDefault, PassPercent: 100, NumPrimary: 3}
	if rng.IntN(8) == 0 {
		p.State = shmproto.MemberLeft
		return Published{At: now, Gateway: gateway, Slot: rng.IntN(3), Publication: p}
	}
	for _, i := range rng.Perm(12)[:8] {
		flags := shmproto.GuardListed | shmproto.GuardFiltered
		if len(p.Guards) < 3 {
			flags |= shmproto.GuardPrimary
			if rng.IntN(3) == 0 {
				flags |= shmproto.GuardInUse | shmproto.GuardConfirmed
			}
		}
		p.Guards = append(p.Guards, shmproto.Guard{Fingerprint: fp(i + 1), Flags: flags})
	}
	return Published{At: now, Gateway: gateway, Slot: rng.IntN(3), Publication: p}
}

// keeps says what late records have taken from what own, which was restored without them,
// holds, and where they win something over it.
func (c *Coordinator) keeps(own *Coordinator, now time.Time) error {
	var highest uint64 // of own's stamps
	for _, m := range own.members {
		for _, cl := range m.claims {
			highest = max(highest, cl.stamp.Counter)
		}
	}
	for _, o := range own.members {
		m := c.byName[o.name]
		if m == nil {
			return fmt.Errorf("a late record has %s forgotten", o.name)
		}
		if m.gone && !o.gone || o.away.IsZero() && !m.away.IsZero() || m.away.Before(o.away) && !m.away.IsZero() {
			return fmt.Errorf("a late record has %s leave, or be away for longer", o.name)
		}
		for _, x := range o.exclusions {
			if m.exclusion(x.Key) == nil {
				return fmt.Errorf("a late record lifts an exclusion of %s", o.name)
			}
		}
		if m.seq < o.seq || m.seq == o.seq && m.seq > 0 && (!same(m.exclusions, o.exclusions) || m.answers != o.answers) {
			return fmt.Errorf("order %d of %s is order %d after a late record", o.seq, o.name, m.seq)
		}
		for _, x := range o.claims {
			if cl := m.claim(x.key); cl == nil || x.live() && (!cl.live() || cl.stamp != x.stamp) || !x.live() && cl.live() && cl.stamp.Counter <= highest {
				return fmt.Errorf("a late record takes a claim of %s away, or its place", o.name)
			}
		}
		if o.account == nil {
			continue
		}
		for _, x := range []*Coordinator{c, own} {
			x.now = now
		}
		for _, n := range budgetNames[:] {
			left := func(x *Coordinator, m *member) (left int) {
				if n == BudgetCaused {
					left, _ = x.leastCauses(m)
				} else {
					left, _ = x.left(m, n)
				}
				return left
			}
			if left(c, m) > left(own, o) {
				return fmt.Errorf("a late record gives %s more of its budget %s", o.name, n)
			}
		}
	}
	for _, m := range c.members {
		for _, cl := range m.claims {
			if o := own.byName[m.name]; (o == nil || o.claim(cl.key) == nil) && cl.stamp.Counter <= highest {
				return fmt.Errorf("a late claim of %s comes before others", m.name)
			}
		}
	}
	return nil
}
