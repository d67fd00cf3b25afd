package shmproto

import (
	"errors"
	"fmt"
)

// Guest is the guest side of a region: one agent. It is not safe for concurrent
// use.
type Guest struct {
	region      *Region
	area        []byte
	writer      int
	incarnation Incarnation
	lock        *Lock
	shown       [MaxMembers]shownRecord
	seats       [HostSeats]seatReader
	scratch     []byte
	journal     [ringRecordSize]byte
	lease       leaseScratch
	order       Order // decoded into first
	best        Order
	names       Publication // decoded into by SlotOwner
}

// shownRecord is what we last published in a slot.
type shownRecord struct {
	published  bool
	version    uint64
	checksum   uint64
	size       int
	generation uint64
}

// seatReader is what a guest reads of one host seat.
type seatReader struct {
	area []byte
	ring ringReader
}

// Guest returns the guest side for the agent with writer slot w, 0 to
// MaxWriters-1. The agents of a gateway share the slots out among themselves
// with flock(2), so the slot's former agent is gone. inc is the random number of
// this start. The rings host→guest are read from where they are now.
func (r *Region) Guest(w int, inc Incarnation) *Guest {
	area := guestArea(r.mem)
	g := &Guest{
		region:      r,
		area:        area,
		writer:      w,
		incarnation: inc,
		lock:        newLock(lockWords(area), w, inc),
		scratch:     make([]byte, publicationCell(area, 0).bufferSize()),
	}
	for seat := range g.seats {
		host := hostArea(r.mem, seat)
		g.seats[seat] = seatReader{host, newRingReader(ringIn(host, hostRingOff))}
	}
	return g
}

// Lock returns the lock that Publish and Append need.
func (g *Guest) Lock() *Lock { return g.lock }

// writable reports whether we may write under the lock now.
func (g *Guest) writable() error {
	switch {
	case !g.lock.held:
		return ErrLocked
	case g.lock.Revoked():
		return ErrFenced
	}
	return nil
}

// Publish shows p in a member slot. It sets p's Attachment and Incarnation. The
// lock must be held (else ErrLocked). ErrFenced: another agent has passed us
// over, before or while we published: acquire the lock again and publish again.
// ErrTooLarge (wrapped): leave out families, set MemberTruncated. Other errors
// say what is wrong with p. Nothing is shown on an error, except that with
// ErrFenced a void record may be.
func (g *Guest) Publish(slot int, p *Publication) error {
	c := publicationCell(g.area, slot)
	if err := g.writable(); err != nil {
		return err
	}
	payload, err := p.appendTo(g.scratch[recordHeaderSize:recordHeaderSize])
	if err != nil {
		return err
	}
	p.Attachment, p.Incarnation = g.region.Attachment(), g.incarnation
	// Several agents write this cell, each under the lock: the version is read
	// back. It is a hint: the generation in the checksum decides whose record
	// counts.
	version := c.version() + 1
	record := seal(g.scratch, len(payload), recordHeader{
		Version:     version,
		Kind:        kindPublication,
		Writer:      uint16(g.writer),
		Incarnation: g.incarnation,
		Generation:  Generation(g.lock.ticket),
		Seq:         uint64(p.Seq),
		Attachment:  p.Attachment,
	})
	c.fill(version, record)
	if err := g.writable(); err != nil {
		return err
	}
	g.shown[slot] = shownRecord{
		published: true, version: version, size: len(record),
		checksum: le.Uint64(record[recordChecksumOff:]), generation: g.lock.ticket,
	}
	c.show(version)
	return g.writable()
}

// errReplaced: somebody else's stores took the place of our record.
var errReplaced = errors.New("our record is not the one shown any more")

// Verify reports whether the record that we last published in a slot still
// stands: nil if so. ErrFenced: it is void, because we were passed over; ErrEmpty:
// we have published nothing there; any other error: it was damaged or replaced,
// by a late store of a former lock holder or by another agent. Unless the slot
// now belongs to another agent, publish again.
func (g *Guest) Verify(slot int) error {
	s := &g.shown[slot]
	if !s.published {
		return ErrEmpty
	}
	if g.lock.area.passedOver(g.writer, s.generation) {
		return ErrFenced
	}
	c := publicationCell(g.area, slot)
	if c.version() != s.version {
		return errReplaced
	}
	b := g.scratch[:s.size]
	copyOut(b, c.mem, c.bufferOff(s.version))
	if le.Uint64(b[recordChecksumOff:]) != s.checksum || checksum(b[recordVersionOff:]) != s.checksum {
		return errReplaced
	}
	return nil
}

