package shmproto

import (
	"fmt"
	"net/netip"

	"guardring/internal/guardstate"
)

// The fields of a publication. pubCondition is required, and pubMember unless
// the state is MemberAbsent. Guards and what belongs to them stand in columns, so
// that a reader can skip a column that it does not know.
const (
	pubMember    = 1
	pubCondition = 2 // state, selection, primaries, percent, flags
	pubVersion   = 3
	pubReceipt   = 4
	pubGuards    = 5 // per guard: fingerprint, flags
	pubAddrs     = 6 // per address: guard, 4 or 6, port, address
	pubFamilyIDs = 7 // per guard that has some: guard, count, IDs
	pubFamilies  = 8 // per guard that has one: guard, count, fingerprints
	pubRole      = 9
	pubLayer2    = 10 // fingerprints
	pubLayer3    = 11 // fingerprints

	pubConditionSize = 8
	pubReceiptSize   = 52
	pubGuardSize     = fingerprintSize + 4
	pubAddrSize      = 4 // before the address
	pubIDsSize       = 2 // before the IDs
	pubFamilySize    = 3 // before the fingerprints
	familyIDSize     = 32
)

const (
	knownMemberFlags = uint32(MemberFamiliesLeftOut<<1 - 1)
	knownGuardFlags  = uint32(GuardFamilyStated<<1 - 1)
)

// maxPublicationPayload is the room for one publication.
const maxPublicationPayload = (publicationCellSize-cellBuffersOff)/2 - recordHeaderSize

// columns are the lengths of the columns that can be longer than there is room.
type columns struct{ ids, families int }

// tailSize is the most that stands behind those columns.
const tailSize = 3*fieldHeaderSize + MaxNameLen + 2*MaxLayer*fingerprintSize

// What stands before and behind those columns always fits.
const _ = uint(maxPublicationPayload - 6*fieldHeaderSize - 2*MaxNameLen - pubConditionSize - pubReceiptSize -
	MaxGuards*(pubGuardSize+MaxAddrs*(pubAddrSize+16)) - tailSize)

// check reports what is wrong with a publication that we are about to encode, or
// how long its columns are. appendAddrs checks the addresses.
func (p *Publication) check() (columns, error) {
	switch {
	case p.State > MemberLeft:
		return columns{}, fmt.Errorf("publication: state %d", p.State)
	case p.State == MemberAbsent && p.Member != "":
		return columns{}, fmt.Errorf("publication: a free slot with a member name")
	case p.State != MemberAbsent && !ValidName(p.Member):
		return columns{}, fmt.Errorf("publication: member name %q: want %s", p.Member, NameRule)
	case p.Selection > SelectionBridges:
		return columns{}, fmt.Errorf("publication: selection %d", p.Selection)
	case p.PassPercent > 100:
		return columns{}, fmt.Errorf("publication: %d percent", p.PassPercent)
	case p.NumPrimary > MaxGuards:
		return columns{}, fmt.Errorf("publication: %d primary guards", p.NumPrimary)
	case uint32(p.Flags)&^knownMemberFlags != 0:
		return columns{}, fmt.Errorf("publication: unknown member flags %#x", p.Flags)
	case !validVersion(p.TorVersion):
		return columns{}, fmt.Errorf("publication: Tor version %q: want at most %d printable ASCII characters", p.TorVersion, MaxNameLen)
	case p.Role != "" && !ValidName(p.Role):
		return columns{}, fmt.Errorf("publication: role %q: want %s", p.Role, NameRule)
	case p.Receipt.Status > ReceiptFailed:
		return columns{}, fmt.Errorf("publication: receipt status %d", p.Receipt.Status)
	case p.Receipt.Status == ReceiptNone && p.Receipt != Receipt{}:
		return columns{}, fmt.Errorf("publication: a receipt without status")
	case len(p.Guards) > 0 && (p.State == MemberAbsent || p.State == MemberRefused):
		return columns{}, fmt.Errorf("publication: guards of an absent or refused member")
	case len(p.Guards) > MaxGuards:
		return columns{}, fmt.Errorf("%w: %d guards, at most %d", ErrTooLarge, len(p.Guards), MaxGuards)
	}
	for _, layer := range [...][]guardstate.Fingerprint{p.Layer2, p.Layer3} {
		if len(layer) > MaxLayer {
			return columns{}, fmt.Errorf("%w: %d pinned guards in a layer, at most %d", ErrTooLarge, len(layer), MaxLayer)
		}
		if i := descends(layer); i >= 0 {
			return columns{}, fmt.Errorf("publication: pinned guard %d zero, repeated or out of order", i)
		}
	}
	var seen guardSet
	var c columns
	for i := range p.Guards {
		g := &p.Guards[i]
		if isZero(&g.Fingerprint) || !seen.add(p.Guards, i) {
			return columns{}, fmt.Errorf("publication: guard %d: fingerprint zero or repeated", i)
		}
		if uint32(g.Flags)&^knownGuardFlags != 0 {
			return columns{}, fmt.Errorf("publication: guard %d: unknown flags %#x", i, g.Flags)
		}
		if err := c.add(g); err != nil {
			return columns{}, fmt.Errorf("publication: guard %d: %w", i, err)
		}
	}
	return c, nil
}

