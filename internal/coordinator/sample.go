package coordinator

import (
	"slices"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// visible reports whether guard i of the sample counts. One that is new and found
// no token does not: else a member could ask about any guard by showing it.
func (p *publication) visible(i int) bool { return p.hidden&(1<<i) == 0 }

// reveal decides which of the guards that m shows are visible. Those of its last
// sample are, and what it claims or was told not to use; each other one costs a
// token, what is in use first.
func (c *Coordinator) reveal(m *member) {
	before := m.pub.hidden
	c.choose(m)
	m.pub.filed = m.pub.filed && m.pub.hidden == before
}

// choose does what reveal says.
func (c *Coordinator) choose(m *member) {
	p := &m.pub
	p.hidden = 0
	c.open(m)
	budget := c.cfg.Budgets.SampleChanges
	if m.account == nil || budget.unlimited() {
		return
	}
	waiting := 0
	if !m.showsSample() {
		waiting = c.buy(m, budget)
		m.resample()
	}
	_, next := c.left(m, BudgetSampleChanges)
	c.lacks(m, BudgetSampleChanges, waiting, next)
}

// buy makes those guards part of m's sample that are new and can be paid. It
// returns how many cannot.
func (c *Coordinator) buy(m *member, budget Budget) (waiting int) {
	p := &m.pub
	free := 0
	if !m.sampled {
		// The first sample since our start. What it was before is not in the
		// ledger: that would be a line for each change of a sample.
		free = budget.Join + budget.Burst
	}
	for _, class := range [...]shmproto.GuardFlags{shmproto.GuardInUse, shmproto.GuardPrimary, shmproto.GuardPossiblePrimary, 0} {
		for i, g := range p.guards {
			if classOf(g) != class || g.has(shmproto.GuardBridge) || m.sampledAt(i, g.id) >= 0 {
				continue
			}
			k := RelayKey(g.id)
			switch {
			case m.claim(k) != nil || m.exclusion(k) != nil:
			case free > 0:
				free--
				m.sampled = true
			case c.pay(m, BudgetSampleChanges):
			default:
				p.hidden |= 1 << i
				waiting++
				continue
			}
			m.sample = append(m.sample, seen{id: g.id})
		}
	}
	return waiting
}

// classOf says how urgent it is that a guard be visible.
func classOf(g guard) shmproto.GuardFlags {
	for _, f := range [...]shmproto.GuardFlags{shmproto.GuardInUse, shmproto.GuardPrimary, shmproto.GuardPossiblePrimary} {
		if g.has(f) {
			return f
		}
	}
	return 0
}

// seen is a guard of a member's sample that counts.
type seen struct {
	id   guardstate.Fingerprint
	said *facts // all that the member has stated of it
}

// showsSample reports whether m's publication shows exactly its sample, as it
// mostly does.
func (m *member) showsSample() bool {
	return slices.EqualFunc(m.sample, m.pub.guards, func(s seen, g guard) bool { return s.id == g.id && !g.has(shmproto.GuardBridge) })
}

// sampledAt returns the place in m's sample of guard i of its publication, -1 if
// it is not visible already. It is mostly at the same place as before.
func (m *member) sampledAt(i int, id guardstate.Fingerprint) int {
	if i < len(m.sample) && m.sample[i].id == id {
		return i
	}
	return slices.IndexFunc(m.sample, func(s seen) bool { return s.id == id })
}

// resample makes the visible guards m's sample, in their order. Guards that are
// not shown stay in it, if the publication may not show all: to come back after a
// time without consensus costs nothing.
func (m *member) resample() {
	p := &m.pub
	old := m.sample
	var sample []seen
	same := true
	for i, g := range p.guards {
		if p.visible(i) && !g.has(shmproto.GuardBridge) {
			s := seen{id: g.id}
			j := m.sampledAt(i, g.id)
			if j >= 0 {
				s = old[j]
			}
			same = same && j == len(sample)
			sample = append(sample, s)
		}
	}
	if same && len(sample) == len(old) {
		return
	}
	if !p.wholeSample() {
		for _, s := range old {
			if len(sample) < shmproto.MaxGuards && p.find(RelayKey(s.id)) < 0 {
				sample = append(sample, s)
			}
		}
	}
	m.sample = sample
}

// vet bounds the questions that m can ask by changing what it says of a guard:
// as a claim it is told if another had one near it first, and as a guard that
// comes next its order steers it around what is near others' guards. So each
// change costs a sample change, and without one left the old facts stay (and the
// publication is asked again when it comes next).
func (c *Coordinator) vet(m *member) {
	if m.account == nil || c.cfg.Budgets.SampleChanges.unlimited() {
		return
	}
	retains := slices.ContainsFunc(m.claims, func(cl *claim) bool { return !cl.live() })
	for i := range m.pub.guards {
		g := &m.pub.guards[i]
		at := m.sampledAt(i, g.id)
		if g.facts == nil || at < 0 || !m.pub.visible(i) {
			continue
		}
		s := &m.sample[at]
		if s.said == g.facts && !retains {
			continue // as ever
		}
		cl := m.claim(RelayKey(g.id))
		if s.said == nil && cl != nil {
			s.said = cl.facts // known from the ledger
		}
		if s.said.contradicts(g.facts) && !c.pay(m, BudgetSampleChanges) {
			g.facts = s.said
			m.pub.filed = false
			continue
		}
		s.said = g.facts.over(s.said)
		// Those of a live claim follow when it is renewed.
		if cl != nil && !cl.live() && !s.said.equal(cl.facts) {
			cl.facts = s.said
			c.saveClaim(cl)
		}
	}
}
