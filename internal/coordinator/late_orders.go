package coordinator

import (
	"cmp"
	"slices"

	"guardring/shmproto"
)

// joinOrders adds late exclusions to those of the members, and gives each order the number
// that it must have now.
func (l *lately) joinOrders(c *Coordinator, all []*tardy) {
	own := make([][]Exclusion, len(all))
	for i, t := range all {
		if t.m == nil {
			continue
		}
		own[i] = t.m.exclusions
		if !t.m.gone && !l.ended[t.name] && !l.said[subject{kind: RecordOrder, member: t.name}] {
			t.exclude(c.cfg.MaxExclusions)
		}
	}
	for i, t := range all {
		if t.m != nil {
			t.drop(c, own[i])
		}
	}
	for i, t := range all {
		t.number(c, own[i])
	}
}

// exclude adds to the member's exclusions what late orders have besides. Those of its own
// claims come first, where there is no room for all.
func (t *tardy) exclude(most int) {
	var late []Exclusion
	for _, r := range t.orders {
		late = append(late, r.Exclusions...)
	}
	slices.SortFunc(late, func(a, b Exclusion) int {
		return cmp.Or(first(a.Why == WhyConflict, b.Why == WhyConflict), a.Key.Compare(b.Key), b.Since.Compare(a.Since), a.For.Compare(b.For), cmp.Compare(a.Why, b.Why),
			cmp.Compare(a.Level, b.Level), a.Over.Compare(b.Over), cmp.Compare(a.Stamp.Counter, b.Stamp.Counter), a.Stamp.At.Compare(b.Stamp.At), first(a.Obeyed, b.Obeyed))
	})
	union := slices.Clone(t.m.exclusions)
	for _, x := range late {
		if len(union) < most && !slices.ContainsFunc(union, func(y Exclusion) bool { return x.Key == y.Key }) {
			union = append(union, x)
		}
	}
	slices.SortFunc(union, func(a, b Exclusion) int { return a.Key.Compare(b.Key) })
	t.m.exclusions = union
}

// drop takes away late exclusions by which both of two members would move: where the
// other one moved for this one, their coordinator had seen both, in regions that it had
// fenced, and the late order never counted.
func (t *tardy) drop(c *Coordinator, own []Exclusion) {
	m := t.m
	m.exclusions = slices.DeleteFunc(m.exclusions, func(x Exclusion) bool {
		if slices.ContainsFunc(own, func(y Exclusion) bool { return x.Key == y.Key }) {
			return false
		}
		o := c.byName[x.For]
		if o != nil && slices.ContainsFunc(o.exclusions, func(y Exclusion) bool {
			return y.For == m.name && (y.guard() == x.Key || y.guard() == x.guard() || y.Key == x.guard())
		}) {
			return true
		}
		if x.Why == WhyConflict {
			t.kept++
		}
		return false
	})
}

// number gives the member's order a number that has never stood for another set, and
// leaves it the one that it has where it can.
func (t *tardy) number(c *Coordinator, own []Exclusion) {
	var seq uint64
	for _, r := range t.orders {
		seq = max(seq, r.Seq)
	}
	m := t.m
	if m == nil {
		c.raiseFloor(t.name.Gateway, seq)
		return
	}
	type meaning struct {
		answers shmproto.Answers
		all     []Exclusion
	}
	var meanings []meaning
	if m.seq >= seq {
		meanings = append(meanings, meaning{m.answers, own})
	}
	seq = max(seq, m.seq)
	for _, r := range t.orders {
		if r.Seq == seq {
			meanings = append(meanings, meaning{r.Answers, r.Exclusions})
		}
	}
	if m.seq = seq; seq == 0 {
		return // nobody was ever ordered anything
	}
	slices.SortFunc(meanings, func(x, y meaning) int {
		a, b := x.answers, y.answers
		return cmp.Or(cmp.Compare(a.Attachment, b.Attachment), cmp.Compare(a.Incarnation, b.Incarnation), cmp.Compare(a.Seq, b.Seq))
	})
	m.answers = meanings[0].answers
	for _, x := range meanings { // its digest has the publication that it answers, too
		if x.answers != m.answers || !same(x.all, m.exclusions) {
			m.seq = seq + 1
		}
	}
}
