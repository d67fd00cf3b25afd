package coordinator

import (
	"slices"
	"time"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// exclude adds to m's order.
func (c *Coordinator) exclude(m *member, added []Exclusion) {
	c.charge(m, added)
	all := slices.Concat(m.exclusions, added)
	slices.SortFunc(all, func(a, b Exclusion) int { return a.Key.Compare(b.Key) })
	c.order(m, all)
	for _, x := range added {
		c.notifyExclusion(NoticeExcluded, m, x)
		c.schedule(x.Since.Add(c.cfg.Hold))
		c.decided(m, x)
	}
}

// order makes all m's order, with a new number, and writes it.
func (c *Coordinator) order(m *member, all []Exclusion) {
	m.noteObeyed(all)
	m.exclusions = all
	m.seq = max(m.seq, c.floorOf(m.name.Gateway)) + 1
	m.answers = shmproto.Answers{Attachment: m.pub.attachment, Incarnation: m.pub.incarnation, Seq: m.pub.seq}
	m.answer, m.reason = shmproto.ReceiptNone, shmproto.ReasonNone
	c.saveOrder(m)
	c.writeAnew(m)
}

func (c *Coordinator) saveOrder(m *member) {
	c.save(Record{Kind: RecordOrder, Gateway: m.name.Gateway, Instance: m.name.Instance,
		Seq: m.seq, Answers: m.answers, Exclusions: slices.Clone(m.exclusions)})
}

// writeAnew writes m's order and counts its tries from one again.
func (c *Coordinator) writeAnew(m *member) {
	m.tries, m.unanswered = 0, false
	c.write(m)
}

// write asks for m's order to be written and rung for, unless there is none or
// nobody to read it.
func (c *Coordinator) write(m *member) {
	if m.seq == 0 || !m.shown() || c.gatewayOf[m.name.Gateway].inQuarantine() {
		return
	}
	o := c.slotOrder(m)
	same := func(p SlotOrder) bool { return p.Gateway == o.Gateway && p.Slot == o.Slot }
	if i := slices.IndexFunc(c.ready.Orders, same); i >= 0 {
		c.ready.Orders[i] = o // decided twice in one step
	} else {
		c.ready.Orders = append(c.ready.Orders, o)
	}
	if m.awaited() {
		m.nextTry = c.now.Add(c.cfg.RetryAfter << m.tries)
		m.tries++
		c.schedule(m.nextTry)
	}
}

// awaited: m's order is there to be answered, and is not.
func (m *member) awaited() bool {
	return m.seq > 0 && m.shown() && m.answer == shmproto.ReceiptNone && m.pub.state == shmproto.MemberPresent
}

func (c *Coordinator) slotOrder(m *member) SlotOrder {
	return SlotOrder{Gateway: m.name.Gateway, Slot: m.slot, Order: shmproto.Order{
		Epoch:      c.cfg.Epoch,
		Seq:        shmproto.Seq(m.seq),
		Member:     m.name.Instance,
		Answers:    m.answers,
		Exclusions: m.fingerprints(),
	}}
}

// fingerprints returns the exclusions as an order carries them.
func (m *member) fingerprints() []guardstate.Fingerprint {
	fs := make([]guardstate.Fingerprint, 0, len(m.exclusions))
	for _, x := range m.exclusions { // sorted by key: so are the fingerprints
		if f, ok := x.Key.Relay(); ok {
			fs = append(fs, f)
		}
	}
	return fs
}

// Orders returns the current order of every member that is shown in a slot, for
// a host seat that was just taken. After Restore it is empty: each order comes
// with its member's next publication.
func (c *Coordinator) Orders() []SlotOrder {
	var all []SlotOrder
	for _, m := range c.members {
		if m.seq > 0 && m.shown() && !c.gatewayOf[m.name.Gateway].inQuarantine() {
			all = append(all, c.slotOrder(m))
		}
	}
	return all
}

// receive looks at the receipt in m's publication. It counts only if it answers
// the present order: the digest covers everything in it. The term
// is the receipt's own, because an order that outlives a take-over stays the
// same order.
func (c *Coordinator) receive(m *member) {
	r := &m.pub.receipt
	if m.seq == 0 || r.Epoch != c.cfg.Epoch || uint64(r.Seq) != m.seq || r.Status == shmproto.ReceiptNone {
		return
	}
	if r.Status == m.answer && r.Reason == m.reason {
		return
	}
	o := c.slotOrder(m).Order
	o.Term = r.Term
	if r.Digest != o.Digest() {
		return
	}
	first := r.Status != m.answer
	m.answer, m.reason = r.Status, r.Reason
	m.unanswered = false
	switch {
	case !first:
	case r.Status == shmproto.ReceiptApplied:
		c.notify(Notice{Kind: NoticeApplied, Member: m.name, Seq: m.seq})
	case r.Status == shmproto.ReceiptRefused, r.Status == shmproto.ReceiptFailed:
		c.notify(Notice{Kind: NoticeNotApplied, Member: m.name, Seq: m.seq, Reason: receiptReason(r.Reason)})
	}
	c.touch(m) // what it is expected to do may have changed
}

// retry rings again for an order that is not answered, a bounded number of times.
func (c *Coordinator) retry(m *member) {
	switch {
	case !m.awaited() || m.unanswered || m.tries == 0 || c.cfg.Policy == PolicyObserve:
	case c.now.Before(m.nextTry):
		c.schedule(m.nextTry)
	case m.tries < c.cfg.Tries:
		c.write(m)
	default:
		m.unanswered = true
		c.notify(Notice{Kind: NoticeUnanswered, Member: m.name, Seq: m.seq, Count: m.tries})
	}
}

// lookAgain is how often a conflict that could not be resolved, and an exclusion
// whose hold is over but which is still needed, are looked at again.
const lookAgain = 10 * time.Minute

// endLeft ends the exclusions of guards that have left m's sample.
func (c *Coordinator) endLeft(m *member) {
	if m.pub.wholeSample() {
		c.end(m, ReasonLeftSample, func(x Exclusion) bool { return m.pub.find(x.Key) < 0 })
	}
}

// endHeld ends the exclusions whose hold is over, unless another member claims
// the guard or one that is compared with it, or is on its way there.
func (c *Coordinator) endHeld(m *member) {
	c.end(m, ReasonHoldOver, func(x Exclusion) bool {
		if over := x.Since.Add(c.cfg.Hold); c.now.Before(over) {
			c.schedule(over)
			return false
		}
		if c.othersAt(m, x.Key) {
			c.schedule(c.now.Add(lookAgain))
			return false
		}
		return true
	})
}

// othersAt reports whether another member claims the guard k or one that is near
// it, or is on its way there.
func (c *Coordinator) othersAt(m *member, k Key) (others bool) {
	c.around(k, func(r *relay, _ Level) {
		others = others ||
			slices.ContainsFunc(r.claims, func(cl *claim) bool { return cl.m != m }) ||
			slices.ContainsFunc(r.expects, func(e expect) bool { return e.m != m && e.reserved })
	})
	return others
}

// end ends the exclusions for which over holds. A lifted exclusion is a guard
// change too, so nothing is lifted under observe, nor by a gateway in quarantine.
func (c *Coordinator) end(m *member, reason string, over func(Exclusion) bool) {
	if len(m.exclusions) == 0 || c.cfg.Policy == PolicyObserve {
		return
	}
	if g := c.gatewayOf[m.name.Gateway]; g != nil && g.inQuarantine() {
		return
	}
	var keep, ended []Exclusion
	for _, x := range m.exclusions {
		if over(x) {
			ended = append(ended, x)
		} else {
			keep = append(keep, x)
		}
	}
	if len(ended) == 0 {
		return
	}
	c.order(m, keep)
	for _, x := range ended {
		c.notify(Notice{Kind: NoticeLifted, Member: m.name, Key: x.Key, Seq: m.seq, Reason: reason})
		c.decided(m, x)
	}
	c.touch(m)
}

// decided has everyone planned again for whom it matters that m has the exclusion
// x, or has it no more: it says which of two claims is the one in conflict.
func (c *Coordinator) decided(m *member, x Exclusion) {
	if cl := m.claim(x.Key); cl != nil {
		c.touchAround(cl.at)
	}
	c.reconsider(m)
	if o := c.byName[x.For]; o != nil {
		c.reconsider(o)
	}
}

// adopt takes over the exclusions that are in force at a member that never had
// an order in this epoch: the ledger was rebuilt, and to lift them would be a
// guard change. Until the first order, what the member shows is followed: an
// exclusion that it drops was never told by us, so it does not count as told.
func (c *Coordinator) adopt(m *member) {
	if m.seq != 0 || m.pub.state != shmproto.MemberPresent {
		return
	}
	var found []Exclusion
	for _, x := range m.exclusions {
		if i := m.pub.find(x.Key); i < 0 || m.pub.guards[i].has(shmproto.GuardExcluded) {
			found = append(found, x)
		}
	}
	kept := len(found)
	for _, g := range m.pub.guards {
		if !g.has(shmproto.GuardExcluded) || g.has(shmproto.GuardBridge) {
			continue
		}
		k := RelayKey(g.id)
		known := slices.ContainsFunc(found, func(x Exclusion) bool { return x.Key == k })
		if !known && len(found) < c.cfg.MaxExclusions {
			found = append(found, Exclusion{Key: k, Since: c.now, Why: WhyAdopted})
		}
	}
	if len(found) == kept && kept == len(m.exclusions) {
		return
	}
	slices.SortFunc(found, func(a, b Exclusion) int { return a.Key.Compare(b.Key) })
	before := m.exclusions
	m.exclusions = found
	for _, x := range slices.Concat(before, found) {
		c.decided(m, x)
	}
	c.saveOrder(m)
	c.schedule(c.now.Add(c.cfg.Hold))
}

// notifyExclusion tells the operator of one guard of a decision.
func (c *Coordinator) notifyExclusion(kind NoticeKind, m *member, x Exclusion) {
	n := Notice{Kind: kind, Member: m.name, Other: x.For, Key: x.Key, Level: x.Level, Over: x.Over, Why: x.Why, Others: x.Stamp}
	if kind == NoticeExcluded {
		n.Seq = m.seq
	}
	if cl := m.claim(x.Key); cl != nil && cl.live() {
		n.Stamp = cl.stamp
		n.Cost = Cost{InUse: cl.inUse, Primary: true}
		if i := m.pub.find(x.Key); i >= 0 {
			n.Cost.Primary = m.pub.guards[i].has(shmproto.GuardPrimary | shmproto.GuardPossiblePrimary)
		}
	}
	c.notify(n)
}
