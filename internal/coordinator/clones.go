package coordinator

import (
	"cmp"
	"slices"
	"time"

	"guardring/shmproto"
)

// Clones: a VM, or a Tor's data directory, is copied, and the copy goes on with
// the guards of the original.
//
// A clone is the later one (by when it became known) of two members that show
// the same sample. Both stay as they are and the operator is told: to move some
// guards now and all of them with `guardring-guest fresh` later would cost twice.
// It is over when their samples differ; the first of the two that shows a new
// sample is taken in as a newcomer, without charge, once.
//
// What a hostile gateway could make of it. To be taken for another's clone it has
// to show three quarters of the other's sample, in its order. Orders tell it at
// most claims, one at a time and budgeted, never a sample; it cannot guess one
// (see leastCommon). If it knows one because it is a copy itself, or read the
// other's disk, it gains:
//   - that conflicts between the two are not resolved. It can have that by not
//     obeying. The other one is not moved either, and nobody else is concerned:
//     conflicts of both with third members are resolved as always.
//   - a second join's budget for a new sample. It can also show its own sample
//     under a second name to get that. But what it asked under the clone's name
//     until then it could have asked under the original's: the same guards, the
//     same answers. So per name it asks no more new questions than a join gives,
//     and names are bounded (shmproto.MaxMembers, known for the retention). A
//     second exchange within the retention is charged.
//   - as the one that was known first: the other is named as its clone. For that
//     it has to show the sample before the other ever came.

// Reasons of NoticeResolved and NoticeFresh.
const (
	ReasonSamplesDiffer = "it is a clone no more: their samples differ"
	ReasonFreshAgain    = "it had its free exchange before: charged"
)

// origin is what tells a copy from an original, and an old state from the
// present one. It is part of member.
type origin struct {
	// Durable.
	joined     uint64    // its place in the order in which members became known; 0: before all (an older ledger)
	cloneOf    Member    // the member that had this sample before
	rolledBack time.Time // when it was named so; zero: not, or long ago
	freed      time.Time // when it had a free exchange
	obeyed     uint64    // the seq of the order that it had answered "applied" when it was last hidden
	generation string    // of its gateway's VM when it was last seen; "" while not known

	// Volatile.
	drawn   sample // shown last; survives being away
	listed  int    // its place in the list of samples, if it has one
	arrival arrival
}

// comparePlace orders members by when they became known.
func (m *member) comparePlace(o *member) int {
	return cmp.Or(cmp.Compare(m.joined, o.joined), m.name.Compare(o.name))
}

// takePlace gives m the last place in the order in which members became known.
func (c *Coordinator) takePlace(m *member) {
	c.joins++
	m.joined = c.joins
}

// recognize looks at m's publication for a copied or an old state. It is called
// before the claims follow the publication. began: it is the first one of an
// attachment or incarnation.
func (c *Coordinator) recognize(m *member, began bool) {
	if began {
		m.arrival = arrival{since: c.now}
	}
	p := &m.pub
	if p.state == shmproto.MemberRefused || p.partial() {
		return
	}
	renewed := false
	if p.shows(m.drawn) {
		m.drawn = p.ids // not two copies
	} else if s := p.sample(); s != nil {
		renewed = m.renewed(s)
		c.setSample(m, s)
		c.compareSample(m, renewed)
	}
	if !m.arrival.since.IsZero() {
		c.judge(m, renewed)
	}
}

// renewed: s is not what m had, whether known from its last sample or, after a
// coordinator's start, from its claims.
func (m *member) renewed(s sample) bool {
	if m.drawn != nil {
		return m.drawn.renewed(s)
	}
	for _, cl := range m.claims {
		for _, f := range s {
			if cl.key == RelayKey(f) {
				return false
			}
		}
	}
	return len(m.claims) > 0
}

// compareSample brings up to date who is whose clone, after m's sample changed.
func (c *Coordinator) compareSample(m *member, renewed bool) {
	same := c.withSameSample(m)
	has := func(o *member) bool { return slices.Contains(same, o) }
	reason := ReasonSamplesDiffer
	if renewed {
		reason = "" // exchange tells
	}
	freed := false
	free := func(clone *member, other Member) { // clone: whose name the exchange goes by
		if !renewed || freed {
			return
		}
		freed = true
		c.exchange(m, clone, other)
	}
	if o := c.original(m); o != nil && !has(o) && (o.drawn != nil || renewed) {
		free(m, o.name)
		c.endClone(m, reason)
	}
	for _, o := range slices.Clone(c.copies) {
		if o.cloneOf == m.name && !has(o) && (o.drawn != nil || renewed) {
			free(o, o.name)
			c.endClone(o, reason)
			c.pair(o, c.withSameSample(o)) // it may be a third one's, too
		}
	}
	c.pair(m, same)
}

