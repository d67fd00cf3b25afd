package coordinator

import (
	"time"

	"guardring/shmproto"
)

// Rollbacks: a VM is reverted to a snapshot, or its files are restored, and the
// Tor inside uses again what it had given up.
//
// A rollback is only named: the claims come as a newcomer's, as of any member
// that returns to a guard, and are charged like that; and the order, which still
// stands, is applied again by the agent. Three signs tell of one, at the
// beginning of an attachment or incarnation:
//   - an exclusion that the member had answered "applied" is not in force. An
//     include file that somebody emptied by hand looks the same, so the words
//     say what is seen.
//   - guards that it used and had left are back, and one that it used since is
//     unconfirmed or not sampled. Tor forgets neither by itself. Both are wanted
//     because guards also come back when a consensus lists them again, and the
//     newest confirmation is also lost when Tor is killed within 30 seconds of it.
//   - its VM has a new generation ID, and the sample is not a new one.
//
// Whoever shows these signs on purpose tells only of itself, and not more often
// than once in rollbackAgain.
const (
	rollbackShown = 7 * day          // how long status shows it
	rollbackAgain = time.Hour        // until it is named again
	judgedWithin  = 10 * time.Minute // of a beginning: how long guards that come back count as a sign
	leastReturned = 2                // guards that come back
)

// Reasons of NoticeRollback.
const (
	ReasonExclusionLost = "a guard that it had given up is not excluded any more"
	ReasonGuardsBack    = "guards that it had left are back, and newer ones are gone"
	ReasonGeneration    = "its VM has a new generation, and the sample is the old one"
)

// arrival is the time between a member's beginning and the moment when it is
// clear in what state it came.
type arrival struct {
	since    time.Time // zero: over
	judged   bool      // a whole publication was looked at
	lost     bool      // a guard that it used is not confirmed, or not in the sample
	returned int       // guards that it had left and that are back
}

// judge looks whether m came back in an old state, with its claims as they were
// before the present publication. renewed: it came with a new sample, as
// `guardring-guest fresh` makes it, which explains everything else.
func (c *Coordinator) judge(m *member, renewed bool) {
	p, a := &m.pub, &m.arrival
	first := !a.judged
	a.judged = true
	reverted := first && c.newGeneration(m)
	if renewed {
		*a = arrival{}
		return
	}
	for _, cl := range m.claims {
		i := p.find(cl.key)
		switch {
		case !cl.live():
			if i >= 0 && claims(p.guards[i]) {
				a.returned++
			}
		case first && cl.used && !p.has(shmproto.MemberTruncated):
			a.lost = a.lost || i < 0 || !p.guards[i].has(shmproto.GuardConfirmed)
		}
	}
	reason := ""
	switch {
	case reverted:
		reason = ReasonGeneration
	case first && m.exclusionLost():
		reason = ReasonExclusionLost
	case a.lost && a.returned >= leastReturned:
		reason = ReasonGuardsBack
	}
	if reason != "" {
		c.becomeRolledBack(m, reason)
	}
	// As long as its primaries are not known, more guards may turn out to be back.
	if reason != "" || !p.has(shmproto.MemberAmbiguous) || !c.now.Before(a.since.Add(judgedWithin)) {
		*a = arrival{}
	}
}

// exclusionLost: a guard that m had given up is shown, and not excluded.
func (m *member) exclusionLost() bool {
	p := &m.pub
	if p.state != shmproto.MemberPresent || p.selection != shmproto.SelectionDefault {
		return false
	}
	all := m.obeys()
	for _, x := range m.exclusions {
		if i := p.find(x.Key); (all || x.Obeyed) && i >= 0 && !p.guards[i].has(shmproto.GuardExcluded) {
			return true
		}
	}
	return false
}

// obeys: m has answered its present order with "applied".
func (m *member) obeys() bool {
	return m.seq > 0 && (m.answer == shmproto.ReceiptApplied || m.obeyed == m.seq)
}

// noteObeyed marks those exclusions of a new order that m has obeyed already.
func (m *member) noteObeyed(all []Exclusion) {
	if !m.obeys() {
		return
	}
	for i := range all {
		if m.exclusion(all[i].Key) != nil {
			all[i].Obeyed = true
		}
	}
}

// newGeneration: m's VM was cloned or rolled back since m was seen last.
func (c *Coordinator) newGeneration(m *member) bool {
	g := c.gatewayOf[m.name.Gateway]
	if g == nil || g.generation == "" || g.generation == m.generation {
		return false
	}
	known := m.generation != ""
	m.generation = g.generation
	c.saveMember(m)
	return known
}

// generationSeen notes a gateway's VM generation. When it changes under the
// members' feet, a snapshot was reverted in the running VM: agents go on with an
// old sequence number, and must not be taken for stale. What is told for the first time
// after their first word, by a libvirt that was slow, is the generation of that word.
func (c *Coordinator) generationSeen(g *gateway, generation string) {
	if generation == "" || generation == g.generation {
		return
	}
	changed := g.generation != ""
	g.generation = generation
	for _, m := range g.slots {
		switch {
		case m == nil:
		case changed:
			m.pub.seq = 0
			m.arrival = arrival{since: c.now}
		case m.generation == "":
			m.generation = generation
			c.saveMember(m)
		}
	}
}

// becomeRolledBack names m. What it had obeyed it has to obey again.
func (c *Coordinator) becomeRolledBack(m *member, reason string) {
	if !m.rolledBack.IsZero() && c.now.Before(m.rolledBack.Add(rollbackAgain)) {
		return
	}
	m.rolledBack, m.obeyed = c.now, 0
	m.answer, m.reason = shmproto.ReceiptNone, shmproto.ReasonNone
	obeyed := false
	for i := range m.exclusions {
		obeyed = obeyed || m.exclusions[i].Obeyed
		m.exclusions[i].Obeyed = false
	}
	if obeyed {
		c.saveOrder(m)
	}
	c.saveMember(m)
	c.notify(Notice{Kind: NoticeRollback, Member: m.name, Reason: reason})
	c.schedule(c.now.Add(rollbackShown))
}

// endRollback ends the naming of a rollback when it is old.
func (c *Coordinator) endRollback(m *member) {
	if m.rolledBack.IsZero() {
		return
	}
	if end := m.rolledBack.Add(rollbackShown); c.now.Before(end) {
		c.schedule(end)
		return
	}
	m.rolledBack = time.Time{}
	c.saveMember(m)
}
