package coordinator

import (
	"cmp"
	"slices"
	"time"

	"guardring/shmproto"
)

// claim is a member's hold on a guard. It is live while the member uses the
// guard or has it as a primary, and retained after it used it and left.
type claim struct {
	m   *member
	key Key

	// Durable.
	stamp Stamp
	used  bool      // was in use at some time since the stamp
	left  time.Time // since when it is retained; zero while it is live

	// Volatile.
	inUse bool    // as the last publication says
	noted *member // who holds the guard, as the operator was told
}

func (cl *claim) live() bool { return cl.left.IsZero() }

// holders is the index entry of a key: who claims it, in the order of their
// stamps, and who is expected to come.
type holders struct {
	claims  []*claim
	expects []expect
}

// expect is a guard that a member does not claim yet: because it is on its way
// there by an order (reserved), or because the guard is next in line. It makes
// no one move; it only keeps others from being led there.
type expect struct {
	m        *member
	key      Key
	reserved bool
}

func (c *Coordinator) entry(k Key) *holders {
	h := c.index[k]
	if h == nil {
		h = &holders{}
		c.index[k] = h
	}
	return h
}

func (c *Coordinator) tidy(k Key, h *holders) {
	if len(h.claims) == 0 && len(h.expects) == 0 {
		delete(c.index, k)
	}
}

// file puts cl into the index by its stamp.
func (c *Coordinator) file(cl *claim) {
	h := c.entry(cl.key)
	i, _ := slices.BinarySearchFunc(h.claims, cl, func(a, b *claim) int { return cmp.Compare(a.stamp.Counter, b.stamp.Counter) })
	h.claims = slices.Insert(h.claims, i, cl)
	for _, o := range h.claims {
		if o.m != cl.m && o.m.exclusion(o.key) != nil {
			c.touch(o.m) // it was told to go and is still there: now in conflict with cl.m too
		}
	}
	for _, e := range h.expects {
		if e.reserved && e.m != cl.m {
			c.touch(e.m) // it was on its way to this guard: better told before it arrives
		}
	}
}

// unfile takes cl out of the index. Members in conflict with it are looked at
// again: it may have been the only obstacle.
func (c *Coordinator) unfile(cl *claim) {
	h := c.index[cl.key]
	h.claims = slices.DeleteFunc(h.claims, func(o *claim) bool { return o == cl })
	c.touchOpponents(cl)
	c.tidy(cl.key, h)
}

// touchOpponents has the members that cl stood in the way of planned again.
func (c *Coordinator) touchOpponents(cl *claim) {
	if h := c.index[cl.key]; h != nil {
		for _, o := range h.claims {
			if o.noted == cl.m {
				c.touch(o.m)
			}
		}
	}
}

func (c *Coordinator) nextStamp() Stamp {
	c.stamp++
	return Stamp{c.stamp, c.now}
}

func (c *Coordinator) saveClaim(cl *claim) {
	c.save(Record{Kind: RecordClaim, Gateway: cl.m.name.Gateway, Instance: cl.m.name.Instance,
		Key: cl.key, Stamp: cl.stamp, Used: cl.used, Left: cl.left})
}

// attach adds a claim to its member and the index.
func (c *Coordinator) attach(cl *claim) {
	i, _ := slices.BinarySearchFunc(cl.m.claims, cl.key, func(o *claim, k Key) int { return o.key.Compare(k) })
	cl.m.claims = slices.Insert(cl.m.claims, i, cl)
	c.file(cl)
}

// detach is the reverse of attach.
func (c *Coordinator) detach(cl *claim) {
	cl.m.claims = slices.DeleteFunc(cl.m.claims, func(o *claim) bool { return o == cl })
	c.unfile(cl)
}

// release ends a claim.
func (c *Coordinator) release(cl *claim) {
	c.detach(cl)
	c.save(Record{Kind: RecordRelease, Gateway: cl.m.name.Gateway, Instance: cl.m.name.Instance, Key: cl.key})
	c.resolved(cl)
}

// leave: the member neither uses the guard nor has it as a primary any more.
func (c *Coordinator) leave(cl *claim) {
	cl.inUse = false
	if !cl.used {
		c.release(cl)
		return
	}
	if cl.live() {
		cl.left = c.now
		c.saveClaim(cl)
		c.schedule(c.now.Add(c.cfg.Retention))
		c.resolved(cl)
		c.touchOpponents(cl)
	}
}

