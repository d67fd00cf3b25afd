package coordinator

import (
	"cmp"
	"slices"

	"guardring/internal/guardstate"
)

// relay is the index entry of a relay: who claims it, who is expected to come,
// and what is known of it. There is one for each relay that somebody claims,
// expects or states facts about.
type relay struct {
	id      guardstate.Fingerprint
	claims  []*claim    // in the order of their stamps
	expects []expect    // by member
	stated  []statement // by member
	facts   *facts      // what is believed; what it is filed under, if it is filed
}

// expect is a guard that a member does not claim yet: because it is on its way
// there by an order (reserved), or because the guard is next in line. It makes
// no one move; it only keeps others from being led there.
type expect struct {
	m        *member
	key      Key
	reserved bool
}

// held: somebody claims or expects the relay, so that it can stand in others' way.
func (r *relay) held() bool { return len(r.claims)+len(r.expects) > 0 }

// relay returns the entry of a relay, and makes it if there is none.
func (c *Coordinator) relay(id guardstate.Fingerprint) *relay {
	r := c.relays[id]
	if r == nil {
		r = &relay{id: id}
		r.facts = c.believe(r).facts
		c.relays[id] = r
	}
	return r
}

func (c *Coordinator) tidy(r *relay) {
	if !r.held() && len(r.stated) == 0 {
		delete(c.relays, r.id)
	}
}

// entry returns the entry of the relay that k names. Keys of claims, exclusions
// and expectations name relays.
func (c *Coordinator) entry(k Key) *relay {
	id, _ := k.Relay()
	return c.relay(id)
}

// known is entry, but nil if nothing is known.
func (c *Coordinator) known(k Key) *relay {
	id, _ := k.Relay()
	return c.relays[id]
}

// sortedRelays returns all entries by name, for where order can be seen.
func (c *Coordinator) sortedRelays() []*relay {
	all := make([]*relay, 0, len(c.relays))
	for _, r := range c.relays {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *relay) int { return a.id.Compare(b.id) })
	return all
}

// Above the relay, entries that are held are filed under the keys of what is
// believed of them: subnets, family identities, the operator's groups, and each
// relay that their family list names. Two relays are near each other at a level
// if they meet under one of its keys; of lists, each must name the other.

// keys calls yield for the keys of r above the relay.
func (c *Coordinator) keys(r *relay, yield func(Key)) {
	if c.cfg.Levels.Has(LevelFamily) {
		for _, k := range c.groups[r.id] {
			yield(k)
		}
		if r.facts.statesFamily() {
			for _, id := range r.facts.family.ids {
				yield(FamilyKey(id))
			}
		}
	}
	if r.facts != nil && c.cfg.Levels.Has(LevelSubnet) {
		for _, s := range r.facts.subnets {
			if s != 0 {
				yield(s.key())
			}
		}
	}
}

// listed calls yield for the keys under which r is found by those that it lists.
func (c *Coordinator) listed(r *relay, yield func(Key)) {
	if c.cfg.Levels.Has(LevelFamily) && r.facts.statesFamily() {
		for _, id := range r.facts.family.list {
			yield(listedKey(id))
		}
	}
}

// fileLevels files r above the relay, if it is held.
func (c *Coordinator) fileLevels(r *relay) {
	if !r.held() {
		return
	}
	file := func(k Key) {
		at := c.levels[k]
		i, found := slices.BinarySearchFunc(at, r.id, func(o *relay, id guardstate.Fingerprint) int { return o.id.Compare(id) })
		if !found { // an identity can be a group's too
			c.levels[k] = slices.Insert(at, i, r)
		}
	}
	c.keys(r, file)
	c.listed(r, file)
}

// unfileLevels is the reverse of fileLevels.
func (c *Coordinator) unfileLevels(r *relay) {
	unfile := func(k Key) {
		at := slices.DeleteFunc(c.levels[k], func(o *relay) bool { return o == r })
		if len(at) == 0 {
			delete(c.levels, k)
		} else {
			c.levels[k] = at
		}
	}
	c.keys(r, unfile)
	c.listed(r, unfile)
}

