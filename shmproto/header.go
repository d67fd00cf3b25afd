package shmproto

import (
	"errors"
	"fmt"
)

// Header describes a region. The server writes it once, except Attachment.
type Header struct {
	Gateway     string
	RegionEpoch [16]byte // random, names this region: a new one means that server or host started anew
	Attachment  Attachment
	// Incompatible and Compatible are feature bits: unknown incompatible ones
	// are refused with ErrFeature, unknown compatible ones ignored.
	Incompatible, Compatible uint64
}

// RegionSize is the size of a gateway's region: a power of two, as QEMU demands.
const RegionSize = 1 << 20

// layoutTable is what the header says of offsets, sizes and counts. A build
// refuses a region whose table differs from its own.
var layoutTable = [...]uint32{
	hostAreaOff, hostAreaSize, HostSeats,
	guestAreaOff, guestAreaSize,
	MaxMembers, MaxWriters, ringRecords,
	orderCellSize, publicationCellSize,
}

var errMisaligned = errors.New("memory does not start at a multiple of 8")

// Region is a view of a gateway's shared memory whose header was checked. The
// checked copy is kept; the memory is not asked again, except for Attachment.
// Methods are safe for concurrent use; the Host and Guest it gives out are not.
type Region struct {
	mem    []byte
	header Header
}

// Format writes a fresh region's header, empty cells, rings and lock into b,
// which nobody else may use yet. The magic is stored last.
func Format(b []byte, h Header) error {
	switch {
	case len(b) < RegionSize:
		return fmt.Errorf("region of %d bytes, want %d", len(b), RegionSize)
	case !aligned(b):
		return errMisaligned
	case !ValidName(h.Gateway):
		return fmt.Errorf("gateway name %q: want %s", h.Gateway, NameRule)
	case h.Incompatible&^knownIncompatible != 0:
		return fmt.Errorf("%w: bits %#x", ErrFeature, h.Incompatible&^knownIncompatible)
	}
	b = b[:RegionSize]
	var zero [headerSize]byte
	for off := 0; off < RegionSize; off += len(zero) {
		copyIn(b, off, zero[:])
	}
	for seat := range HostSeats {
		area := hostArea(b, seat)
		leaseCell(area).format()
		for slot := range MaxMembers {
			orderCell(area, slot).format()
		}
		ringIn(area, hostRingOff).format()
	}
	area := guestArea(b)
	lockWords(area).format()
	ringIn(area, guestRingOff).format()
	for slot := range MaxMembers {
		publicationCell(area, slot).format()
	}
	SetAttachment(b, h.Attachment)
	writeHeader(b, h)
	return nil
}

// writeHeader writes the header but for what changes with the guest seat; the
// magic last.
func writeHeader(b []byte, h Header) {
	var static [headerStaticSize]byte
	encodeHeader(static[:], h)
	magic := le.Uint64(static[headerMagicOff:])
	le.PutUint64(static[headerMagicOff:], 0)
	copyIn(b, 0, static[:])
	store(b, headerMagicOff, magic)
}

// Mend writes the header of a region in use anew, but for what changes with the
// guest seat, if it is not what Format wrote for h: a guest can write there. Only
// the server calls it. It reports whether it was needed. ErrVersion or ErrFeature
// (wrapped): the header is of another build, and is left alone.
func Mend(b []byte, h Header) (mended bool, err error) {
	r, err := Open(b)
	switch {
	case errors.Is(err, ErrVersion), errors.Is(err, ErrFeature):
		return false, err
	case err == nil && r.header.Gateway == h.Gateway && r.header.RegionEpoch == h.RegionEpoch:
		return false, nil
	}
	writeHeader(b, h)
	return true, nil
}

func encodeHeader(static []byte, h Header) {
	le.PutUint64(static[headerMagicOff:], regionMagic)
	le.PutUint32(static[headerLowestOff:], lowestVersion)
	le.PutUint32(static[headerHighestOff:], highestVersion)
	le.PutUint64(static[headerIncompatibleOff:], h.Incompatible)
	le.PutUint64(static[headerCompatibleOff:], h.Compatible)
	le.PutUint64(static[headerSizeOff:], RegionSize)
	copy(static[headerEpochOff:], h.RegionEpoch[:])
	le.PutUint32(static[headerNameLenOff:], uint32(len(h.Gateway)))
	copy(static[headerNameOff:][:MaxNameLen], h.Gateway)
	for i, v := range layoutTable {
		le.PutUint32(static[headerTableOff+4*i:], v)
	}
	le.PutUint64(static[headerChecksumOff:], checksum(static[headerLowestOff:]))
}

// SetAttachment publishes a new attachment count. Only the server calls it, on
// each connection of the guest seat.
func SetAttachment(b []byte, a Attachment) { store(b, headerAttachmentOff, uint64(a)) }

