package coordinator

import (
	"cmp"
	"slices"

	"guardring/internal/guardstate"
)

// What is believed of a relay above its name.
//
// Gateways state it, and each may lie. So a statement counts only where no other
// statement contradicts it, and the operator's own consensus file overrules all.
// A lie that nobody can contradict is bounded otherwise: levels above the relay
// move only guards that were never used, and budgets bound how many.

// statement is what a shown member states about a relay.
type statement struct {
	m *member
	f *facts // not nil
}

// filing is a statement of a member, on the member's side.
type filing struct {
	id guardstate.Fingerprint
	f  *facts
}

// restate files what m's publication states about its guards, and takes back
// what it states no more.
func (c *Coordinator) restate(m *member) {
	p := &m.pub
	if p.filed {
		return
	}
	p.filed = true
	states := func(i int) bool { return p.guards[i].facts != nil && p.visible(i) }
	n := 0
	same := true
	for i := range p.guards {
		if states(i) {
			same = same && n < len(m.stated) && m.stated[n] == filing{p.guards[i].id, p.guards[i].facts}
			n++
		}
	}
	if same && n == len(m.stated) {
		return
	}
	before := m.stated
	m.stated = make([]filing, 0, n)
	for i := range p.guards {
		if states(i) && !slices.ContainsFunc(m.stated, func(s filing) bool { return s.id == p.guards[i].id }) {
			m.stated = append(m.stated, filing{p.guards[i].id, p.guards[i].facts})
		}
	}
	for _, s := range before {
		if !slices.ContainsFunc(m.stated, func(t filing) bool { return t.id == s.id }) {
			r := c.relays[s.id]
			r.stated = slices.DeleteFunc(r.stated, func(t statement) bool { return t.m == m })
			c.refresh(r)
			c.tidy(r)
		}
	}
	for _, s := range m.stated {
		if !slices.Contains(before, s) {
			c.state(m, s)
		}
	}
}

// state files one statement.
func (c *Coordinator) state(m *member, s filing) {
	r := c.relay(s.id)
	i, found := slices.BinarySearchFunc(r.stated, m, func(t statement, m *member) int { return t.m.name.Compare(m.name) })
	if found {
		r.stated[i].f = s.f
	} else {
		r.stated = slices.Insert(r.stated, i, statement{m, s.f})
	}
	c.refresh(r)
}

// belief is the outcome of comparing all statements about a relay.
type belief struct {
	facts *facts // what counts
	// Who states something else than whom, per level; zero where nobody does.
	subnets, family dispute
}

// dispute names two members that state different facts. Other is zero where it
// is the operator's consensus file.
type dispute struct{ one, other Member }

// believe compares all statements about r.
func (c *Coordinator) believe(r *relay) belief {
	var b belief
	if len(r.stated) == 0 && len(r.claims) == 0 {
		if known, read := c.verified(r.id); read {
			b.facts = known
		}
		return b
	}
	f := facts{}
	f.subnets, b.subnets = c.believeSubnets(r)
	f.family, b.family = believeFamily(r)
	known, read := c.verified(r.id)
	if read {
		switch {
		case known == nil: // no guard at all: nothing is believed of it
			f = facts{}
		default:
			f.subnets = known.subnets
		}
	}
	switch {
	case !f.statesSubnets() && !f.statesFamily():
		return b
	case r.facts.equal(&f):
		b.facts = r.facts
		return b
	}
	for _, s := range r.stated { // mostly all state the same
		if s.f.equal(&f) {
			b.facts = s.f
			return b
		}
	}
	fresh := f // only what is new is allocated
	b.facts = &fresh
	return b
}

// voices calls yield for each statement about r that counts: those of the shown
// members, and what the claims of others remember. A gateway that is away cannot
// contradict, so its last word does it: else one could say of its guards what one
// likes, and have others moved for its sake.
func (r *relay) voices(states func(*facts) bool, yield func(m *member, f *facts)) {
	for _, s := range r.stated {
		if states(s.f) {
			yield(s.m, s.f)
		}
	}
	for _, cl := range r.claims {
		speaks := func(s statement) bool { return s.m == cl.m && states(s.f) }
		if states(cl.facts) && !slices.ContainsFunc(r.stated, speaks) {
			yield(cl.m, cl.facts)
		}
	}
}