// near calls yield for each other relay that is held and near the relay r, once
// or more often.
func (c *Coordinator) near(r *relay, yield func(o *relay, l Level)) {
	c.keys(r, func(k Key) {
		for _, o := range c.levels[k] {
			if o.id != r.id {
				yield(o, k.Level)
			}
		}
	})
	if !c.cfg.Levels.Has(LevelFamily) || !r.facts.statesFamily() || len(r.facts.family.list) == 0 {
		return
	}
	for _, o := range c.levels[listedKey(r.id)] {
		if o.id != r.id && r.facts.lists(o.id) {
			yield(o, LevelFamily)
		}
	}
}

// around calls yield for the entry of k, if there is one, and those near it.
func (c *Coordinator) around(k Key, yield func(r *relay, l Level)) {
	r := c.known(k)
	if r == nil {
		// Nobody claims it or states anything; the operator may know it.
		id, _ := k.Relay()
		unknown := relay{id: id}
		unknown.facts = c.believe(&unknown).facts
		c.near(&unknown, yield)
		return
	}
	c.aroundEntry(r, yield)
}

// aroundEntry is around for an entry.
func (c *Coordinator) aroundEntry(r *relay, yield func(r *relay, l Level)) {
	yield(r, LevelRelay)
	c.near(r, yield)
}

// file puts cl into the index by its stamp.
func (c *Coordinator) file(cl *claim) {
	r := c.entry(cl.key)
	first := !r.held()
	i, _ := slices.BinarySearchFunc(r.claims, cl, func(a, b *claim) int { return cmp.Compare(a.stamp.Counter, b.stamp.Counter) })
	r.claims = slices.Insert(r.claims, i, cl)
	cl.at = r
	if first {
		c.fileLevels(r)
	}
	c.refresh(r)
	c.aroundEntry(r, func(r *relay, _ Level) {
		for _, o := range r.claims {
			if o.m != cl.m && o.m.exclusion(o.key) != nil {
				c.touch(o.m) // it was told to go and is still there: now in conflict with cl.m too
			}
		}
		for _, e := range r.expects {
			if e.reserved && e.m != cl.m {
				c.touch(e.m) // it was on its way to this guard: better told before it arrives
			}
		}
	})
}

// unfile takes cl out of the index. Members in conflict with it are looked at
// again: it may have been the only obstacle.
func (c *Coordinator) unfile(cl *claim) {
	r := cl.at
	r.claims = slices.DeleteFunc(r.claims, func(o *claim) bool { return o == cl })
	c.touchOpponents(cl)
	if !r.held() {
		c.unfileLevels(r)
	}
	c.refresh(r)
	c.tidy(r)
	cl.at = nil
}

// expect replaces m's expectations.
func (c *Coordinator) expect(m *member, want []expect) {
	if slices.Equal(m.expects, want) {
		return
	}
	for _, e := range m.expects {
		r := c.known(e.key)
		r.expects = slices.DeleteFunc(r.expects, func(o expect) bool { return o == e })
		if !r.held() {
			c.unfileLevels(r)
		}
		c.tidy(r)
	}
	m.expects = append(m.expects[:0], want...)
	for _, e := range m.expects {
		r := c.entry(e.key)
		first := !r.held()
		i, _ := slices.BinarySearchFunc(r.expects, e, func(a, b expect) int { return a.m.name.Compare(b.m.name) })
		r.expects = slices.Insert(r.expects, i, e)
		if first {
			c.fileLevels(r)
		}
	}
}

// touchOpponents has the members that cl stood in the way of planned again.
func (c *Coordinator) touchOpponents(cl *claim) {
	c.aroundEntry(cl.at, func(r *relay, _ Level) {
		for _, o := range r.claims {
			if o.noted.other == cl.m.name {
				c.touch(o.m)
			}
		}
	})
}

// touchAround has everyone planned again who claims r or a relay near it, or is
// on its way there.
func (c *Coordinator) touchAround(r *relay) {
	touch := func(r *relay, _ Level) {
		for _, cl := range r.claims {
			c.reconsider(cl.m)
		}
		for _, e := range r.expects {
			if e.reserved {
				c.touch(e.m)
			}
		}
	}
	c.aroundEntry(r, touch)
}

// reconsider has m planned again, unless it is not shown and nobody was told of a
// conflict of its.
func (c *Coordinator) reconsider(m *member) {
	if m.shown() || slices.ContainsFunc(m.claims, func(cl *claim) bool { return cl.noted != (rival{}) }) {
		c.touch(m)
	}
}
