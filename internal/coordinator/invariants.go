package coordinator

import (
	"errors"
	"fmt"
	"slices"
)

// Invariants checks what must be true of a core after every Step, by dumb walks over
// everything. It is for simulations and for journals that are replayed: nothing acts
// by it. The error names each invariant that does not hold.
func (c *Coordinator) Invariants() error {
	return errors.Join(c.valid(), c.reported())
}

// valid checks the invariants that Coordinator states, and that the index is
// what a dumb walk over all members finds.
func (c *Coordinator) valid() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	stamps := map[uint64]bool{}
	dumb := map[Key][]*claim{}
	expected := map[Key]int{}
	for i, m := range c.members {
		if i > 0 && c.members[i-1].name.Compare(m.name) >= 0 {
			fail("members out of order at %s", m.name)
		}
		if c.byName[m.name] != m {
			fail("%s is not what its name finds", m.name)
		}
		if len(m.claims) > c.cfg.MaxClaims {
			fail("%s has %d claims", m.name, len(m.claims))
		}
		if len(m.exclusions) > c.cfg.MaxExclusions {
			fail("%s has %d exclusions", m.name, len(m.exclusions))
		}
		if m.gone && (len(m.claims) > 0 || len(m.exclusions) > 0) {
			fail("%s is gone and has claims or exclusions", m.name)
		}
		if m.shown() && (!m.away.IsZero() || m.gone || c.gatewayOf[m.name.Gateway].slots[m.slot] != m) {
			fail("%s is and is not in slot %d", m.name, m.slot)
		}
		if m.dirty {
			fail("%s was not planned", m.name)
		}
		for j, cl := range m.claims {
			if j > 0 && m.claims[j-1].key.Compare(cl.key) >= 0 {
				fail("claims of %s out of order", m.name)
			}
			if cl.m != m || cl.stamp.Counter == 0 || cl.stamp.Counter > c.stamp || stamps[cl.stamp.Counter] {
				fail("%s: claim with stamp %d", m.name, cl.stamp.Counter)
			}
			if r := c.known(cl.key); cl.at == nil || cl.at != r {
				fail("%s: claim on %s is not at its entry", m.name, cl.key)
			}
			if !cl.live() && !cl.used {
				fail("%s retains a guard that it never used", m.name)
			}
			stamps[cl.stamp.Counter] = true
			dumb[cl.key] = append(dumb[cl.key], cl)
		}
		for _, x := range m.exclusions {
			if o := c.byName[x.For]; o != nil {
				if y := o.exclusion(x.guard()); y != nil && y.For == m.name && y.guard() == x.Key {
					fail("%s and %s gave up %s and %s in favour of each other", m.name, o.name, x.Key, y.Key)
				}
				// Nor did the other one give that guard up for another guard of m's: of two
				// that meet there only one moves. To meet at the very same relay, after one
				// of them gave up another guard, is another conflict.
				if y := o.exclusion(x.guard()); y != nil && y.For == m.name && x.Why == WhyConflict && y.Why == WhyConflict &&
					(x.Level <= LevelRelay || y.Level > LevelRelay) {
					fail("%s gave up %s in favour of %s at %s, which gave that up in favour of its %s", m.name, x.Key, o.name, x.guard(), y.guard())
				}
				// A successor may be avoided for whoever gave way once; a guard that
				// is held is kept.
				if x.Why == WhyConflict && x.Level > LevelRelay && o.yielded(m.name, x.Key) {
					fail("%s gave up %s in favour of %s, which had given way to it there", m.name, x.Key, o.name)
				}
			}
			if x.For == m.name {
				fail("%s gave up %s in favour of itself", m.name, x.Key)
			}
		}
		for _, e := range m.expects {
			expected[e.key]++
		}
	}
	for id, r := range c.relays {
		k := RelayKey(id)
		want := dumb[k]
		slices.SortFunc(want, func(a, b *claim) int { return int(a.stamp.Counter) - int(b.stamp.Counter) })
		if !slices.Equal(want, r.claims) {
			fail("index of %s: %d claims, want %d, in the order of their stamps", k, len(r.claims), len(want))
		}
		if len(r.expects) != expected[k] {
			fail("index of %s: %d expected, want %d", k, len(r.expects), expected[k])
		}
		if len(r.claims)+len(r.expects)+len(r.stated) == 0 {
			fail("index of %s is empty and was kept", k)
		}
		delete(dumb, k)
		delete(expected, k)
	}
	errs = append(errs, c.validOrigins())
	if len(dumb) > 0 || len(expected) > 0 {
		fail("index lacks %d keys of claims and %d of expectations", len(dumb), len(expected))
	}
	return errors.Join(errs...)
}

