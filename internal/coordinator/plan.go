package coordinator

import (
	"slices"

	"guardring/shmproto"
)

// defaultPrimaries is guard-spec's NUM_PRIMARY_GUARDS, for a member that says 0.
const defaultPrimaries = 3

// plan decides what m is to be told, and tells it. It is called after anything
// changed that m's decision rests on.
func (c *Coordinator) plan(m *member) {
	open := c.conflicts(m)
	moving := c.moving(m)
	if open == 0 && !moving {
		m.stuck, m.would = "", nil
		c.unbilled(m)
		c.expect(m, c.foreseen(m, nil))
		return
	}
	if reason := c.unmovable(m); reason != "" {
		c.unbilled(m)
		c.becomeStuck(m, open, reason)
		c.expect(m, c.foreseen(m, nil))
		return
	}
	payable := c.bill(m)
	if payable == 0 && !moving {
		m.stuck = m.unpaid()
		c.shortOfChanges(m)
		c.expect(m, c.foreseen(m, nil))
		return
	}
	added, primaries, reason := c.solve(m, payable)
	if reason != "" {
		c.becomeStuck(m, payable, reason)
		c.shortOfChanges(m)
		c.expect(m, c.foreseen(m, nil))
		return
	}
	if c.cfg.Policy == PolicyObserve {
		m.stuck = ""
		c.would(m, added)
		c.expect(m, c.foreseen(m, nil))
		return
	}
	left := payable - c.moved(m, added)
	if len(added) > 0 {
		c.exclude(m, added)
	}
	c.shortOfChanges(m)
	if left > 0 {
		c.becomeStuck(m, left, ReasonNotEnough) // a wider level had to be given up
	} else {
		m.stuck = m.unpaid()
	}
	if m.answer == shmproto.ReceiptRefused || m.answer == shmproto.ReceiptFailed {
		primaries = nil // it says that it is not going anywhere
	}
	c.expect(m, c.foreseen(m, primaries))
}

// moving: m was told to give up a guard that it still claims, so it is on its
// way to others.
func (c *Coordinator) moving(m *member) bool {
	for i := range m.exclusions {
		if cl := m.claim(m.exclusions[i].Key); cl != nil && cl.live() {
			return m.shown() && c.cfg.Policy == PolicyDisjoint
		}
	}
	return false
}

// becomeStuck: m is in conflict and is not told to move. Everyone stays
// connected; the operator is told once per reason. It is looked at again when a
// fact changes, and now and then.
func (c *Coordinator) becomeStuck(m *member, open int, reason string) {
	if open == 0 {
		m.stuck = m.unpaid()
		return
	}
	if m.stuck != reason {
		c.notify(Notice{Kind: NoticeStuck, Member: m.name, Count: open, Reason: reason})
	}
	m.stuck = reason
	c.schedule(c.now.Add(lookAgain))
}

// would tells the operator what disjoint would do, once.
func (c *Coordinator) would(m *member, added []Exclusion) {
	keys := make([]Key, len(added))
	for i, x := range added {
		keys[i] = x.Key
	}
	if slices.Equal(keys, m.would) {
		return
	}
	m.would = keys
	for _, x := range added {
		c.notifyExclusion(NoticeWould, m, x)
	}
}

// solve finds the least set of further exclusions that leaves m's primaries free
// of conflict, and the primaries that follow. It avoids first everything that
// can be avoided; where that leaves too few guards, it gives up the wishes
// (possible primaries, then guards that others only used), then the widest level,
// before it gives up.
//
// Without an open conflict, m is on its way by an order; then only what would
// make it move again is taken out of its way.
func (c *Coordinator) solve(m *member, open int) (added []Exclusion, primaries []int, reason string) {
	tiers := [...]strength{possible, retained, reserved}
	least := tiers[:]
	if open == 0 {
		least = tiers[2:]
	}
	for widest := LevelSubnet; widest >= LevelRelay; widest-- {
		if !c.cfg.Levels.Has(widest) {
			continue
		}
		for _, s := range least {
			added, primaries, reason = c.solveFor(m, s, widest)
			if reason == "" && (open == 0 || resolves(added)) {
				return added, primaries, ""
			}
		}
	}
	if reason == "" {
		reason = ReasonNotEnough // only wishes would move it, and they cannot be had
	}
	return nil, nil, reason
}

// moved returns how many live claims the exclusions take away.
func (c *Coordinator) moved(m *member, added []Exclusion) (n int) {
	for _, x := range added {
		if cl := m.claim(x.Key); cl != nil && cl.live() {
			n++
		}
	}
	return n
}

// resolves reports whether one of the exclusions ends a conflict.
func resolves(added []Exclusion) bool {
	return slices.ContainsFunc(added, func(x Exclusion) bool { return x.Why == WhyConflict })
}

