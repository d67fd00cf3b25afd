package coordinator

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// What one statement about one relay can hold. Of more subnets or identities none
// count: a real relay has few, and each is more that a lie could bar. A declared
// family can be long; what is beyond is not compared (the lowest fingerprints are,
// so that everybody's cut is the same).
const (
	maxSubnets   = 2
	maxFamilyIDs = 2
	maxFamily    = 256
)

// facts are one statement about a relay. They are not changed once made, so they
// can be shared. A nil *facts states nothing.
type facts struct {
	subnets [maxSubnets]subnet // ascending, then zeros; all zero: not stated
	family  *family            // nil: not stated
}

// family is what a relay declares of its family.
type family struct {
	ids  [][32]byte               // ascending
	list []guardstate.Fingerprint // ascending
}

// stated returns what a publication says of a guard. It returns old itself if
// that is the same, because it nearly always is.
func stated(old *facts, g *shmproto.Guard) *facts {
	if g.Flags&shmproto.GuardBridge != 0 {
		return nil // its address can be a pluggable transport's dummy
	}
	subnets := subnetsOf(g)
	if g.Flags&shmproto.GuardFamilyStated == 0 {
		switch {
		case subnets[0] == 0:
			return nil
		case old != nil && old.family == nil && old.subnets == subnets:
			return old
		}
		return &facts{subnets: subnets}
	}
	ids := g.FamilyIDs
	if len(ids) > maxFamilyIDs {
		ids = nil
	}
	list := g.Family[:min(len(g.Family), maxFamily)]
	if old != nil && old.subnets == subnets && old.family != nil &&
		slices.Equal(old.family.ids, ids) && slices.Equal(old.family.list, list) {
		return old
	}
	return &facts{subnets, &family{ascending(ids, compareIDs), ascending(list, guardstate.Fingerprint.Compare)}}
}

// ascending returns a sorted copy without repetitions. Publications are sorted
// already; the core does not rely on it.
func ascending[T comparable](all []T, compare func(a, b T) int) []T {
	all = append([]T(nil), all...) // nil if there are none
	slices.SortFunc(all, compare)
	return slices.Compact(all)
}

// subnetsOf returns the subnets of a guard's addresses, at most one of each
// address family: so it is in a consensus, and a gateway that states more for a
// relay that nobody else knows would bar as many networks by one claim. So more
// are none.
func subnetsOf(g *shmproto.Guard) (subnets [maxSubnets]subnet) {
	n := 0
	for i := range g.Addrs[:min(len(g.Addrs), shmproto.MaxAddrs)] {
		s := subnetOf(g.Addrs[i].Addr())
		for _, o := range subnets[:n] {
			if s != 0 && o != s && o>>32 == s>>32 {
				return [maxSubnets]subnet{}
			}
		}
		n = insertSubnet(&subnets, n, s)
	}
	return subnets
}

// insertSubnet puts s into its place among the first n subnets, and returns how
// many there are now.
func insertSubnet(subnets *[maxSubnets]subnet, n int, s subnet) int {
	if s == 0 || n == maxSubnets {
		return n
	}
	i := n
	for i > 0 && subnets[i-1] > s {
		i--
	}
	if i > 0 && subnets[i-1] == s {
		return n
	}
	copy(subnets[i+1:n+1], subnets[i:n])
	subnets[i] = s
	return n + 1
}

// equal reports whether f and g state the same.
func (f *facts) equal(g *facts) bool {
	if f == g || f == nil || g == nil {
		return f == g
	}
	return f.subnets == g.subnets && f.family.equal(g.family)
}

func (f *family) equal(g *family) bool {
	if f == g || f == nil || g == nil {
		return f == g
	}
	return slices.Equal(f.ids, g.ids) && slices.Equal(f.list, g.list)
}