func (c *Coordinator) believeSubnets(r *relay) (subnets [maxSubnets]subnet, d dispute) {
	known, read := c.verified(r.id)
	var first *member
	r.voices((*facts).statesSubnets, func(m *member, f *facts) {
		switch {
		case read:
			if known.statesSubnets() && d.one.IsZero() && known.subnets != f.subnets {
				d.one = m.name
			}
		case first == nil:
			first, subnets = m, f.subnets
		case d.one.IsZero() && subnets != f.subnets:
			d = dispute{first.name, m.name}
		}
	})
	if !d.one.IsZero() {
		subnets = [maxSubnets]subnet{}
	}
	return subnets, d
}

// believeFamily: identities count if all state the same ones; of the lists, what
// is in all of them.
func believeFamily(r *relay) (believed *family, d dispute) {
	var first *member
	var one *family
	r.voices((*facts).statesFamily, func(m *member, f *facts) {
		switch {
		case first == nil:
			first, one, believed = m, f.family, f.family
			return
		case one.equal(f.family):
			return
		case d.one.IsZero():
			d = dispute{first.name, m.name}
		}
		next := &family{}
		if slices.Equal(believed.ids, f.family.ids) && slices.Equal(one.ids, f.family.ids) {
			next.ids = believed.ids
		}
		for _, id := range believed.list {
			if f.lists(id) {
				next.list = append(next.list, id)
			}
		}
		believed = next
	})
	return believed, d
}

// refresh brings the belief about r up to date, files it where it belongs now,
// and has everyone planned again who is concerned.
func (c *Coordinator) refresh(r *relay) {
	b := c.believe(r)
	c.contradict(r, b)
	if b.facts.equal(r.facts) {
		r.facts = b.facts
		return
	}
	c.touchAround(r)
	c.unfileLevels(r)
	r.facts = b.facts
	c.fileLevels(r)
	c.touchAround(r)
}

// contradict tells the operator, once, who contradicts whom about a relay that
// somebody claims.
func (c *Coordinator) contradict(r *relay, b belief) {
	for _, at := range [...]struct {
		level Level
		d     dispute
	}{{LevelFamily, b.family}, {LevelSubnet, b.subnets}} {
		want := ContradictionStatus{r.id, at.level, at.d.one, at.d.other}
		i, found := slices.BinarySearchFunc(c.contradictions, want, func(a, b ContradictionStatus) int {
			return cmp.Or(a.Relay.Compare(b.Relay), cmp.Compare(a.Level, b.Level))
		})
		switch {
		case at.d.one.IsZero() || len(r.claims) == 0 || !c.cfg.Levels.Has(at.level):
			if found {
				c.contradictions = slices.Delete(c.contradictions, i, i+1)
			}
			continue
		case !found:
			c.contradictions = slices.Insert(c.contradictions, i, want)
		case c.contradictions[i] == want:
			continue
		default:
			c.contradictions[i] = want
		}
		c.notify(Notice{Kind: NoticeContradiction, Member: want.One, Other: want.Other, Key: RelayKey(r.id), Level: want.Level})
	}
}

// verified returns what the operator's consensus file says of a relay (nil: it
// is no guard), and whether there is such a file.
func (c *Coordinator) verified(id guardstate.Fingerprint) (known *facts, read bool) {
	if len(c.consensus) == 0 {
		return nil, false
	}
	return c.consensus[id], true
}

// consensusRead: the operator's consensus file was read. Facts of it that make no
// sense are not believed; they are the runner's mistake.
func (c *Coordinator) consensusRead(e ConsensusRead) {
	c.consensus = make(map[guardstate.Fingerprint]*facts, len(e.Guards))
	for i := range e.Guards {
		x := e.Guards[i]
		x.FamilyIDs, x.Family, x.FamilyStated = nil, nil, false
		f, err := imported(&x)
		if err != nil {
			f = &facts{} // it is a guard, of unknown addresses
		}
		c.consensus[x.Relay] = f
	}
	for _, r := range c.sortedRelays() {
		c.refresh(r)
	}
}
