package shmproto

import "fmt"

// LeaseBoardSize is the size of the host-only memory in which the two
// coordinators show each other their leases.
const LeaseBoardSize = 4096

// LeaseBoard is a view of the lease board. No guest has this memory: what stands
// on it decides elections. Each seat is written by one coordinator; Set and Read
// are not safe for concurrent use.
type LeaseBoard struct {
	cells   [HostSeats]cell
	writers [HostSeats]*leaseWriter
	scratch leaseScratch
}

// FormatLeaseBoard writes an empty lease board into b, which nobody else may use
// yet. It panics if b is shorter than LeaseBoardSize or misaligned.
func FormatLeaseBoard(b []byte) {
	if !aligned(b) {
		panic(errMisaligned)
	}
	b = b[:LeaseBoardSize]
	var zero [LeaseBoardSize]byte
	copyIn(b, 0, zero[:])
	store(b, boardVersionOff, boardFormat)
	for seat := range HostSeats {
		boardCell(b, seat).format()
	}
	store(b, boardMagicOff, boardMagic)
}

func boardCell(b []byte, seat int) cell {
	return cell{b[boardCellsOff:][:HostSeats*leaseCellSize][seat*leaseCellSize:][:leaseCellSize]}
}

// OpenLeaseBoard checks what FormatLeaseBoard wrote. Errors: ErrMagic and
// ErrVersion, wrapped.
func OpenLeaseBoard(b []byte) (*LeaseBoard, error) {
	if len(b) < LeaseBoardSize {
		return nil, fmt.Errorf("lease board: %w: %d bytes, want %d", ErrMagic, len(b), LeaseBoardSize)
	}
	if !aligned(b) {
		return nil, errMisaligned
	}
	b = b[:LeaseBoardSize:LeaseBoardSize]
	if m := load(b, boardMagicOff); m != boardMagic {
		return nil, fmt.Errorf("lease board: %w: magic %#x, want %#x", ErrMagic, m, uint64(boardMagic))
	}
	if v := load(b, boardVersionOff); v != boardFormat {
		return nil, fmt.Errorf("lease board: %w: %d, want %d", ErrVersion, v, boardFormat)
	}
	lb := &LeaseBoard{}
	for seat := range lb.cells {
		lb.cells[seat] = boardCell(b, seat)
	}
	return lb, nil
}

// Set shows l as the lease of the coordinator in a seat, 0 or 1, which is the
// caller. It panics if l acts in term 0.
func (lb *LeaseBoard) Set(seat int, l Lease) {
	w := lb.writers[seat]
	if w == nil {
		nw := newLeaseWriter(lb.cells[seat], seat)
		w = &nw
		lb.writers[seat] = w
	}
	w.set(l)
}

// Read returns the lease of a seat, 0 or 1. Errors: ErrEmpty, ErrTorn or a
// *ViolationError.
func (lb *LeaseBoard) Read(seat int) (Lease, error) { return readLease(lb.cells[seat], &lb.scratch) }
