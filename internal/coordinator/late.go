package coordinator

import "slices"

// Late marks records that a stopped coordinator appended after its successor had read
// its ledger, and returns them. Restore takes them between the successor's snapshot and
// its own records, and has their orders take nothing away.
//
// The successor had fenced every region that it had before it read. So a late order never
// counted there, and the member still obeys its successor's. Only in a region that was
// attached later did the late order count, until then; and there the successor had given
// none. Nobody who replays the ledger knows which it was. So the member keeps both
// exclusions: what is too much goes with the next publication that shows that the guard
// has left the sample, or when its hold is over; what is too little would be a guard taken
// back within its hold.
func Late(records []Record) []Record {
	all := slices.Clone(records)
	for i := range all {
		all[i].Late = true
	}
	return all
}

// lately are the exclusions that members have by late orders alone.
type lately map[*member][]Key

// apply adds the exclusions of a late order to the member's own. A number that stands for
// one set already gets no other one.
func (l lately) apply(c *Coordinator, m *member, r *Record) {
	own, union := m.exclusions, slices.Clone(m.exclusions)
	for _, x := range r.Exclusions {
		if m.exclusion(x.Key) == nil && len(union) < c.cfg.MaxExclusions {
			union = append(union, x)
			l[m] = append(l[m], x.Key)
		}
	}
	slices.SortFunc(union, func(a, b Exclusion) int { return a.Key.Compare(b.Key) })
	standing := own // what the higher of the two numbers stands for
	if r.Seq > m.seq {
		standing, m.answers = r.Exclusions, r.Answers
	}
	clash := r.Seq == m.seq && !same(own, r.Exclusions)
	m.seq, m.exclusions = max(m.seq, r.Seq), union
	if clash || !same(union, standing) {
		m.seq++
	}
}

// drop takes away late exclusions by which both of two members would move: where the
// other one moved for this one, their coordinator had seen both, in regions that it had
// fenced, and the late order never counted.
func (l lately) drop(c *Coordinator) {
	for _, m := range c.members {
		was := len(m.exclusions)
		m.exclusions = slices.DeleteFunc(m.exclusions, func(x Exclusion) bool {
			o := c.byName[x.For]
			return slices.Contains(l[m], x.Key) && o != nil && (o.yielded(m.name, x.Key) || o.yielded(m.name, x.guard()))
		})
		if len(m.exclusions) != was {
			m.seq++
		}
	}
}
