package shmproto

// The states of a writer slot in the lock.
const (
	lockIdle      = 0
	lockChoosing  = 1 // reading the others' tickets
	lockCompeting = 2 // waits with its ticket, or holds the lock
)

// lockArea is the lock of a gateway's agents: Lamport's bakery over single-writer
// words, one line per writer slot. A slot's ticket word keeps its last ticket
// when the lock is released, so that tickets only grow and can serve as lock
// generations. A slot's revoked words name, per writer, the highest ticket that
// this slot has passed over; they only grow, too.
type lockArea struct{ mem []byte }

func lockWords(area []byte) lockArea { return lockArea{area[guestLockOff:][:lockSize]} }

func (a lockArea) format() {
	for w := range MaxWriters {
		a.set(w, lockTicketOff, counterStart)
		for v := range MaxWriters {
			a.set(w, lockRevokedOff+8*v, counterStart)
		}
	}
}

func (a lockArea) get(w, off int) uint64    { return load(a.mem, w*lockSlotSize+off) }
func (a lockArea) set(w, off int, v uint64) { store(a.mem, w*lockSlotSize+off, v) }

// passedOver reports whether any slot but w's own has passed over ticket g of
// writer w. Everything that w commits with it is void.
func (a lockArea) passedOver(w int, g uint64) bool {
	for k := range MaxWriters {
		if k != w && !before(a.get(k, lockRevokedOff+8*w), g) {
			return true
		}
	}
	return false
}

// Blocker says who is in the way of an acquisition. A caller that sees the same
// (==) Blocker for as long as it is willing to wait, by its own clock, passes it
// to Revoke.
type Blocker struct {
	Slot        int         // writer slot; the caller's own if it was itself passed over again and again
	Choosing    bool        // it has not shown its ticket yet
	Ticket      Generation  // its ticket; while choosing, its last one
	Incarnation Incarnation // the agent in the slot
}

// Lock orders the agents of one gateway, which trust each other; it protects
// against nobody. It belongs to a Guest and is as little safe for concurrent use.
// No method blocks, and every loop is bounded whatever the words hold.
type Lock struct {
	area   lockArea
	slot   int
	state  int // our state word
	ticket uint64
	held   bool
	// revoked are our own words, never read back; choosers are the agents that
	// we pass over while they stay in the middle of choosing.
	revoked  [MaxWriters]uint64
	choosers [MaxWriters]Blocker
}

// newLock takes writer slot w, whose former agent is gone: its claim to the lock
// ends here, its tickets and revocations are carried on.
func newLock(area lockArea, w int, inc Incarnation) *Lock {
	l := &Lock{area: area, slot: w, ticket: area.get(w, lockTicketOff)}
	for v := range l.revoked {
		l.revoked[v] = area.get(w, lockRevokedOff+8*v)
		l.choosers[v].Slot = -1
	}
	l.setState(lockIdle)
	area.set(w, lockIncarnationOff, uint64(inc))
	return l
}

func (l *Lock) setState(s int) {
	l.state = s
	l.area.set(l.slot, lockStateOff, uint64(s))
}

// TryAcquire takes the lock, or takes a place in the queue and says who is in
// the way. It never blocks; call it again until it returns true. A holder that
// calls it keeps the lock, unless it was passed over: then it queues again.
func (l *Lock) TryAcquire() (held bool, by Blocker) {
	if l.held && !l.Revoked() {
		return true, Blocker{}
	}
	l.held = false
	for range MaxWriters {
		if l.state != lockCompeting || l.Revoked() {
			l.choose()
		}
		if b, blocked := l.firstBlocker(); blocked {
			return false, b
		}
		// Whoever passed us over stored that before it looked at our ticket the
		// second time; see pass.
		fence()
		if !l.Revoked() {
			l.held = true
			return true, Blocker{}
		}
	}
	return false, Blocker{Slot: l.slot, Ticket: Generation(l.ticket)}
}

