package coordinator

import (
	"slices"
	"time"

	"guardring/internal/guardstate"
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
	facts *facts    // what its member stated of the guard, for when nobody shows it
	// While it is in conflict and to be given up: when, and when the operator
	// allowed that it be done without charge. Zero: not drawn, not allowed.
	due, allowed time.Time

	// Volatile.
	at      *relay // its entry in the index; nil while it is not there
	inUse   bool   // as the last publication says
	noted   rival  // in the way, as the operator was told
	blocked string // the reason why its conflict is not resolved now, though it could be
}

// rival is what a claim is in conflict with.
type rival struct {
	other Member
	level Level
	over  Key // other's guard, where it is another relay
}

func (cl *claim) live() bool { return cl.left.IsZero() }

// relay returns the guard's fingerprint.
func (cl *claim) relay() guardstate.Fingerprint {
	f, _ := cl.key.Relay()
	return f
}

func (c *Coordinator) nextStamp() Stamp {
	c.stamp++
	return Stamp{c.stamp, c.now}
}

func (c *Coordinator) saveClaim(cl *claim) {
	c.save(Record{Kind: RecordClaim, Gateway: cl.m.name.Gateway, Instance: cl.m.name.Instance,
		Key: cl.key, Stamp: cl.stamp, Used: cl.used, Left: cl.left, Facts: cl.facts.export(cl.relay()), Due: cl.due, Allowed: cl.allowed})
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
		cl.undo()
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
	var claimed [shmproto.MaxGuards]bool // or not visible
	for i := range p.guards {
		claimed[i] = !p.visible(i)
	}
	// Backwards: leave may take the claim out of the list.
	for j := len(m.claims) - 1; j >= 0; j-- {
		cl := m.claims[j]
		i := p.find(cl.key)
		switch {
		case i >= 0 && claims(p.guards[i]):
			if !cl.live() {
				cl.inUse = false // it comes back below, if there is a token for it
				continue
			}
			claimed[i] = true
			c.renew(cl, p.guards[i])
		case cl.live() && !p.keeps(i):
			c.leave(cl)
		default:
			cl.inUse = false
		}
	}
	excess, waiting := 0, 0
	// Guards in use come first: where room or tokens are short, they matter most.
	for _, inUse := range [...]bool{true, false} {
		for i, g := range p.guards {
			if claimed[i] || !claims(g) || g.has(shmproto.GuardInUse) != inUse {
				continue
			}
			claimed[i] = true
			switch c.admit(m, g) {
			case noRoom:
				excess++
			case noToken:
				waiting++
			}
		}
	}
	if excess > 0 && m.excess == 0 {
		c.notify(Notice{Kind: NoticeCapped, Member: m.name, Count: excess})
	}
	m.excess = excess
	var due time.Time
	if waiting > 0 {
		_, due = c.left(m, BudgetNewClaims)
	}
	c.lacks(m, BudgetNewClaims, waiting, due)
}

// admission says whether a guard has become a claim.
type admission int

const (
	admitted admission = iota
	noRoom             // the member has as many claims as it may have
	noToken            // it has claimed too many guards lately
)

// renew: the publication makes again the claim that cl already is.
func (c *Coordinator) renew(cl *claim, g guard) {
	cl.inUse = g.has(shmproto.GuardInUse)
	changed := false
	if known := g.facts.over(cl.facts); !known.equal(cl.facts) {
		cl.facts = known // those of the index are m's own statement
		changed = true
	}
	if !cl.live() {
		c.revive(cl)
		changed = true
	}
	if cl.inUse && !cl.used {
		cl.used = true
		changed = true
		if cl.m.exclusion(cl.key) != nil {
			c.touchAround(cl.at) // what it leaves behind is a reason for others now
		}
	}
	if changed {
		c.saveClaim(cl)
	}
}

// admit makes a new claim, if there is room and a token for it. A retained claim
// makes room for a live one, the one left longest ago first. This is the one place
// in which new claims come into being. A claim that comes back is a new one too:
// else one could ask about a guard again and again.
func (c *Coordinator) admit(m *member, g guard) admission {
	k, inUse := RelayKey(g.id), g.has(shmproto.GuardInUse)
	old := m.claim(k)
	if old != nil && old.live() {
		return admitted // the guard is shown twice
	}
	if old != nil {
		if !c.payClaim(m) {
			return noToken
		}
		c.renew(old, g)
		return admitted
	}
	// A retained claim makes room: its own, or one of another member of the gateway.
	var oldest *claim
	var full []*member
	if len(m.claims) >= c.cfg.MaxClaims {
		full = []*member{m}
	} else if c.gatewayFull(m.name.Gateway) {
		full = c.membersOf(m.name.Gateway)
	}
	for _, o := range full {
		for _, cl := range o.claims {
			if !cl.live() && (oldest == nil || cl.left.Before(oldest.left)) {
				oldest = cl
			}
		}
	}
	if full != nil && oldest == nil {
		return noRoom
	}
	if !c.payClaim(m) {
		return noToken
	}
	if oldest != nil {
		c.release(oldest)
		c.notify(Notice{Kind: NoticeEvicted, Member: oldest.m.name, Key: oldest.key, Stamp: oldest.stamp})
	}
	cl := &claim{m: m, key: k, stamp: c.nextStamp(), used: inUse, inUse: inUse, facts: g.facts}
	c.attach(cl)
	c.saveClaim(cl)
	return admitted
}

// gatewayFull: the gateway's members have as many claims as they may have together.
func (c *Coordinator) gatewayFull(gateway string) bool {
	if c.cfg.MaxGatewayClaims < 0 {
		return false
	}
	n := 0
	for _, m := range c.membersOf(gateway) {
		n += len(m.claims)
	}
	return n >= c.cfg.MaxGatewayClaims
}

// payClaim pays for a new claim. What takes the place of a guard that an order of
// ours took away is free.
func (c *Coordinator) payClaim(m *member) bool {
	if a := m.account; a != nil && a.Owed > 0 && c.gratis != m {
		a.Owed--
		c.saveAccount(m)
		return true
	}
	return c.pay(m, BudgetNewClaims)
}
