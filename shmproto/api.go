package shmproto

import "errors"

// Errors that callers tell apart. Everything a peer wrote wrongly is a
// *ViolationError.
var (
	// ErrMagic: the memory is not a guardring region.
	ErrMagic = errors.New("not a guardring region")
	// ErrVersion: the region is served in versions that this build does not speak.
	ErrVersion = errors.New("unsupported region version")
	// ErrFeature: the region needs a feature that this build does not have.
	ErrFeature = errors.New("unsupported incompatible feature")
	// ErrEmpty: the slot was never written.
	ErrEmpty = errors.New("empty slot")
	// ErrTorn: a record was being replaced during every one of the bounded
	// attempts to read it. Keep the last good one and read again later.
	ErrTorn = errors.New("record torn")
	// ErrFenced: the record was completed by an agent whose lock had been
	// revoked. Keep the last good one.
	ErrFenced = errors.New("record of a revoked lock holder")
	// ErrTooLarge: our own record does not fit its slot.
	ErrTooLarge = errors.New("record too large")
	// ErrLocked: the lock is held by another agent.
	ErrLocked = errors.New("locked")
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

// LeaseBoardSize is the size of the host-only memory in which the two
// coordinators show each other their leases.
const LeaseBoardSize = 4096

/*
THE API TO BE BUILT (signatures; each type in a file of its own):

	// Format writes a fresh region's header, empty slots and rings into b.
	func Format(b []byte, h Header) error
	// SetAttachment publishes a new attachment count (server only, on each guest connection).
	func SetAttachment(b []byte, a Attachment)
	// Open checks the header of b (len(b) may exceed the size in it) once and returns a view.
	func Open(b []byte) (*Region, error)
	func (r *Region) Header() Header          // Attachment read anew, the rest the checked copy
	func (r *Region) Attachment() Attachment

	// Host side: the holder of host seat 0 or 1. Not safe for concurrent use.
	func (r *Region) Host(seat int) *Host
	func (h *Host) SetLease(l Lease)                        // seat's lease cell
	func (h *Host) WriteOrder(slot int, o *Order) error     // seat's order cell of member slot
	func (h *Host) Append(j Journal)                        // ring host→guest
	func (h *Host) PublicationVersion(slot int) uint64      // cheap: did anything change?
	func (h *Host) ReadPublication(slot int, p *Publication) error  // copy, check, decode into p (reuses its slices); binding filled in
	func (h *Host) ReadJournal(dst []Journal) (n int, lost uint64)  // ring guest→host, private cursor, bounded
	// Fence orders all our earlier stores before all our later loads (full barrier).
	func Fence()

	// Guest side: one agent, holding writer slot w (0..MaxWriters-1), which the
	// agents of one gateway share out among themselves with flock(2).
	func (r *Region) Guest(w int, inc Incarnation) *Guest
	func (g *Guest) Lock() *Lock
	func (g *Guest) Publish(slot int, p *Publication) error // needs the lock; sets Attachment, Incarnation and generation
	func (g *Guest) Verify(slot int) error                  // our last record still stands? else publish again
	func (g *Guest) Append(j Journal) error                 // needs the lock; ring guest→host
	func (g *Guest) ReadOrder(slot int, o *Order) error     // highest valid (epoch, term, seq) of both seats, fenced by a higher lease; ErrEmpty if none
	func (g *Guest) ReadLease(seat int) (Lease, error)
	func (g *Guest) ReadJournal(seat int, dst []Journal) (n int, lost uint64)
	func (g *Guest) SlotOwner(slot int) (string, error)     // member name in a slot, "" if free; for choosing slots

	// Lock: bakery lock of single-writer words, revocable.
	func (l *Lock) TryAcquire() (held bool, by Blocker)     // never blocks; call again until held; Blocker says who is in the way
	func (l *Lock) Revoke(b Blocker)                        // pass b over: the caller's own clock says that it has stalled too long
	func (l *Lock) Release()
	func (l *Lock) Revoked() bool                           // someone passed us over

	// Host-only lease board shared by the two coordinators (seat 0 and 1).
	func FormatLeaseBoard(b []byte)
	func OpenLeaseBoard(b []byte) (*LeaseBoard, error)
	func (lb *LeaseBoard) Set(seat int, l Lease)
	func (lb *LeaseBoard) Read(seat int) (Lease, error)

	func (o *Order) Digest() [16]byte                       // SHA-256 of the encoded payload, cut

	// Journal is one ring record: what happened, for explain and for tests; the
	// slots are the truth.
	type Journal struct { Seq uint64; Kind JournalKind; Slot uint8; Args [3]uint64 }

	// ViolationError marks a peer that wrote what the protocol forbids.
	type ViolationError struct { Offset int; Reason string }
*/
