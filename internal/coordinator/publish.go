package coordinator

import "guardring/shmproto"

// published takes in what a slot shows now.
func (c *Coordinator) published(e Published) {
	p := e.Publication
	g := c.gateway(e.Gateway)
	if p.Attachment < g.attachment {
		g.stale++ // left over from before the guest's last connection
		return
	}
	occupant := g.slots[e.Slot]
	if p.State == shmproto.MemberAbsent || p.Member == "" || len(p.Member) > shmproto.MaxNameLen {
		g.attachment, g.valid = p.Attachment, true
		if occupant != nil {
			c.becomeAway(occupant)
		}
		return
	}
	name := Member{e.Gateway, p.Member}
	m := c.byName[name]
	if m != nil && m.shown() && p.Attachment == m.pub.attachment && p.Incarnation == m.pub.incarnation && p.Seq < m.pub.seq {
		g.stale++ // an older slot of the same agent
		return
	}
	g.attachment, g.valid = p.Attachment, true
	if occupant != nil && occupant != m {
		c.becomeAway(occupant) // the slot has changed hands
	}
	if p.State == shmproto.MemberLeft {
		if m != nil && !m.gone {
			c.arrive(m, g, e.Slot, true)
			c.becomeGone(m)
		}
		return
	}
	known := m != nil
	if !known {
		if m = c.join(g, name); m == nil {
			return
		}
	}
	arrived := c.arrive(m, g, e.Slot, known)
	c.absorb(m, p, arrived)
}

// arrive puts m into a slot and reports whether it was elsewhere before.
func (c *Coordinator) arrive(m *member, g *gateway, slot int, known bool) bool {
	if m.slot == slot {
		return false
	}
	if m.shown() {
		g.slots[m.slot] = nil // one instance in two slots: the newest word counts
	}
	c.becomeShown(m, g, slot, known)
	return true
}

// absorb brings everything about m in line with its publication.
func (c *Coordinator) absorb(m *member, p *shmproto.Publication, arrived bool) {
	refused := m.pub.state == shmproto.MemberRefused
	if m.pub.incarnation != p.Incarnation || !m.pub.has(shmproto.MemberGated) {
		m.gatedFrom = p.Seq
	}
	began := p.Attachment != m.pub.attachment || p.Incarnation != m.pub.incarnation
	changed := m.pub.update(p, c.now)
	if changed || arrived || began || !m.arrival.since.IsZero() {
		c.recognize(m, began)
	}
	if m.pub.state == shmproto.MemberRefused && !refused {
		c.notify(Notice{Kind: NoticeRefused, Member: m.name})
	}
	if changed || arrived {
		c.reveal(m)
		c.vet(m)
		c.restate(m)
		c.adopt(m)
		c.reclaim(m)
		c.endLeft(m)
		c.touch(m)
	} else if m.atGate() {
		c.touch(m) // its agent was restarted, and Tor is as it was
	}
	c.pin(m, p.Layer2, p.Layer3)
	c.receive(m)
	if arrived {
		// The seat's word for this slot is nobody's or another's.
		c.writeAnew(m)
	}
}

// join enters a member that is not known, unless its gateway has shown too many.
// The members that are known for their claims alone count too: else a hostile
// gateway could claim without bound under ever new names. The one that is away
// for the longest time makes room.
func (c *Coordinator) join(g *gateway, name Member) *member {
	known := c.membersOf(g.name)
	var oldest *member
	if len(known) >= shmproto.MaxMembers {
		for _, m := range known {
			if !m.shown() && (oldest == nil || oldest.away.IsZero() || !m.away.IsZero() && m.away.Before(oldest.away)) {
				oldest = m
			}
		}
		if oldest == nil {
			return nil // cannot be: the slot that it came in is taken by none of them
		}
		c.notify(Notice{Kind: NoticeEvicted, Member: oldest.name, Reason: ReasonMembersCapped})
		for len(oldest.claims) > 0 {
			c.release(oldest.claims[0])
		}
		if len(oldest.exclusions) > 0 {
			c.order(oldest, nil)
		}
		c.forget(oldest)
	}
	m := c.addMember(name)
	if oldest != nil {
		// Its budgets are the newcomer's, and so is the free exchange that it had:
		// new names are no new budgets.
		m.account, m.sample, m.sampled = oldest.account, oldest.sample, oldest.sampled
		m.freed = oldest.freed
		if m.account != nil {
			c.saveAccount(m)
		}
	}
	return m
}