// add checks the families of one guard and adds up their room.
func (c *columns) add(g *Guard) error {
	if n := len(g.FamilyIDs); n > 0 {
		for i := 1; i < n; i++ {
			if !idsAscend(&g.FamilyIDs[i-1], &g.FamilyIDs[i]) {
				return fmt.Errorf("family ID %d repeated or out of order", i)
			}
		}
		if n > maxPublicationPayload/familyIDSize || n > 0xff {
			return fmt.Errorf("%w: %d family IDs", ErrTooLarge, n)
		}
		c.ids += pubIDsSize + n*familyIDSize
	}
	if n := len(g.Family); n > 0 {
		if i := descends(g.Family); i >= 0 {
			return fmt.Errorf("family member %d zero, repeated or out of order", i)
		}
		if n > maxPublicationPayload/fingerprintSize {
			return fmt.Errorf("%w: %d family members", ErrTooLarge, n)
		}
		c.families += pubFamilySize + n*fingerprintSize
	}
	return nil
}

// descends returns the place of the first fingerprint that is zero or not above
// the one before it, -1 if there is none.
func descends(list []guardstate.Fingerprint) int {
	var last guardstate.Fingerprint
	for i, f := range list {
		if f.Compare(last) <= 0 {
			return i
		}
		last = f
	}
	return -1
}

// appendTo appends the payload of p; b must have room for it, so that nothing is
// allocated. It returns ErrTooLarge (wrapped) if it does not fit, else an error
// that says what is wrong with p.
func (p *Publication) appendTo(b []byte) ([]byte, error) {
	c, err := p.check()
	if err != nil {
		return nil, err
	}
	if p.Member != "" {
		b = appendField(b, pubMember, len(p.Member))
		b = append(b, p.Member...)
	}
	b = appendField(b, pubCondition, pubConditionSize)
	b = append(b, byte(p.State), byte(p.Selection), p.NumPrimary, p.PassPercent)
	b = le.AppendUint32(b, uint32(p.Flags))
	if p.TorVersion != "" {
		b = appendField(b, pubVersion, len(p.TorVersion))
		b = append(b, p.TorVersion...)
	}
	if p.Receipt.Status != ReceiptNone {
		b = p.Receipt.appendTo(b)
	}
	if len(p.Guards) > 0 {
		b = appendGuards(b, p.Guards)
	}
	if b, err = appendAddrs(b, p.Guards); err != nil {
		return nil, err
	}
	if n, room := c.size(), cap(b)-len(b)-p.tailSize(); n > room {
		return nil, fmt.Errorf("%w: families of %d bytes, room for %d: leave some out", ErrTooLarge, n, room)
	}
	if c.ids > 0 {
		b = appendFamilyIDs(b, p.Guards, c.ids)
	}
	if c.families > 0 {
		b = appendFamilies(b, p.Guards, c.families)
	}
	if p.Role != "" {
		b = appendField(b, pubRole, len(p.Role))
		b = append(b, p.Role...)
	}
	b = appendLayer(b, pubLayer2, p.Layer2)
	return appendLayer(b, pubLayer3, p.Layer3), nil
}

// tailSize is the room of the fields behind the columns.
func (p *Publication) tailSize() (n int) {
	if p.Role != "" {
		n += fieldHeaderSize + len(p.Role)
	}
	for _, layer := range [...][]guardstate.Fingerprint{p.Layer2, p.Layer3} {
		if len(layer) > 0 {
			n += fieldHeaderSize + len(layer)*fingerprintSize
		}
	}
	return n
}

func appendLayer(b []byte, tag uint16, layer []guardstate.Fingerprint) []byte {
	if len(layer) == 0 {
		return b
	}
	b = appendField(b, tag, len(layer)*fingerprintSize)
	for i := range layer {
		b = append(b, layer[i][:]...)
	}
	return b
}