// choose takes a ticket behind all that are shown, and behind all of ours that
// were passed over.
func (l *Lock) choose() {
	l.setState(lockChoosing)
	// Either we see another's ticket below, or it sees that we are choosing.
	fence()
	for w := range MaxWriters {
		for _, t := range [...]uint64{l.area.get(w, lockTicketOff), l.area.get(w, lockRevokedOff+8*l.slot)} {
			if before(l.ticket, t) {
				l.ticket = t
			}
		}
	}
	l.ticket++
	l.area.set(l.slot, lockTicketOff, l.ticket)
	l.setState(lockCompeting)
	fence()
}

// firstBlocker returns who is in the way, if anyone: of several the first in the
// queue, so that a waiter is not passed over for its holder's fault; one that is
// still choosing only if nobody else is there.
func (l *Lock) firstBlocker() (first Blocker, blocked bool) {
	for j := range MaxWriters {
		b, inTheWay := l.blockedBy(j)
		if !inTheWay {
			continue
		}
		if !blocked || first.Choosing || !b.Choosing && before(uint64(b.Ticket), uint64(first.Ticket)) {
			first, blocked = b, true
		}
	}
	return first, blocked
}

// blockedBy reports whether slot j is before us in the queue.
func (l *Lock) blockedBy(j int) (Blocker, bool) {
	if j == l.slot {
		return Blocker{}, false
	}
	b, competing := l.look(j)
	if b.Choosing && b == l.choosers[j] {
		// Its ticket to come may be lower than ours, even if it chose before an
		// earlier ticket of ours. Void all up to ours; if it is higher, it waits.
		l.pass(j, l.ticket)
		b, competing = l.look(j)
		if b == l.choosers[j] {
			return Blocker{}, false
		}
	}
	switch t := uint64(b.Ticket); {
	case b.Choosing:
		return b, true
	case !competing:
		return Blocker{}, false
	case before(l.ticket, t) || l.ticket == t && l.slot < j:
		return Blocker{}, false
	case l.area.passedOver(j, t):
		return Blocker{}, false
	}
	return b, true
}

// look describes what slot j shows. An unknown state counts as idle.
func (l *Lock) look(j int) (b Blocker, competing bool) {
	state := l.area.get(j, lockStateOff)
	return Blocker{
		Slot:        j,
		Choosing:    state == lockChoosing,
		Ticket:      Generation(l.area.get(j, lockTicketOff)),
		Incarnation: Incarnation(l.area.get(j, lockIncarnationOff)),
	}, state == lockCompeting
}

// pass stores that we pass over writer j's tickets up to g. The fence lets us
// look at j once more: either it is still what we passed over, or it finds our
// word when it checks, behind its own fence.
func (l *Lock) pass(j int, g uint64) {
	if before(l.revoked[j], g) {
		l.revoked[j] = g
		l.area.set(l.slot, lockRevokedOff+8*j, g)
		fence()
	}
}

// Revoke passes over b, which has blocked us for longer than we wait, by our own
// clock. It does nothing if b is not in the way any more. From here on every
// record that b completes with its ticket is void, and so is the last one that
// it completed: it finds out by Revoked and Verify and publishes again. Call
// TryAcquire next.
func (l *Lock) Revoke(b Blocker) {
	if l.state != lockCompeting || b.Slot < 0 || b.Slot >= MaxWriters || b.Slot == l.slot {
		return
	}
	now, competing := l.look(b.Slot)
	switch {
	case now != b:
	case b.Choosing:
		l.choosers[b.Slot] = b
		l.pass(b.Slot, l.ticket)
	case competing:
		l.pass(b.Slot, uint64(b.Ticket))
	}
}

// Release gives up the lock, or the place in the queue.
func (l *Lock) Release() {
	l.held = false
	if l.state != lockIdle {
		l.setState(lockIdle)
	}
}

// Revoked reports whether another agent has passed over our last ticket.
func (l *Lock) Revoked() bool { return l.area.passedOver(l.slot, l.ticket) }
