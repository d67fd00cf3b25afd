package shmproto

import "errors"

// The fields of a lease. Both are required.
const (
	leaseIdentity = 1 // epoch number, epoch random, term, heartbeat
	leaseFlags    = 2

	leaseIdentitySize = 32
	leaseFlagsSize    = 4
)

const (
	leaseActing = 1 << iota
	leaseObserve
)

// errActingTerm: our own lease says that we act in a term that does not exist.
var errActingTerm = errors.New("lease: acting in term 0")

func (l Lease) check() error {
	if l.Acting && l.Term == 0 {
		return errActingTerm
	}
	return nil
}

func (l Lease) appendTo(b []byte) []byte {
	b = appendField(b, leaseIdentity, leaseIdentitySize)
	b = le.AppendUint64(b, l.Epoch.Number)
	b = le.AppendUint64(b, l.Epoch.Random)
	b = le.AppendUint64(b, uint64(l.Term))
	b = le.AppendUint64(b, l.Heartbeat)
	b = appendField(b, leaseFlags, leaseFlagsSize)
	var flags uint32
	if l.Acting {
		flags |= leaseActing
	}
	if l.Observe {
		flags |= leaseObserve
	}
	return le.AppendUint32(b, flags)
}

func decodeLease(payload []byte) (l Lease, skipped int, err error) {
	r := newFieldReader(payload)
	seen := 0
	for {
		f, ok, err := r.next()
		if err != nil {
			return Lease{}, 0, err
		}
		if !ok {
			break
		}
		switch f.tag {
		case leaseIdentity:
			seen |= 1
			if err = f.size(leaseIdentitySize); err == nil {
				l.Epoch = Epoch{le.Uint64(f.value), le.Uint64(f.value[8:])}
				l.Term = Term(le.Uint64(f.value[16:]))
				l.Heartbeat = le.Uint64(f.value[24:])
			}
		case leaseFlags:
			seen |= 2
			if err = f.size(leaseFlagsSize); err == nil {
				flags := r.mask(le.Uint32(f.value), leaseActing|leaseObserve)
				l.Acting, l.Observe = flags&leaseActing != 0, flags&leaseObserve != 0
			}
		default:
			err = r.unknown(f)
		}
		if err != nil {
			return Lease{}, 0, err
		}
	}
	if seen != 3 {
		return Lease{}, 0, violation(len(payload), "lease without identity or flags")
	}
	if l.check() != nil {
		return Lease{}, 0, violation(len(payload), "lease: acting in term 0")
	}
	return l, r.skipped, nil
}

// compareTerm orders the lease against a term by (epoch, term): -1, 0 or +1.
func (l Lease) compareTerm(e Epoch, t Term) int {
	if c := l.Epoch.Compare(e); c != 0 {
		return c
	}
	return compare(l.Term, t)
}

// leaseScratch is room for any lease record.
type leaseScratch [(leaseCellSize - cellBuffersOff) / 2]byte

// readLease reads a lease cell, in a seat's area or on the lease board.
func readLease(c cell, scratch *leaseScratch) (Lease, error) {
	_, payload, err := c.read(scratch[:], kindLease)
	if err != nil {
		return Lease{}, err
	}
	l, _, err := decodeLease(payload)
	return l, err
}

// leaseWriter writes one lease cell. Its version is private after the first load.
type leaseWriter struct {
	cell    cell
	seat    int
	version uint64
	scratch leaseScratch
}

func newLeaseWriter(c cell, seat int) leaseWriter {
	return leaseWriter{cell: c, seat: seat, version: c.version()}
}

// set panics if l acts in term 0: no election yields that.
func (w *leaseWriter) set(l Lease) {
	if err := l.check(); err != nil {
		panic(err)
	}
	w.version++
	payload := l.appendTo(w.scratch[recordHeaderSize:recordHeaderSize])
	w.cell.fill(w.version, seal(w.scratch[:], len(payload), recordHeader{
		Version: w.version, Kind: kindLease, Writer: uint16(w.seat), Seq: l.Heartbeat,
	}))
	w.cell.show(w.version)
}
