package rotation

import (
	"cmp"
	"slices"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// familyRoom bounds the families of a publication, in bytes: with 60 guards, all
// their addresses and both layers the rest of a publication's 32 KiB stays free.
const familyRoom = 24000

// familySpares is how many usable guards that nothing holds yet state their family:
// enough to see how the next exclusions would end.
const familySpares = 8

// stateFamilies fills in the families of the guards that can matter next, whole or not
// at all, those that matter most first. Real lists have hundreds of relays and change
// with every relay that an operator adds: each that is left out is a publication that
// need not be written again.
func (m *Machine) stateFamilies(guards []shmproto.Guard, flags *shmproto.MemberFlags) {
	t := &m.tor
	if t.bridges() {
		return // not in the consensus, and never compared
	}
	room := familyRoom
	for _, i := range t.mattering(guards) {
		g := &guards[i]
		r := t.relays[g.Fingerprint]
		if !r.FamilyKnown {
			if len(r.FamilyIDs)+len(r.Family) > 0 {
				*flags |= shmproto.MemberFamiliesLeftOut // more than is read of one relay
			}
			continue
		}
		var ids [][32]byte
		var list []guardstate.Fingerprint
		if !t.params.IgnoreFamilyIDs {
			ids = r.FamilyIDs
		}
		if !t.params.IgnoreFamilyLists {
			list = r.Family
		}
		need := 5 + 32*len(ids) + len(guardstate.Fingerprint{})*len(list) // 5: what stands before the columns' entries
		if need > room {
			*flags |= shmproto.MemberFamiliesLeftOut
			continue
		}
		room -= need
		g.FamilyIDs, g.Family = slices.Clone(ids), slices.Clone(list)
		g.Flags |= shmproto.GuardFamilyStated
	}
}

// mattering are the places of the guards whose family can matter next: in use,
// primary, possibly primary, confirmed and usable, and the next usable ones.
func (t *tor) mattering(guards []shmproto.Guard) []int {
	usable := map[guardstate.Fingerprint]bool{}
	for _, e := range t.entry {
		usable[e.Fingerprint] = t.filtered(e)
	}
	rank := func(g *shmproto.Guard) int {
		for i, f := range []shmproto.GuardFlags{shmproto.GuardInUse, shmproto.GuardPrimary, shmproto.GuardPossiblePrimary} {
			if g.Flags&f != 0 {
				return i
			}
		}
		switch {
		case !usable[g.Fingerprint]:
			return -1
		case g.Flags&shmproto.GuardConfirmed != 0:
			return 3
		}
		return 4
	}
	var out []int
	spares := 0
	for i := range guards {
		switch rank(&guards[i]) {
		case -1:
			continue
		case 4:
			if spares++; spares > familySpares {
				continue
			}
		}
		out = append(out, i)
	}
	slices.SortStableFunc(out, func(a, b int) int { return cmp.Compare(rank(&guards[a]), rank(&guards[b])) })
	return out
}

// keepFamily keeps what was known of a relay's family while Tor has no
// microdescriptor of it: with each new one it is gone until it is fetched, and a
// relay that is not listed for a while has none.
func keepFamily(r, old guardstate.Relay) guardstate.Relay {
	if old.FamilyKnown && !r.FamilyKnown && len(r.FamilyIDs)+len(r.Family) == 0 {
		r.FamilyKnown, r.FamilyIDs, r.Family = true, old.FamilyIDs, old.Family
	}
	return r
}

// layer is the list of relays that HSLayer2Nodes or HSLayer3Nodes pins. Only
// fingerprints count: a nickname or a country pins nothing that could be compared.
func (t *tor) layer(key string, flags *shmproto.MemberFlags) []guardstate.Fingerprint {
	fs := guardstate.ParseNodeSet(t.conf.Values(key)).Fingerprints()
	fs = slices.DeleteFunc(fs, guardstate.Fingerprint.IsZero)
	if len(fs) > shmproto.MaxLayer {
		fs = fs[:shmproto.MaxLayer]
		*flags |= shmproto.MemberTruncated
	}
	if len(fs) == 0 {
		return nil
	}
	return fs
}