// Append adds a record to the ring guest→host; j.Seq is set by it. Errors:
// ErrLocked and ErrFenced as of Publish.
func (g *Guest) Append(j Journal) error {
	if err := g.writable(); err != nil {
		return err
	}
	r := ringIn(g.area, guestRingOff)
	r.append(r.head(), j, author{uint16(g.writer), g.incarnation, Generation(g.lock.ticket)}, &g.journal)
	fence()
	return g.writable()
}

// ReadLease returns the lease of a host seat, 0 or 1. Errors: ErrEmpty, ErrTorn
// or a *ViolationError.
func (g *Guest) ReadLease(seat int) (Lease, error) {
	return readLease(leaseCell(g.seats[seat].area), &g.lease)
}

// ReadOrder copies into o, whose slice it uses again, the order for a member in
// its slot: of the two seats' the one with the highest (epoch, term, seq), unless
// a seat shows a lease of a higher (epoch, term): then its coordinator has taken
// over, and an order that is not in its ledger must not be obeyed any more. That
// stays so when it stops acting, so Acting is not asked.
// Orders for another member name, left from the slot's former owner, do not count.
//
// A damaged seat does not keep us from the other one. ErrEmpty: no order stands.
// ErrTorn or a *ViolationError: none can be read; ErrTorn also if a lease is being
// replaced all the time, for it might fence the order. On an error o is as before. A
// caller keeps the order that it obeys until it reads a higher one.
func (g *Guest) ReadOrder(slot int, member string, o *Order) error {
	found := false
	fault := ErrEmpty
	for seat := range g.seats {
		err := g.readSeatOrder(seat, slot)
		switch {
		case errors.Is(err, ErrEmpty):
		case err != nil:
			fault = fmt.Errorf("order of host seat %d: %w", seat, err)
		case g.order.Member != member:
		case !found || g.order.Compare(&g.best) > 0:
			g.order, g.best = g.best, g.order
			found = true
		}
	}
	if !found {
		return fault
	}
	// Orders first, leases afterwards: docs/DESIGN.md, "Election and ledger".
	fence()
	for seat := range g.seats {
		l, err := g.ReadLease(seat)
		switch {
		case errors.Is(err, ErrTorn):
			return fmt.Errorf("lease of host seat %d: %w", seat, err)
		case err == nil && l.compareTerm(g.best.Epoch, g.best.Term) > 0:
			return fault
		}
	}
	g.best.copyTo(o)
	return nil
}

func (g *Guest) readSeatOrder(seat, slot int) error {
	_, payload, err := orderCell(g.seats[seat].area, slot).read(g.scratch, kindOrder)
	if err != nil {
		return err
	}
	_, err = g.order.decode(payload)
	return err
}

// ReadJournal fills dst with what the host agent in a seat, 0 or 1, has appended
// since the last call, oldest first; lost is how many records are known to be
// missing.
func (g *Guest) ReadJournal(seat int, dst []Journal) (n int, lost uint64) {
	return g.seats[seat].ring.read(dst, nil)
}

// SlotOwner is whose a member slot is.
type SlotOwner struct {
	Member string // "" if the slot is free
	Left   bool   // the member has left: nobody shows anything here any more
	Past   bool   // the agent that showed it is gone: another attachment, or another start of an agent in our writer slot
}

// SlotOwner returns whose a slot is. It is for choosing a slot, under the lock: a
// member that has left, and one whose record is void, still own theirs, until
// another one takes it. ErrTorn: look again. A *ViolationError: nothing readable
// is in the slot, so it may be taken.
func (g *Guest) SlotOwner(slot int) (SlotOwner, error) {
	h, payload, err := publicationCell(g.area, slot).read(g.scratch, kindPublication)
	if errors.Is(err, ErrEmpty) {
		return SlotOwner{}, nil
	}
	if err != nil {
		return SlotOwner{}, err
	}
	if _, err := g.names.decode(payload); err != nil {
		return SlotOwner{}, err
	}
	return SlotOwner{Member: g.names.Member, Left: g.names.State == MemberLeft, Past: h.Attachment < g.region.Attachment() || int(h.Writer) == g.writer && h.Incarnation != g.incarnation}, nil
}
