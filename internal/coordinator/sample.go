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
	p := &m.pub
	p.hidden = 0
	c.open(m)
	budget := c.cfg.Budgets.SampleChanges
	if m.account == nil || budget.unlimited() {
		return
	}
	free := 0
	if !m.sampled {
		// The first sample since our start. What it was before is not in the
		// ledger: that would be a line for each change of a sample.
		free = budget.Join + budget.Burst
	}
	waiting := 0
	for _, class := range [...]shmproto.GuardFlags{shmproto.GuardInUse, shmproto.GuardPrimary, shmproto.GuardPossiblePrimary, 0} {
		for i, g := range p.guards {
			if classOf(g) != class || g.has(shmproto.GuardBridge) || m.sampledAt(i, g.id) {
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
			m.sample = append(m.sample, g.id)
		}
	}
	m.resample()
	_, next := c.left(m, BudgetSampleChanges)
	c.lacks(m, BudgetSampleChanges, waiting, next)
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

// sampledAt reports whether the guard was visible already. It is mostly at the
// same place as before.
func (m *member) sampledAt(i int, id guardstate.Fingerprint) bool {
	return i < len(m.sample) && m.sample[i] == id || slices.Contains(m.sample, id)
}

// resample makes the visible guards m's sample, in their order. Guards that are
// not shown stay in it, if the publication may not show all: to come back after a
// time without consensus costs nothing.
func (m *member) resample() {
	p := &m.pub
	old := m.sample
	var sample []guardstate.Fingerprint
	same := true
	for i, g := range p.guards {
		if p.visible(i) && !g.has(shmproto.GuardBridge) {
			same = same && len(sample) < len(old) && old[len(sample)] == g.id
			sample = append(sample, g.id)
		}
	}
	if same && len(sample) == len(old) {
		return
	}
	if !p.wholeSample() {
		for _, id := range old {
			if len(sample) < shmproto.MaxGuards && p.find(RelayKey(id)) < 0 {
				sample = append(sample, id)
			}
		}
	}
	m.sample = sample
}