func (r *Receipt) appendTo(b []byte) []byte {
	b = appendField(b, pubReceipt, pubReceiptSize)
	b = le.AppendUint64(b, r.Epoch.Number)
	b = le.AppendUint64(b, r.Epoch.Random)
	b = le.AppendUint64(b, uint64(r.Term))
	b = le.AppendUint64(b, uint64(r.Seq))
	b = append(b, r.Digest[:]...)
	b = append(b, byte(r.Status), 0)
	return le.AppendUint16(b, uint16(r.Reason))
}

func appendGuards(b []byte, guards []Guard) []byte {
	b = appendField(b, pubGuards, len(guards)*pubGuardSize)
	for i := range guards {
		g := &guards[i]
		n := len(b)
		b = b[:n+pubGuardSize]
		*(*guardstate.Fingerprint)(b[n:]) = g.Fingerprint
		le.PutUint32(b[n+fingerprintSize:], uint32(g.Flags))
	}
	return b
}

func appendAddrs(b []byte, guards []Guard) ([]byte, error) {
	start := len(b)
	b = appendField(b, pubAddrs, 0)
	for i := range guards {
		addrs := guards[i].Addrs
		if len(addrs) > MaxAddrs {
			return nil, fmt.Errorf("publication: guard %d: %w: %d addresses, at most %d", i, ErrTooLarge, len(addrs), MaxAddrs)
		}
		for k, a := range addrs {
			if !validAddr(a) || !addrFollows(addrs[:k], a) {
				return nil, fmt.Errorf("publication: guard %d: address %v: not valid, repeated, or IPv4 after IPv6", i, a)
			}
			n := len(b)
			if addr := a.Addr(); addr.Is4() {
				b = b[:n+pubAddrSize+4]
				b[n+1] = 4
				*(*[4]byte)(b[n+pubAddrSize:]) = addr.As4()
			} else {
				b = b[:n+pubAddrSize+16]
				b[n+1] = 6
				*(*[16]byte)(b[n+pubAddrSize:]) = addr.As16()
			}
			b[n] = byte(i)
			le.PutUint16(b[n+2:], a.Port())
		}
	}
	size := len(b) - start - fieldHeaderSize
	if size == 0 {
		return b[:start], nil
	}
	le.PutUint16(b[start+2:], uint16(size))
	return b, nil
}

// size returns the room of the columns with their headers.
func (c columns) size() int {
	n := 0
	for _, column := range [...]int{c.ids, c.families} {
		if column > 0 {
			n += fieldHeaderSize + column
		}
	}
	return n
}

func appendFamilyIDs(b []byte, guards []Guard, size int) []byte {
	b = appendField(b, pubFamilyIDs, size)
	for i := range guards {
		ids := guards[i].FamilyIDs
		if len(ids) == 0 {
			continue
		}
		n := len(b)
		b = b[:n+pubIDsSize+len(ids)*familyIDSize]
		b[n], b[n+1] = byte(i), byte(len(ids))
		for k := range ids {
			*(*[familyIDSize]byte)(b[n+pubIDsSize+k*familyIDSize:]) = ids[k]
		}
	}
	return b
}

func appendFamilies(b []byte, guards []Guard, size int) []byte {
	b = appendField(b, pubFamilies, size)
	for i := range guards {
		family := guards[i].Family
		if len(family) == 0 {
			continue
		}
		b = append(b, byte(i))
		b = le.AppendUint16(b, uint16(len(family)))
		for k := range family {
			b = append(b, family[k][:]...)
		}
	}
	return b
}

// validAddr: an ORPort address is an IPv4 or plain IPv6 address without zone,
// not the unspecified one, and a port.
func validAddr(a netip.AddrPort) bool {
	addr := a.Addr()
	if addr.Is4() {
		return a.Port() != 0 && addr != netip.IPv4Unspecified()
	}
	return a.Port() != 0 && addr.Is6() && !addr.Is4In6() && addr.Zone() == "" && addr != netip.IPv6Unspecified()
}

// addrFollows reports whether a may stand behind list: not repeated, no IPv4
// behind IPv6.
func addrFollows(list []netip.AddrPort, a netip.AddrPort) bool {
	if len(list) == 0 {
		return true
	}
	for i := range list {
		if list[i] == a {
			return false
		}
	}
	return a.Addr().Is6() || list[len(list)-1].Addr().Is4()
}

// idsAscend reports whether a comes before b.
func idsAscend(a, b *[familyIDSize]byte) bool {
	// Most differ in the first word.
	if x, y := be.Uint64(a[:]), be.Uint64(b[:]); x != y {
		return x < y
	}
	return string(a[:]) < string(b[:])
}

// validVersion: Tor's version is shown to people, so it must be printable.
func validVersion(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return len(s) <= MaxNameLen
}