// SetEnded publishes the last attachment whose holder is gone. Only the server
// calls it: when it gives the guest seat free, and when it has recovered a region
// (then with what it found: the attachment itself, or the one before it if the
// seat is held).
func SetEnded(b []byte, a Attachment) { store(b, headerEndedOff, uint64(a)) }

// Open checks the header of b once and returns a view. b may be longer than the
// region in it, and stays the caller's: it must outlive the Region.
//
// Errors: ErrMagic, ErrVersion, ErrFeature (wrapped, with what was found), or a
// *ViolationError for a damaged header.
func Open(b []byte) (*Region, error) {
	if len(b) < headerSize {
		return nil, fmt.Errorf("%w: %d bytes, want %d", ErrMagic, len(b), RegionSize)
	}
	if !aligned(b) {
		return nil, errMisaligned
	}
	var static [headerStaticSize]byte
	copyOut(static[:], b, 0)
	h, err := decodeHeader(static[:])
	if err != nil {
		return nil, err
	}
	if len(b) < RegionSize {
		return nil, violation(headerSizeOff, "memory shorter than the region that the header describes")
	}
	return &Region{mem: b[:RegionSize:RegionSize], header: h}, nil
}

// decodeHeader checks the static part in the order in which versions may differ:
// magic and checksum never change, the rest is only read in a version we speak.
func decodeHeader(static []byte) (Header, error) {
	if m := le.Uint64(static[headerMagicOff:]); m != regionMagic {
		return Header{}, fmt.Errorf("%w: magic %#x, want %#x", ErrMagic, m, uint64(regionMagic))
	}
	if le.Uint64(static[headerChecksumOff:]) != checksum(static[headerLowestOff:headerStaticSize]) {
		return Header{}, violation(headerChecksumOff, "header does not match its checksum")
	}
	lowest, highest := le.Uint32(static[headerLowestOff:]), le.Uint32(static[headerHighestOff:])
	switch {
	case lowest > highest:
		return Header{}, violation(headerLowestOff, "header: lowest version above the highest")
	case lowest > highestVersion:
		return Header{}, fmt.Errorf("%w: the region needs version %d or newer, this program speaks %d to %d: upgrade this side",
			ErrVersion, lowest, lowestVersion, highestVersion)
	case highest < lowestVersion:
		return Header{}, fmt.Errorf("%w: the region is served up to version %d, this program speaks %d to %d: upgrade the other side",
			ErrVersion, highest, lowestVersion, highestVersion)
	}
	h := Header{
		Incompatible: le.Uint64(static[headerIncompatibleOff:]),
		Compatible:   le.Uint64(static[headerCompatibleOff:]),
		RegionEpoch:  [16]byte(static[headerEpochOff:]),
	}
	if unknown := h.Incompatible &^ knownIncompatible; unknown != 0 {
		return Header{}, fmt.Errorf("%w: bits %#x: upgrade this side", ErrFeature, unknown)
	}
	if le.Uint64(static[headerSizeOff:]) != RegionSize {
		return Header{}, violation(headerSizeOff, "header: region of another size")
	}
	for i, want := range layoutTable {
		if off := headerTableOff + 4*i; le.Uint32(static[off:]) != want {
			return Header{}, violation(off, "header: another offset, size or count than this version has")
		}
	}
	n := le.Uint32(static[headerNameLenOff:])
	if n > MaxNameLen {
		return Header{}, violation(headerNameLenOff, "header: gateway name too long")
	}
	h.Gateway = string(static[headerNameOff:][:n])
	if !ValidName(h.Gateway) {
		return Header{}, violation(headerNameOff, "header: not a gateway name")
	}
	return h, nil
}

// Header returns the checked copy of the header, with Attachment read anew.
func (r *Region) Header() Header {
	h := r.header
	h.Attachment = r.Attachment()
	return h
}

// Attachment returns the attachment count that the memory shows now.
func (r *Region) Attachment() Attachment { return Attachment(load(r.mem, headerAttachmentOff)) }

// HostRings returns the heads of the host seats' rings. Each changes with every
// order that its holder writes: two loads, for a guest that cannot be rung.
func (r *Region) HostRings() (heads [HostSeats]uint64) {
	for seat := range heads {
		heads[seat] = ringIn(hostArea(r.mem, seat), hostRingOff).head()
	}
	return heads
}

// GuestSeat returns the present attachment and whether somebody holds it. Where
// the server keeps no word of that, held is always true. A guest can write both
// words: by doing so it makes itself look away, or keeps itself from looking so,
// and no more.
//
// The word names the attachment that it speaks of, so that it says nothing about
// a later one that a server without this feature has counted.
func (r *Region) GuestSeat() (a Attachment, held bool) {
	ended := Attachment(load(r.mem, headerEndedOff))
	a = r.Attachment()
	return a, r.header.Compatible&FeatureEnded == 0 || a != ended
}
