package shmproto

import "fmt"

// Host is the host side of a region: the holder of one host seat. It is not safe
// for concurrent use.
type Host struct {
	seat    int
	lease   leaseWriter
	orders  [MaxMembers]orderWriter
	ring    ring
	next    uint64 // number of our next ring record
	lock    lockArea
	guest   []byte
	reader  ringReader
	scratch []byte // a record, read or to be written
	journal [ringRecordSize]byte
	spare   Publication // decoded into first, so that an error leaves the caller's alone
}

// orderWriter is one order cell. Its version is private after the first load.
type orderWriter struct {
	cell    cell
	version uint64
}

// Host returns the host side for the holder of host seat 0 or 1. Numbers that
// the seat's former holder left are continued, so that a reader notices the
// first change; nothing else is taken from them. The ring guest→host is read
// from where it is now.
func (r *Region) Host(seat int) *Host {
	area, guest := hostArea(r.mem, seat), guestArea(r.mem)
	h := &Host{
		seat:    seat,
		lease:   newLeaseWriter(leaseCell(area), seat),
		ring:    ringIn(area, hostRingOff),
		lock:    lockWords(guest),
		guest:   guest,
		reader:  newRingReader(ringIn(guest, guestRingOff)),
		scratch: make([]byte, publicationCell(guest, 0).bufferSize()),
	}
	h.next = h.ring.head()
	for slot := range h.orders {
		c := orderCell(area, slot)
		h.orders[slot] = orderWriter{c, c.version()}
	}
	return h
}

// SetLease shows l as our lease in this region. It panics if l acts in term 0.
func (h *Host) SetLease(l Lease) { h.lease.set(l) }

// WriteOrder shows o in our order cell of a member slot. The order must be in
// the ledger already. Errors, which all mean a fault of the caller, say what is
// wrong with o; ErrTooLarge (wrapped) that it has too many exclusions.
func (h *Host) WriteOrder(slot int, o *Order) error {
	w := &h.orders[slot]
	if err := o.check(); err != nil {
		return err
	}
	w.version++
	b := h.scratch[:w.cell.bufferSize()]
	payload := o.appendTo(b[recordHeaderSize:recordHeaderSize])
	w.cell.fill(w.version, seal(b, len(payload), recordHeader{
		Version: w.version, Kind: kindOrder, Writer: uint16(h.seat), Seq: uint64(o.Seq),
	}))
	w.cell.show(w.version)
	return nil
}

// Append adds a record to the ring host→guest; j.Seq is set by it. The ring has
// no room to run out of: what the guest has not read in time is overwritten.
func (h *Host) Append(j Journal) {
	h.ring.append(h.next, j, author{slot: uint16(h.seat)}, &h.journal)
	h.next++
}

// PublicationVersion returns a number that changes with every publication in the
// slot: two loads, to find out cheaply whether a read is worth while. The version
// alone would not do: a late store of a former lock holder can take it back, and
// the next publication then has the number of one that was read already.
func (h *Host) PublicationVersion(slot int) uint64 {
	c := publicationCell(h.guest, slot)
	v := c.version()
	// An odd factor that spreads neighbouring versions (2^64 by the golden ratio), so that no small difference of checksums makes up for one.
	return v*0x9e3779b97f4a7c15 + load(c.mem, c.bufferOff(v)+recordChecksumOff)
}

// ReadPublication copies the publication in a slot out, checks it and decodes it
// into p, whose slices it uses again. Attachment, Incarnation and Seq are filled
// in from the record. On an error p is as before.
//
// Errors: ErrEmpty, ErrTorn, ErrFenced or a *ViolationError.
func (h *Host) ReadPublication(slot int, p *Publication) error {
	header, payload, err := publicationCell(h.guest, slot).read(h.scratch, kindPublication)
	if err != nil {
		return err
	}
	if header.Writer >= MaxWriters {
		return violation(recordShapeOff, "record by a writer slot that does not exist")
	}
	// After the copy: what was passed over later was still good when we read it.
	if h.lock.passedOver(int(header.Writer), uint64(header.Generation)) {
		return ErrFenced
	}
	if _, err := h.spare.decode(payload); err != nil {
		return fmt.Errorf("publication: %w", err)
	}
	h.spare.Attachment, h.spare.Incarnation, h.spare.Seq = header.Attachment, header.Incarnation, Seq(header.Seq)
	*p, h.spare = h.spare, *p
	return nil
}

// ReadJournal fills dst with what the guest's agents have appended since the
// last call, oldest first. lost is how many records are known to be missing:
// overwritten, damaged or written by a revoked lock holder. It looks at no more
// than the ring holds.
func (h *Host) ReadJournal(dst []Journal) (n int, lost uint64) {
	return h.reader.read(dst, func(a author) bool {
		return a.slot < MaxWriters && !h.lock.passedOver(int(a.slot), uint64(a.generation))
	})
}
