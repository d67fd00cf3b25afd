package coordinator

import (
	"cmp"

	"guardring/shmproto"
)

// strength says how much stands in the way of a member at a guard.
type strength uint8

const (
	// free: nothing does.
	free strength = iota
	// tolerated: reported, never moved. This member used its guard before it could
	// be told, and another used it and left, or has another guard of one family or
	// subnet: they know both already.
	tolerated
	// cloned: the other is m's clone, or its original. Reported, never moved.
	cloned
	// possible: the guard may become another's primary.
	possible
	// retained: another used the guard, and has left it or was told to.
	retained
	// reserved: another is on its way to the guard by an order.
	reserved
	// held: another claims the guard and came first.
	held
)

// obstacle is the strongest thing that stands in a member's way at a guard.
type obstacle struct {
	strength strength
	level    Level
	over     Key // the other's guard, where it is another relay
	other    *member
	stamp    Stamp // the other's claim, if it is one
	used     bool  // the other has used its guard
	// undecided: one of the two was there first, and has once given way to the
	// other's guard, so neither is told to move.
	undecided bool
}

// rival names the obstacle, for a claim that is in conflict with it.
func (o obstacle) rival() rival {
	if o.other == nil {
		return rival{}
	}
	return rival{o.other.name, o.level, o.over}
}

// exceeds: o is a stronger obstacle than p, or as strong at a stronger level, or
// else was there first.
func (o obstacle) exceeds(p obstacle) bool {
	switch {
	case o.strength != p.strength:
		return o.strength > p.strength
	case o.level != p.level:
		return o.level < p.level
	case o.stamp.Counter != p.stamp.Counter:
		return o.stamp.Counter < p.stamp.Counter
	case o.other == nil || p.other == nil:
		return false
	}
	return cmp.Or(o.other.name.Compare(p.other.name), o.over.Compare(p.over)) < 0
}

// visit is a member's question what stands in its way at a guard. mine is its
// live claim there, or nil if the question is whether it could go there.
type visit struct {
	m    *member
	k    Key
	mine *claim
	// order is set if it claims the guard, and was told to give it up.
	order *Exclusion
}

// obstacle returns what stands in m's way at k. mine is m's live claim on k, or
// nil if the question is whether m could go there.
func (c *Coordinator) obstacle(m *member, k Key, mine *claim) obstacle {
	return c.obstacleUpTo(LevelSubnet, m, k, mine)
}

// obstacleUpTo is obstacle at the levels up to widest.
func (c *Coordinator) obstacleUpTo(widest Level, m *member, k Key, mine *claim) obstacle {
	var o obstacle
	v := visit{m: m, k: k, mine: mine}
	meet := func(r *relay, l Level) {
		if l <= widest {
			v.meet(r, l, &o)
		}
	}
	if mine != nil {
		v.order = m.exclusion(k)
		c.aroundEntry(mine.at, meet)
	} else {
		c.around(k, meet)
	}
	return o
}

// meet makes o what stands in v's way at r, if that is more.
//
// The rules that keep decisions from being turned round come first. A member that
// was told to give its guard up in favour of v.m does not stand in its way there,
// whatever stamps either of them gets later. And the member that was told is in
// conflict as long as it claims the guard, whoever came first since. Above the
// relay, one that gave up a guard in favour of v.m's present one does not stand in
// its way with another guard either; if that one was there first, neither moves.
func (v *visit) meet(r *relay, l Level, o *obstacle) {
	for _, cl := range r.claims {
		if cl.m == v.m {
			continue
		}
		x := cl.m.exclusion(cl.key)
		spared := x != nil && x.For == v.m.name
		if v.mine == nil && spared {
			continue
		}
		undecided := false
		if v.mine != nil {
			yields := v.order != nil && v.order.For == cl.m.name
			if l > LevelRelay {
				spared = spared || cl.m.yielded(v.m.name, v.k)
				yields = yields || v.m.yielded(cl.m.name, cl.key)
			}
			first := v.mine.stamp.Counter < cl.stamp.Counter
			switch {
			case spared && !yields, spared && first, first && v.order == nil && !yields:
				continue
			case spared, first && v.order == nil:
				undecided = true
			}
		}
		s := held
		switch {
		case cl.live() && x == nil:
		case cl.live() && v.order != nil:
			s = reserved // both were told to go, and both are still there
		default:
			// It has left, or will. What stays is that the relay knows its
			// activity, which is a reason to keep others' unused guards away.
			switch {
			case !cl.used:
				s = free
			case v.mine != nil && v.mine.used:
				s = tolerated
			default:
				s = retained
			}
		}
		if l > LevelRelay && v.mine != nil && v.mine.used && s > tolerated {
			// A move after the fact does not undo what family or network know, and
			// it adds a draw.
			s = tolerated
		}
		if undecided {
			s = tolerated
		}
		if v.mine != nil && s > cloned && v.m.copies(cl.m) {
			s = cloned
		}
		v.offer(o, obstacle{s, l, cl.key, cl.m, cl.stamp, cl.used, undecided})
	}
	if v.mine != nil {
		return
	}
	for _, e := range r.expects {
		s := possible
		if e.reserved {
			s = reserved
		}
		if e.m != v.m {
			v.offer(o, obstacle{strength: s, level: l, over: e.key, other: e.m})
		}
	}
}