// pair names the later of m and each of those who have its sample.
func (c *Coordinator) pair(m *member, same []*member) {
	for _, o := range same {
		if m.comparePlace(o) < 0 {
			c.becomeClone(o, m)
		} else {
			c.becomeClone(m, o)
		}
	}
}

// original returns the member whose clone m is, or nil.
func (c *Coordinator) original(m *member) *member {
	if m.cloneOf.IsZero() {
		return nil
	}
	return c.byName[m.cloneOf]
}

// setOriginal notes whose clone m is; the zero Member: nobody's.
func (c *Coordinator) setOriginal(m *member, original Member) {
	m.cloneOf = original
	i, found := slices.BinarySearchFunc(c.copies, m.name, func(o *member, n Member) int { return o.name.Compare(n) })
	switch {
	case original.IsZero() && found:
		c.copies = slices.Delete(c.copies, i, i+1)
	case !original.IsZero() && !found:
		c.copies = slices.Insert(c.copies, i, m)
	}
}

// becomeClone names m as o's clone. Of several originals the first one counts.
func (c *Coordinator) becomeClone(m, o *member) {
	if old := c.original(m); old != nil && old.comparePlace(o) <= 0 {
		return
	}
	c.setOriginal(m, o.name)
	c.saveMember(m)
	c.notify(Notice{Kind: NoticeClone, Member: m.name, Other: o.name})
	c.touchCopies()
}

// endClone: m is nobody's clone any more. Reason "": the operator is told
// otherwise.
func (c *Coordinator) endClone(m *member, reason string) {
	if reason != "" {
		c.notify(Notice{Kind: NoticeResolved, Member: m.name, Other: m.cloneOf, Reason: reason})
	}
	c.touchCopies()
	if o := c.original(m); o != nil {
		c.touch(o)
	}
	c.setOriginal(m, Member{})
	c.saveMember(m)
	c.touch(m)
}

// touchCopies plans everyone anew who is, or has, a clone: what stands in whose
// way has changed.
func (c *Coordinator) touchCopies() {
	for _, m := range c.copies {
		if o := c.original(m); o != nil {
			c.touch(m)
			c.touch(o)
		}
	}
}

// exchange: m, which was named a clone or as having one, shows a new sample.
func (c *Coordinator) exchange(m, clone *member, other Member) {
	n := Notice{Kind: NoticeFresh, Member: m.name, Other: other}
	recent := func(t time.Time) bool { return !t.IsZero() && c.now.Before(t.Add(c.cfg.Retention)) }
	if recent(m.freed) || recent(clone.freed) {
		n.Reason = ReasonFreshAgain
		c.notify(n)
		return
	}
	m.freed, clone.freed = c.now, c.now
	c.saveMember(m)
	if clone != m {
		c.saveMember(clone)
	}
	c.rejoin(m)
	c.notify(n)
}

// copies reports whether two members have one sample between them.
func (m *member) copies(o *member) bool {
	if m.cloneOf.IsZero() && o.cloneOf.IsZero() {
		return false
	}
	return m.cloneOf == o.name || o.cloneOf == m.name || m.cloneOf == o.cloneOf
}

// forgetOrigin: m has left or is forgotten. Its clones are clones no more, or
// those of the next one.
func (c *Coordinator) forgetOrigin(m *member) {
	c.setSample(m, nil)
	if !m.cloneOf.IsZero() {
		c.endClone(m, "")
	}
	m.arrival = arrival{}
	for _, o := range slices.Clone(c.copies) {
		if o.cloneOf == m.name {
			c.endClone(o, ReasonMemberLeft)
			c.pair(o, c.withSameSample(o))
		}
	}
}

// applyOrigin takes in what a record of the member says.
func (c *Coordinator) applyOrigin(m *member, r *Record) {
	c.setOriginal(m, r.CloneOf)
	m.joined, m.rolledBack = r.Joined, r.RolledBack
	m.freed, m.obeyed, m.generation = r.Freed, r.Obeyed, r.Generation
	c.joins = max(c.joins, r.Joined)
}

// distinctPlaces gives the members new places, in their old order, if two have the
// same one: two coordinators wrote the ledger that an earlier build has read, and each
// gave it to another member. The order is the same for every reader.
func (c *Coordinator) distinctPlaces() {
	all := slices.SortedFunc(slices.Values(c.members), (*member).comparePlace)
	alike := false
	for i := 1; i < len(all); i++ {
		alike = alike || all[i].joined != 0 && all[i].joined == all[i-1].joined
	}
	for i, m := range all {
		if alike && m.joined != 0 {
			m.joined = uint64(i + 1)
			c.joins = max(c.joins, m.joined)
		}
	}
}

// knownOriginals forgets originals that a ledger does not name as such: it was written
// by several.
func (c *Coordinator) knownOriginals() {
	for _, m := range slices.Clone(c.copies) {
		if o := c.original(m); o == nil || m.gone || o.gone || o.comparePlace(m) >= 0 {
			c.setOriginal(m, Member{})
		}
	}
}
