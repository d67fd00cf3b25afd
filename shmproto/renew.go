package shmproto

import "errors"

// Renew makes the guest area fit for the next holder of the guest seat, and
// reports whether anything in it was damaged. The lock starts anew: words of it
// that a hostile or broken holder left would have the next one wait for an agent
// that never was. Publications that are damaged, or void because their writer was
// passed over, are emptied: they would count against a gateway that has done
// nothing, and with the lock's words gone void ones would stand again. Everything
// else stays, and the cells' versions go on, so that a host notices the next
// publication.
//
// Preconditions: the server calls it, between the end of the guest seat's last
// holder and the handshake with the next: nobody else writes here then. b has a
// header of ours.
func Renew(b []byte) (damaged bool) {
	area := guestArea(b)
	lock := lockWords(area)
	scratch := make([]byte, publicationCell(area, 0).bufferSize())
	for slot := range MaxMembers {
		c := publicationCell(area, slot)
		h, _, err := c.read(scratch, kindPublication)
		switch {
		case errors.Is(err, ErrEmpty):
		case err != nil || h.Writer >= MaxWriters:
			damaged = true
			c.empty()
		case lock.passedOver(int(h.Writer), uint64(h.Generation)):
			c.empty()
		}
	}
	for w := range MaxWriters {
		lock.set(w, lockIncarnationOff, 0)
		lock.set(w, lockStateOff, lockIdle)
	}
	lock.format()
	return damaged
}

// empty takes the records out of both buffers. The version stays.
func (c cell) empty() {
	var none [recordHeaderSize]byte
	for v := range uint64(2) {
		copyIn(c.mem, c.bufferOff(v), none[:])
	}
	fence()
}