// offer makes o the obstacle p, if p exceeds it.
func (v *visit) offer(o *obstacle, p obstacle) {
	if p.strength == free {
		return
	}
	if p.level == LevelRelay {
		p.over = Key{}
	}
	if o.other == nil || p.exceeds(*o) {
		*o = p
	}
}

// why names the rule by which an obstacle takes a guard from a member.
func (o obstacle) why(claimed bool) Why {
	switch {
	case claimed:
		return WhyConflict
	case o.strength == reserved:
		return WhyReserved
	case o.strength == possible:
		return WhyPossible
	}
	return WhySuccessor
}

// conflicts brings what the operator knows of m's conflicts up to date and
// returns how many of them an order could and should still resolve.
func (c *Coordinator) conflicts(m *member) (open int) {
	for _, cl := range m.claims {
		if !cl.live() {
			continue
		}
		o := c.obstacle(m, cl.key, cl)
		if now := o.rival(); now != cl.noted {
			if o.other == nil {
				c.resolved(cl)
			} else {
				cl.noted = now
				c.notify(Notice{Kind: NoticeConflict, Member: m.name, Other: now.other, Key: cl.key, Level: now.level, Over: now.over,
					Stamp: cl.stamp, Others: o.stamp, Reason: o.tolerance()})
			}
		}
		if o.strength >= retained && m.exclusion(cl.key) == nil {
			open++
		} else {
			c.undue(cl)
		}
	}
	return open
}

// tolerance says why an obstacle moves nobody, or "".
func (o obstacle) tolerance() string {
	switch {
	case o.strength == cloned:
		return ReasonClone
	case o.strength != tolerated:
		return ""
	case o.undecided:
		return ReasonUndecided
	case o.level == LevelRelay:
		return ReasonAlreadyUsed
	case o.used:
		return ReasonUsedBoth
	}
	return ReasonUsed
}

// resolved tells the operator that a conflict it was told of has ended.
func (c *Coordinator) resolved(cl *claim) {
	if was := cl.noted; was != (rival{}) {
		c.notify(Notice{Kind: NoticeResolved, Member: cl.m.name, Other: was.other, Key: cl.key, Level: was.level, Over: was.over, Stamp: cl.stamp})
		cl.noted = rival{}
	}
}

// unmovable says why m must not be told to give up a guard, or "".
//
// A member that only observes, uses bridges or the restricted selection still
// holds claims: others can be steered away from its guards, and it came first
// where it came first. But it cannot obey, and the incumbent is not made to move
// in its stead, or refusing to obey would be a way to push others.
func (c *Coordinator) unmovable(m *member) string {
	p := &m.pub
	switch {
	case !m.shown():
		return ReasonNotShown
	case c.gatewayOf[m.name.Gateway].inQuarantine():
		return ReasonQuarantine
	case p.state != shmproto.MemberPresent:
		return ReasonObserveOnly
	case p.selection == shmproto.SelectionRestricted:
		return ReasonRestricted
	case p.selection == shmproto.SelectionBridges:
		return ReasonBridges
	case p.selection != shmproto.SelectionDefault:
		return ReasonNoSelection
	case p.has(shmproto.MemberFewGuards) || p.passPercent < c.cfg.MinPassPercent:
		return ReasonFewGuards
	}
	return ""
}
