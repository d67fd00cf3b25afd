package shmproto

import (
	"encoding/binary"
	"net/netip"

	"guardring/internal/guardstate"
)

var be = binary.BigEndian

// decode replaces p's payload fields by what the payload says, reusing p's
// slices. The binding (Attachment, Incarnation, Seq) is the record header's.
func (p *Publication) decode(payload []byte) (skipped int, err error) {
	*p = Publication{Member: p.Member, TorVersion: p.TorVersion, Role: p.Role, Guards: p.Guards[:0], Layer2: p.Layer2[:0], Layer3: p.Layer3[:0]}
	r := newFieldReader(payload)
	var hasMember, hasCondition, hasVersion, hasRole bool
	for {
		f, ok, err := r.next()
		if err != nil {
			return 0, err
		}
		if !ok {
			break
		}
		switch f.tag {
		case pubMember:
			hasMember = true
			err = f.name(&p.Member)
		case pubCondition:
			hasCondition = true
			err = p.decodeCondition(f, &r)
		case pubVersion:
			hasVersion = true
			err = f.torVersion(&p.TorVersion)
		case pubReceipt:
			err = p.Receipt.decode(f)
		case pubGuards:
			err = p.decodeGuards(f, &r)
		case pubAddrs:
			err = p.decodeAddrs(f)
		case pubFamilyIDs:
			err = p.decodeFamilyIDs(f)
		case pubFamilies:
			err = p.decodeFamilies(f)
		case pubRole:
			hasRole = true
			err = f.name(&p.Role)
		case pubLayer2:
			p.Layer2, err = f.fingerprints(p.Layer2, MaxLayer)
		case pubLayer3:
			p.Layer3, err = f.fingerprints(p.Layer3, MaxLayer)
		default:
			err = r.unknown(f)
		}
		if err != nil {
			return 0, err
		}
	}
	if !hasMember {
		p.Member = ""
	}
	if !hasVersion {
		p.TorVersion = ""
	}
	if !hasRole {
		p.Role = ""
	}
	switch {
	case !hasCondition:
		return 0, violation(len(payload), "publication without condition")
	case hasMember == (p.State == MemberAbsent):
		return 0, violation(len(payload), "publication of a member without name, or of a free slot with one")
	case len(p.Guards) > 0 && (p.State == MemberAbsent || p.State == MemberRefused):
		return 0, violation(len(payload), "guards of an absent or refused member")
	}
	return r.skipped, nil
}

func (p *Publication) decodeCondition(f field, r *fieldReader) error {
	if err := f.size(pubConditionSize); err != nil {
		return err
	}
	v := f.value
	p.State, p.Selection = MemberState(v[0]), Selection(v[1])
	p.NumPrimary, p.PassPercent = v[2], v[3]
	p.Flags = MemberFlags(r.mask(le.Uint32(v[4:]), knownMemberFlags))
	switch {
	case p.State > MemberLeft:
		return violation(f.off, "unknown member state")
	case p.Selection > SelectionBridges:
		return violation(f.off+1, "unknown guard selection")
	case p.NumPrimary > MaxGuards:
		return violation(f.off+2, "more primary guards than guards can be")
	case p.PassPercent > 100:
		return violation(f.off+3, "more than 100 percent")
	}
	return nil
}

func (f field) torVersion(s *string) error {
	if len(f.value) == 0 || len(f.value) > MaxNameLen {
		return violation(f.off-2, "Tor version of the wrong length")
	}
	if *s == string(f.value) {
		return nil // it was checked when it was set
	}
	v := string(f.value)
	if !validVersion(v) {
		return violation(f.off, "Tor version with a byte that is not printable ASCII")
	}
	*s = v
	return nil
}

func (r *Receipt) decode(f field) error {
	if err := f.size(pubReceiptSize); err != nil {
		return err
	}
	v := f.value
	*r = Receipt{
		Epoch:  Epoch{le.Uint64(v), le.Uint64(v[8:])},
		Term:   Term(le.Uint64(v[16:])),
		Seq:    Seq(le.Uint64(v[24:])),
		Digest: [16]byte(v[32:]),
		Status: ReceiptStatus(v[48]),
		Reason: ReceiptReason(le.Uint16(v[50:])),
	}
	switch {
	case r.Status == ReceiptNone || r.Status > ReceiptFailed:
		return violation(f.off+48, "unknown receipt status")
	case v[49] != 0:
		return violation(f.off+49, "reserved byte not zero")
	}
	return nil
}

