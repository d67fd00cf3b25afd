package runner

import (
	"errors"
	"time"

	"guardring/internal/coordinator"
	"guardring/shmproto"
)

// seat is what a region's header says of its guest seat, or what the core was
// told of that.
type seat struct {
	held       bool
	attachment shmproto.Attachment
}

func (l *link) seat() seat {
	a, held := l.region.GuestSeat()
	return seat{held && !(a == l.over && l.gone()), a}
}

// introduce tells the core of a region as if for the first time, and reads it.
func (r *runner) introduce(l *link) {
	l.told = nil
	r.look(l)
}

func (r *runner) lookAll() {
	again := r.rescan
	r.rescan = false
	for _, l := range r.sorted() {
		if again {
			r.introduce(l)
		} else {
			r.look(l)
		}
	}
}

// watch looks at the regions whose guest seat has changed without a doorbell,
// and at those that had used up their budget.
func (r *runner) watch() {
	for _, l := range r.sorted() {
		if l.owed || l.told != nil && *l.told != l.seat() {
			r.look(l)
		}
	}
}

// look brings the core up to date with a region. What a guest can make us write
// into the ledger that way is paced; what is over the pace stays in the memory,
// which always shows the newest, and is looked at again at a later tick.
//
// A holder of the guest seat who is gone has said its last word: that is read,
// unless it was too fast and somebody waits (see relieve); then the core is told
// that the gateway is away. From then on publications of that attachment are
// history, also if there is a new holder already.
func (r *runner) look(l *link) {
	if !r.acting() {
		return
	}
	l.owed = false
	now := l.seat()
	if was := l.told; was != nil && was.held && *was != now {
		// What somebody who was too fast would still have us write down keeps no
		// successor waiting.
		heard := r.read(l, was.attachment, max(was.attachment, now.attachment)) || r.acting() && now.held && l.relieve()
		if !heard || !r.present(l, seat{false, was.attachment}) {
			return
		}
	}
	if !r.acting() {
		return // what was told could not be made durable
	}
	switch {
	case now.held:
		if l.told != nil && l.told.held && l.vm == r.domains[l.name].Generation || r.present(l, now) {
			r.read(l, now.attachment, now.attachment)
		}
	case l.told != nil:
		*l.told = now
	case r.core.Knows(l.name) || now.attachment == 0:
		r.present(l, now)
	default:
		// Nothing is known of it, because the ledger is new: what it said last is
		// all there is.
		if r.present(l, seat{true, now.attachment}) && r.read(l, now.attachment, now.attachment) {
			r.present(l, now)
		}
	}
}

// present tells the core whether a gateway is there; false if that has to wait.
func (r *runner) present(l *link, s seat) bool {
	if !r.affords(l) {
		return false
	}
	l.told = &s
	l.known = [shmproto.MaxMembers]bool{}
	l.vm = r.domains[l.name].Generation
	r.stepOf(l, coordinator.GatewaySeen{At: time.Now(), Gateway: l.name, Present: s.held, Generation: l.vm})
	return true
}

// read gives every changed publication of an attachment to the core; highest is
// the highest that there has been. It is false if some have to wait.
func (r *runner) read(l *link, attachment, highest shmproto.Attachment) bool {
	for slot := range shmproto.MaxMembers {
		version := l.host.PublicationVersion(slot)
		if l.known[slot] && l.seen[slot] == version {
			continue
		}
		if !r.acting() || !r.affords(l) {
			return false
		}
		err := l.host.ReadPublication(slot, &r.publication)
		if errors.Is(err, shmproto.ErrTorn) {
			continue // being replaced: its doorbell follows, or the next rescan sees it
		}
		// What changes between the two loads has another version and is read
		// again.
		l.seen[slot], l.known[slot] = version, true
		if err == nil && r.publication.Attachment > highest {
			// Believed, it would make the gateway's own later ones look stale.
			err = &shmproto.ViolationError{Reason: "publication of an attachment that has not been"}
		}
		var bad *shmproto.ViolationError
		switch {
		case err == nil && r.publication.Attachment != attachment:
			// Of an earlier holder of the seat, or of one that is not told yet.
		case err == nil:
			r.published++
			r.stepOf(l, coordinator.Published{At: time.Now(), Gateway: l.name, Slot: slot, Publication: &r.publication})
		case errors.As(err, &bad):
			r.violated(l.name, bad)
			r.stepOf(l, coordinator.Violated{At: time.Now(), Gateway: l.name, Slot: slot, Reason: bad.Reason})
		}
		// Empty and fenced slots say nothing; the last good one stays.
	}
	return true
}

// affords reports whether the gateway may make us write ledger and journal once
// more, and else has it looked at again at a later tick.
func (r *runner) affords(l *link) bool {
	if l.budget.Tokens() >= 1 && l.paper.Tokens() >= 1 {
		return true
	}
	l.owed = true
	l.hurried()
	return false
}

// stepOf is step for an event of a gateway, which is charged if the ledger was
// written for it, or was to be.
func (r *runner) stepOf(l *link, e coordinator.Event) {
	if ready, _ := r.step(e, l.name); len(ready.Save) > 0 {
		l.budget.Reserve()
	}
}