// revive: the member has come back to a guard that it had left. It comes as a
// newcomer, with a new stamp: seniority does not outlive leaving, or one could
// return to push away whoever came in the meantime.
func (c *Coordinator) revive(cl *claim) {
	c.unfile(cl)
	cl.stamp, cl.left = c.nextStamp(), time.Time{}
	c.file(cl)
}

// claims reports whether the publication makes guard g a claim. A possible
// primary is none: a guess must not earn seniority. An excluded guard is none
// either, unless traffic still flows through it.
func claims(g guard) bool {
	if g.has(shmproto.GuardBridge) {
		return false
	}
	return g.has(shmproto.GuardInUse) || g.has(shmproto.GuardPrimary) && !g.has(shmproto.GuardExcluded)
}

// keeps reports whether the publication leaves an existing live claim as it is,
// although it does not make one. After an agent's restart the primaries are only
// possible; that must not cost a member its seniority.
func (p *publication) keeps(i int) bool {
	if i >= 0 {
		g := p.guards[i]
		if g.has(shmproto.GuardExcluded | shmproto.GuardBridge) {
			return false
		}
		if p.has(shmproto.MemberAmbiguous) && g.has(shmproto.GuardPossiblePrimary) {
			return true
		}
	}
	return p.partial()
}

// reclaim brings m's claims in line with its publication.
func (c *Coordinator) reclaim(m *member) {
	p := &m.pub
	var claimed [shmproto.MaxGuards]bool
	// Backwards: leave may take the claim out of the list.
	for j := len(m.claims) - 1; j >= 0; j-- {
		cl := m.claims[j]
		i := p.find(cl.key)
		switch {
		case i >= 0 && claims(p.guards[i]):
			claimed[i] = true
			c.renew(cl, p.guards[i].has(shmproto.GuardInUse))
		case cl.live() && !p.keeps(i):
			c.leave(cl)
		default:
			cl.inUse = false
		}
	}
	excess := 0
	// Guards in use come first: where room is short, they matter most.
	for _, inUse := range [...]bool{true, false} {
		for i, g := range p.guards {
			if claimed[i] || !claims(g) || g.has(shmproto.GuardInUse) != inUse {
				continue
			}
			claimed[i] = true
			if !c.admit(m, RelayKey(g.id), inUse) {
				excess++
			}
		}
	}
	if excess > 0 && m.excess == 0 {
		c.notify(Notice{Kind: NoticeCapped, Member: m.name, Count: excess})
	}
	m.excess = excess
}

// renew: the publication makes again the claim that cl already is.
func (c *Coordinator) renew(cl *claim, inUse bool) {
	cl.inUse = inUse
	changed := false
	if !cl.live() {
		c.revive(cl)
		changed = true
	}
	if inUse && !cl.used {
		cl.used = true
		changed = true
	}
	if changed {
		c.saveClaim(cl)
	}
}

// admit makes a new claim, if there is room. A retained claim makes room for a
// live one, the one left longest ago first. This is the one place in which new
// claims come into being (budgets belong here).
func (c *Coordinator) admit(m *member, k Key, inUse bool) bool {
	if old := m.claim(k); old != nil {
		return true // the guard is shown twice
	}
	if len(m.claims) >= c.cfg.MaxClaims {
		var oldest *claim
		for _, cl := range m.claims {
			if !cl.live() && (oldest == nil || cl.left.Before(oldest.left)) {
				oldest = cl
			}
		}
		if oldest == nil {
			return false
		}
		c.release(oldest)
		c.notify(Notice{Kind: NoticeEvicted, Member: m.name, Key: oldest.key, Stamp: oldest.stamp})
	}
	cl := &claim{m: m, key: k, stamp: c.nextStamp(), used: inUse, inUse: inUse}
	c.attach(cl)
	c.saveClaim(cl)
	return true
}

// expect replaces m's expectations.
func (c *Coordinator) expect(m *member, want []expect) {
	if slices.Equal(m.expects, want) {
		return
	}
	for _, e := range m.expects {
		h := c.index[e.key]
		h.expects = slices.DeleteFunc(h.expects, func(o expect) bool { return o == e })
		c.tidy(e.key, h)
	}
	m.expects = append(m.expects[:0], want...)
	for _, e := range m.expects {
		h := c.entry(e.key)
		h.expects = append(h.expects, e)
	}
}