// solveFor is solve for obstacles of a least strength, at the levels up to widest.
//
// The set is the least one because the exclusions force each other: a guard
// that is a primary stays one when others are excluded (they can only leave
// room), so a primary with an obstacle has to be excluded in any solution.
func (c *Coordinator) solveFor(m *member, least strength, widest Level) (added []Exclusion, primaries []int, reason string) {
	p := &m.pub
	var excluded [shmproto.MaxGuards]bool
	for i := range p.guards {
		excluded[i] = m.exclusion(RelayKey(p.guards[i].id)) != nil
	}
	// exclude takes guard i out if something stands in its way.
	exclude := func(i int, k Key, mine *claim) bool {
		if mine != nil && mine.blocked != "" {
			return false // not now
		}
		o := c.obstacleUpTo(widest, m, k, mine)
		if o.strength < least {
			return false
		}
		excluded[i] = true
		if slices.ContainsFunc(added, func(x Exclusion) bool { return x.Key == k }) {
			return true // the guard is shown twice
		}
		x := Exclusion{Key: k, Since: c.now, Why: o.why(mine != nil), For: o.other.name, Stamp: o.stamp}
		if o.level > LevelRelay {
			x.Level, x.Over = o.level, o.over
		}
		added = append(added, x)
		return true
	}
	for _, cl := range m.claims {
		if i := p.find(cl.key); i >= 0 && cl.live() && !excluded[i] {
			exclude(i, cl.key, cl)
		}
	}
	n := p.numPrimary
	if n == 0 {
		n = defaultPrimaries
	}
	for again := true; again; {
		again = false
		primaries = p.primaries(n, &excluded, primaries[:0])
		for _, i := range primaries {
			k := RelayKey(p.guards[i].id)
			mine := m.claim(k)
			if mine != nil && !mine.live() {
				mine = nil
			}
			if exclude(i, k, mine) {
				again = true
			}
		}
	}
	switch {
	case len(m.exclusions)+len(added) > c.cfg.MaxExclusions:
		return nil, nil, ReasonTooMany
	case len(primaries) < n:
		return nil, nil, ReasonNotEnough
	}
	return added, primaries, ""
}

// primaries appends to dst which guards Tor would make its n primary ones
// without the excluded ones, as entry_guards_update_primary does: the confirmed
// ones in sampled order, then the earlier primaries, then the next sampled that
// are not believed to be down.
func (p *publication) primaries(n int, excluded *[shmproto.MaxGuards]bool, dst []int) []int {
	earlier := shmproto.GuardPrimary
	if p.has(shmproto.MemberAmbiguous) {
		earlier |= shmproto.GuardPossiblePrimary
	}
	var taken [shmproto.MaxGuards]bool
	pick := func(want func(g guard) bool) {
		for i, g := range p.guards {
			if len(dst) < n && !taken[i] && !excluded[i] && p.visible(i) && g.usable() && want(g) {
				taken[i] = true
				dst = append(dst, i)
			}
		}
	}
	pick(func(g guard) bool { return g.has(shmproto.GuardConfirmed) })
	pick(func(g guard) bool { return g.has(earlier) })
	pick(func(g guard) bool { return !g.has(shmproto.GuardDown) })
	return dst
}

// maxPossible is how many possible primaries of one member others are kept
// from: as many as an agent publishes. It bounds what a hostile one can bar.
const maxPossible = 2

// foreseen returns what m does not claim yet and may come to: the primaries that
// follow its order, and the guards that it says are next in line.
func (c *Coordinator) foreseen(m *member, primaries []int) []expect {
	if !m.shown() || c.cfg.Policy == PolicyObserve {
		return nil
	}
	var buf [shmproto.MaxGuards]expect
	want := buf[:0]
	add := func(i int, reserved bool) bool {
		k := RelayKey(m.pub.guards[i].id)
		if cl := m.claim(k); cl != nil && cl.live() || m.exclusion(k) != nil {
			return false
		}
		for _, e := range want {
			if e.key == k {
				return false
			}
		}
		want = append(want, expect{m, k, reserved})
		return true
	}
	room := 0
	if len(primaries) > 0 {
		room = c.reservable(m)
	}
	for _, i := range primaries {
		if len(want) < room {
			add(i, true)
		}
	}
	n := 0
	for i, g := range m.pub.guards {
		if n < maxPossible && g.has(shmproto.GuardPossiblePrimary) && g.usable() && m.pub.visible(i) && add(i, false) {
			n++
		}
	}
	return slices.Clone(want)
}

// reservable returns how many guards m may be on its way to: no more than it, and
// its gateway, could claim. Else members that never arrive would keep others from
// as many guards as they like.
func (c *Coordinator) reservable(m *member) int {
	if c.cfg.MaxGatewayClaims < 0 {
		return c.cfg.MaxClaims
	}
	room := c.cfg.MaxGatewayClaims
	for _, o := range c.membersOf(m.name.Gateway) {
		for _, cl := range o.claims {
			if cl.live() && o.exclusion(cl.key) == nil { // a retained one would make room
				room--
			}
		}
		for _, e := range o.expects {
			if e.reserved && o != m {
				room--
			}
		}
	}
	return min(max(room, 0), c.cfg.MaxClaims)
}