// reported checks by comparing everyone with everyone that no two members claim
// the same guard without a conflict being shown.
func (c *Coordinator) reported() error {
	type at struct {
		m Member
		k Key
	}
	shown := map[at]bool{}
	for _, x := range c.State().Conflicts {
		shown[at{x.Mover, x.Key}] = true
	}
	for i, m := range c.members {
		for _, o := range c.members[:i] {
			for _, cl := range m.claims {
				other := o.claim(cl.key)
				if other == nil || !other.live() || !cl.live() {
					continue
				}
				if !shown[at{m.name, cl.key}] && !shown[at{o.name, cl.key}] {
					return fmt.Errorf("%s and %s both claim %s and no conflict is shown", m.name, o.name, cl.key)
				}
			}
		}
	}
	return nil
}

// validOrigins checks that who is named a clone came after its original, that no
// two members have one place, and, by comparing everyone with everyone, that all
// that have one sample are named.
func (c *Coordinator) validOrigins() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for i, m := range c.members {
		if m.joined > c.joins {
			fail("%s has place %d of %d", m.name, m.joined, c.joins)
		}
		if m.gone && (m.drawn != nil || !m.cloneOf.IsZero()) {
			fail("%s has left and has a sample or an original", m.name)
		}
		if o := c.original(m); o == nil && !m.cloneOf.IsZero() {
			fail("%s is the clone of %s, who is not known", m.name, m.cloneOf)
		} else if o != nil && o.comparePlace(m) >= 0 {
			fail("%s is the clone of %s, who came later", m.name, o.name)
		}
		if len(m.drawn) > 0 && (m.listed >= len(c.samples) || c.samples[m.listed] != sampleEntry{m.drawn.sketch(), len(m.drawn), m}) {
			fail("%s has %d guards, and in the list of samples at %d it is not", m.name, len(m.drawn), m.listed)
		}
		if in := slices.Contains(c.copies, m); in == m.cloneOf.IsZero() {
			fail("%s is the clone of %q, and in the list of clones: %t", m.name, m.cloneOf, in)
		}
		for _, o := range c.members[:i] {
			if o.joined == m.joined && o.joined != 0 {
				fail("%s and %s have one place", m.name, o.name)
			}
			if m.drawn.same(o.drawn) && m.cloneOf.IsZero() && o.cloneOf.IsZero() {
				fail("%s and %s have one sample, and neither is named", m.name, o.name)
			}
			if len(m.drawn) > 0 && len(o.drawn) > 0 && !m.drawn.same(o.drawn) && (m.cloneOf == o.name || o.cloneOf == m.name) {
				fail("%s and %s have different samples, and one is named", m.name, o.name)
			}
		}
	}
	if n := len(slices.DeleteFunc(slices.Clone(c.members), func(m *member) bool { return len(m.drawn) == 0 })); n != len(c.samples) {
		fail("%d samples of %d members", len(c.samples), n)
	}
	if !slices.IsSortedFunc(c.copies, func(a, b *member) int { return a.name.Compare(b.name) }) || len(c.copies) > len(c.members) {
		fail("%d clones of %d members, or out of order", len(c.copies), len(c.members))
	}
	return errors.Join(errs...)
}
