package coordinator

import "guardring/shmproto"

// strength says how much stands in the way of a member at a guard.
type strength uint8

const (
	// free: nothing does.
	free strength = iota
	// tolerated: another used the guard before, and this member used it before
	// it could be told. The relay knows both already: reported, never moved.
	tolerated
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
	other    *member
	stamp    Stamp // the other's claim, if it is one
}

// obstacle returns what stands in m's way at k. mine is m's live claim on k, or
// nil if the question is whether m could go there.
//
// The rule that keeps decisions from being turned round is the first one: a
// member that was told to give k up in favour of m never stands in m's way
// there, whatever stamps either of them gets later. And the member that was told
// is the one in conflict as long as it claims k, whoever came first since.
func (c *Coordinator) obstacle(m *member, k Key, mine *claim) obstacle {
	var o obstacle
	h := c.index[k]
	if h == nil {
		return o
	}
	told := mine != nil && m.exclusion(k) != nil
	for _, cl := range h.claims { // in the order of their stamps: the first of the strongest is kept
		if cl.m == m || mine != nil && !told && mine.stamp.Counter < cl.stamp.Counter {
			continue
		}
		x := cl.m.exclusion(k)
		if x != nil && x.For == m.name {
			continue
		}
		s := held
		switch {
		case cl.live() && x == nil:
		case cl.live() && told:
			s = reserved // both were told to go, and both are still there
		default:
			// It has left, or will. What stays is that the relay knows its
			// activity, which is a reason to keep others' unused guards away.
			switch {
			case !cl.used:
				s = free
			case mine != nil && mine.used:
				s = tolerated
			default:
				s = retained
			}
		}
		if s > o.strength {
			o = obstacle{s, cl.m, cl.stamp}
		}
	}
	if mine == nil {
		for _, e := range h.expects {
			s := possible
			if e.reserved {
				s = reserved
			}
			if e.m != m && s > o.strength {
				o = obstacle{strength: s, other: e.m}
			}
		}
	}
	return o
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
		if o.other != cl.noted {
			if o.other == nil {
				c.resolved(cl)
			} else {
				cl.noted = o.other
				n := Notice{Kind: NoticeConflict, Member: m.name, Other: o.other.name, Key: cl.key, Stamp: cl.stamp, Others: o.stamp}
				if o.strength == tolerated {
					n.Reason = ReasonAlreadyUsed
				}
				c.notify(n)
			}
		}
		if o.strength >= retained && m.exclusion(cl.key) == nil {
			open++
		}
	}
	return open
}

// resolved tells the operator that a conflict it was told of has ended.
func (c *Coordinator) resolved(cl *claim) {
	if cl.noted != nil {
		c.notify(Notice{Kind: NoticeResolved, Member: cl.m.name, Other: cl.noted.name, Key: cl.key, Stamp: cl.stamp})
		cl.noted = nil
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