// compare orders statements, for no other reason than that one is to be chosen.
func (f *facts) compare(g *facts) int {
	switch {
	case f == g:
		return 0
	case f == nil || g == nil:
		return first(g == nil, f == nil)
	}
	if c := slices.Compare(f.subnets[:], g.subnets[:]); c != 0 || f.family == g.family {
		return c
	}
	if f.family == nil || g.family == nil {
		return first(g.family == nil, f.family == nil)
	}
	return cmp.Or(slices.CompareFunc(f.family.ids, g.family.ids, compareIDs), slices.CompareFunc(f.family.list, g.family.list, guardstate.Fingerprint.Compare))
}

func (f *facts) statesSubnets() bool { return f != nil && f.subnets[0] != 0 }

func (f *facts) statesFamily() bool { return f != nil && f.family != nil }

// contradicts reports whether f and g state the same thing differently.
func (f *facts) contradicts(g *facts) bool {
	return f.statesSubnets() && g.statesSubnets() && f.subnets != g.subnets ||
		f.statesFamily() && g.statesFamily() && !f.family.equal(g.family)
}

// over returns f with what it does not state taken from old.
func (f *facts) over(old *facts) *facts {
	if f == nil || old == nil || f.statesSubnets() && f.statesFamily() {
		if f == nil {
			return old
		}
		return f
	}
	subnets, family := f.subnets, f.family
	if !f.statesSubnets() {
		subnets = old.subnets
	}
	if !f.statesFamily() {
		family = old.family
	}
	switch {
	case subnets == f.subnets && family == f.family:
		return f
	case subnets == old.subnets && family.equal(old.family):
		return old
	}
	return &facts{subnets, family}
}

// lists reports whether the relay's own list names id.
func (f *facts) lists(id guardstate.Fingerprint) bool {
	if !f.statesFamily() {
		return false
	}
	_, found := slices.BinarySearchFunc(f.family.list, id, guardstate.Fingerprint.Compare)
	return found
}

// export returns f as it stands in records and checkpoints; nil if it states
// nothing.
func (f *facts) export(relay guardstate.Fingerprint) *Facts {
	if f == nil {
		return nil
	}
	x := &Facts{Relay: relay}
	for _, s := range f.subnets {
		if s != 0 {
			x.Subnets = append(x.Subnets, s.key())
		}
	}
	if f.family != nil {
		x.FamilyStated = true
		for _, id := range f.family.ids {
			x.FamilyIDs = append(x.FamilyIDs, FamilyKey(id))
		}
		x.Family = append(x.Family, f.family.list...)
	}
	return x
}

// imported is the reverse of export. It checks x, which may come from a file.
func imported(x *Facts) (*facts, error) {
	if x == nil {
		return nil, nil
	}
	if len(x.Subnets) > maxSubnets || len(x.FamilyIDs) > maxFamilyIDs || len(x.Family) > maxFamily {
		return nil, fmt.Errorf("facts of relay %s: %d subnets, %d family IDs, a family of %d: at most %d, %d and %d",
			x.Relay, len(x.Subnets), len(x.FamilyIDs), len(x.Family), maxSubnets, maxFamilyIDs, maxFamily)
	}
	f := &facts{}
	for i, k := range x.Subnets {
		if k.Level != LevelSubnet || subnetFrom(k).key() != k {
			return nil, fmt.Errorf("facts of relay %s: %s is no subnet", x.Relay, k)
		}
		if insertSubnet(&f.subnets, i, subnetFrom(k)) != i+1 {
			return nil, fmt.Errorf("facts of relay %s: %s is repeated", x.Relay, k)
		}
	}
	if !x.FamilyStated {
		if len(x.FamilyIDs) > 0 || len(x.Family) > 0 {
			return nil, fmt.Errorf("facts of relay %s: a family that is not stated", x.Relay)
		}
		if !f.statesSubnets() {
			return nil, errors.New("facts that state nothing")
		}
		return f, nil
	}
	f.family = &family{}
	for _, k := range x.FamilyIDs {
		if k.Level != LevelFamily {
			return nil, fmt.Errorf("facts of relay %s: %s is no family", x.Relay, k)
		}
		f.family.ids = append(f.family.ids, k.ID)
	}
	f.family.ids = ascending(f.family.ids, compareIDs)
	f.family.list = ascending(x.Family, guardstate.Fingerprint.Compare)
	return f, nil
}

func compareIDs(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) }