func (p *Publication) decodeGuards(f field, r *fieldReader) error {
	n := len(f.value) / pubGuardSize
	if n == 0 || n > MaxGuards || n*pubGuardSize != len(f.value) {
		return violation(f.off-2, "guards: field of the wrong length")
	}
	if cap(p.Guards) < n {
		p.Guards = append(p.Guards[:cap(p.Guards)], make([]Guard, MaxGuards-cap(p.Guards))...)
	}
	p.Guards = p.Guards[:n]
	var seen guardSet
	for i := range p.Guards {
		v := f.value[i*pubGuardSize:][:pubGuardSize]
		g := &p.Guards[i]
		g.Fingerprint = guardstate.Fingerprint(v)
		g.Flags = GuardFlags(r.mask(le.Uint32(v[fingerprintSize:]), knownGuardFlags))
		g.Addrs, g.FamilyIDs, g.Family = g.Addrs[:0], g.FamilyIDs[:0], g.Family[:0]
		if isZero(&g.Fingerprint) || !seen.add(p.Guards, i) {
			return violation(f.off+i*pubGuardSize, "guard's fingerprint zero or repeated")
		}
	}
	return nil
}

func (p *Publication) decodeAddrs(f field) error {
	v := f.value
	if len(v) == 0 {
		return violation(f.off-2, "empty field")
	}
	last := 0
	for len(v) > 0 {
		off := f.off + len(f.value) - len(v)
		if len(v) < pubAddrSize {
			return violation(off, "cut address")
		}
		i := int(v[0])
		if i < last || i >= len(p.Guards) {
			return violation(off, "address of no guard, or out of order")
		}
		last = i
		port := le.Uint16(v[2:])
		var addr netip.Addr
		switch kind, rest := v[1], v[pubAddrSize:]; {
		case kind == 4 && len(rest) >= 4:
			addr = netip.AddrFrom4([4]byte(rest))
			v = rest[4:]
		case kind == 6 && len(rest) >= 16:
			addr = netip.AddrFrom16([16]byte(rest))
			v = rest[16:]
		default:
			return violation(off, "cut address, or neither IPv4 nor IPv6")
		}
		g := &p.Guards[i]
		a := netip.AddrPortFrom(addr, port)
		if !validAddr(a) || len(g.Addrs) == MaxAddrs || !addrFollows(g.Addrs, a) {
			return violation(off, "address not valid, repeated, one too many, or IPv4 after IPv6")
		}
		g.Addrs = append(g.Addrs, a)
	}
	return nil
}

func (p *Publication) decodeFamilyIDs(f field) error {
	v := f.value
	if len(v) == 0 {
		return violation(f.off-2, "empty field")
	}
	for last := -1; len(v) > 0; {
		off := f.off + len(f.value) - len(v)
		if len(v) < pubIDsSize {
			return violation(off, "cut family IDs")
		}
		i, n := int(v[0]), int(v[1])
		v = v[pubIDsSize:]
		if i <= last || i >= len(p.Guards) || n == 0 || n*familyIDSize > len(v) {
			return violation(off, "family IDs of no guard, out of order, or of the wrong number")
		}
		last = i
		g := &p.Guards[i]
		for k := range n {
			g.FamilyIDs = append(g.FamilyIDs, [familyIDSize]byte(v[k*familyIDSize:]))
			if k > 0 && !idsAscend(&g.FamilyIDs[k-1], &g.FamilyIDs[k]) {
				return violation(off+pubIDsSize+k*familyIDSize, "family ID repeated or out of order")
			}
		}
		v = v[n*familyIDSize:]
	}
	return nil
}

func (p *Publication) decodeFamilies(f field) error {
	v := f.value
	if len(v) == 0 {
		return violation(f.off-2, "empty field")
	}
	for last := -1; len(v) > 0; {
		off := f.off + len(f.value) - len(v)
		if len(v) < pubFamilySize {
			return violation(off, "cut family")
		}
		i, n := int(v[0]), int(le.Uint16(v[1:]))
		v = v[pubFamilySize:]
		if i <= last || i >= len(p.Guards) || n == 0 || n*fingerprintSize > len(v) {
			return violation(off, "family of no guard, out of order, or of the wrong number")
		}
		last = i
		g := &p.Guards[i]
		var err error
		list := field{off: off + pubFamilySize, value: v[:n*fingerprintSize]}
		if g.Family, err = list.fingerprints(g.Family, n); err != nil {
			return err
		}
		v = v[n*fingerprintSize:]
	}
	return nil
}

// guardSet finds repeated fingerprints: a small open hash table of indexes plus
// one. Colliding fingerprints only make it a linear search over MaxGuards.
type guardSet [128]uint8

// add adds guards[i] and reports whether it was new.
func (s *guardSet) add(guards []Guard, i int) bool {
	f := &guards[i].Fingerprint
	first := le.Uint64(f[:])
	h := first * 0x9e3779b97f4a7c15 >> 57
	for ; s[h] != 0; h = (h + 1) % uint64(len(s)) {
		// The first word tells nearly all apart, without a call.
		if other := &guards[s[h]-1].Fingerprint; le.Uint64(other[:]) == first && *other == *f {
			return false
		}
	}
	s[h] = uint8(i + 1)
	return true
}

// isZero is Fingerprint.IsZero without a call: it is asked for every guard.
func isZero(f *guardstate.Fingerprint) bool {
	return le.Uint64(f[:])|le.Uint64(f[8:])|uint64(le.Uint32(f[16:])) == 0
}
