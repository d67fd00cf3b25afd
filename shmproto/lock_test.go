package shmproto

import (
	"errors"
	"testing"
)

// onStore calls act before (or behind) the next store to offset off of writer
// slot w's lock words, once, with later stores going through unseen.
func onStore(t *testing.T, r *Region, w, off int, behind bool, act func()) {
	t.Helper()
	was := store
	t.Cleanup(func() { store = was })
	target := &lockWords(guestArea(r.mem)).mem[w*lockSlotSize+off]
	store = func(b []byte, o int, v uint64) {
		hit := &b[o] == target
		if hit {
			store = was
		}
		if hit && !behind {
			act()
		}
		storeShared(b, o, v)
		if hit && behind {
			act()
		}
	}
}

func mustAcquire(t *testing.T, l *Lock) {
	t.Helper()
	if held, by := l.TryAcquire(); !held {
		t.Fatalf("blocked by %+v", by)
	}
}

func mustBlock(t *testing.T, l *Lock, slot int) Blocker {
	t.Helper()
	held, by := l.TryAcquire()
	if held || by.Slot != slot {
		t.Fatalf("held %v, blocked by %+v, want slot %d in the way", held, by, slot)
	}
	return by
}

func TestLockQueue(t *testing.T) {
	r := newRegion(t)
	var l [3]*Lock
	for w := range l {
		l[w] = r.Guest(w, Incarnation(w+10)).Lock()
	}
	mustAcquire(t, l[2])
	by := mustBlock(t, l[0], 2)
	if by.Incarnation != 12 || by.Choosing {
		t.Errorf("blocker %+v, want incarnation 12", by)
	}
	mustBlock(t, l[1], 2)
	mustAcquire(t, l[2]) // again: it keeps it
	l[2].Release()
	mustBlock(t, l[1], 0) // first come, first served
	mustAcquire(t, l[0])
	l[0].Release()
	mustAcquire(t, l[1])
	mustBlock(t, l[2], 1) // queues behind
}

func TestRevokeHolder(t *testing.T) {
	r := newRegion(t)
	a, b := newGuest(t, r, 0), r.Guest(1, 2)
	h := r.Host(0)
	if err := a.Publish(0, samplePublication(1, false)); err != nil {
		t.Fatal(err)
	}
	by := mustBlock(t, b.Lock(), 0)
	b.Lock().Revoke(by)
	mustAcquire(t, b.Lock())
	if !a.Lock().Revoked() {
		t.Error("the former holder does not see that it was passed over")
	}
	for what, err := range map[string]error{
		"publish": a.Publish(0, samplePublication(1, false)), "append": a.Append(Journal{}), "verify": a.Verify(0),
	} {
		if !errors.Is(err, ErrFenced) {
			t.Errorf("%s by the former holder: %v, want ErrFenced", what, err)
		}
	}
	var p Publication
	if err := h.ReadPublication(0, &p); !errors.Is(err, ErrFenced) {
		t.Errorf("read a void record: %v, want ErrFenced", err)
	}
	if owner, err := b.SlotOwner(0); owner.Member != "default" || err != nil {
		t.Errorf("owner of the slot: %q, %v", owner.Member, err)
	}
	// It queues again and publishes with a new ticket.
	mustBlock(t, a.Lock(), 1)
	b.Lock().Release()
	mustAcquire(t, a.Lock())
	if err := a.Publish(0, samplePublication(1, false)); err != nil {
		t.Fatal(err)
	}
	if err := h.ReadPublication(0, &p); err != nil {
		t.Error(err)
	}
}

// Passed over between the check and the version's store, or right behind it: the
// writer is told, and the record is void.
func TestRevokedWhilePublishing(t *testing.T) {
	for _, behind := range []bool{false, true} {
		r := newRegion(t)
		a, b := newGuest(t, r, 0), r.Guest(1, 2)
		was := store
		version := &publicationCell(guestArea(r.mem), 0).mem[cellVersionOff]
		store = func(mem []byte, o int, v uint64) {
			hit := &mem[o] == version
			if hit {
				store = was
			}
			pass := func() { b.Lock().Revoke(mustBlock(t, b.Lock(), 0)) }
			if hit && !behind {
				pass()
			}
			storeShared(mem, o, v)
			if hit && behind {
				pass()
			}
		}
		err := a.Publish(0, samplePublication(1, false))
		store = was
		if !errors.Is(err, ErrFenced) {
			t.Errorf("publish: %v, want ErrFenced", err)
		}
		var p Publication
		if err := r.Host(0).ReadPublication(0, &p); !errors.Is(err, ErrFenced) {
			t.Errorf("read: %v, want ErrFenced", err)
		}
	}
}

// An agent that stops after it has chosen, before it shows its ticket, is passed
// over; its ticket is then equal to the other's, and it is before it by its slot.
func TestRevokeChooser(t *testing.T) {
	r := newRegion(t)
	a, b := r.Guest(0, 1).Lock(), r.Guest(1, 2).Lock()
	onStore(t, r, 0, lockTicketOff, false, func() {
		by := mustBlock(t, b, 0)
		if !by.Choosing {
			t.Errorf("blocker %+v, want it to be choosing", by)
		}
		b.Revoke(by)
		mustAcquire(t, b)
	})
	mustBlock(t, a, 1)
	b.Release()
	mustAcquire(t, a)
}

// A chooser that was passed over can take a ticket above the one that passed it
// over, and equal to a later one.
func TestRevokeChooserTwice(t *testing.T) {
	r := newRegion(t)
	a, b := r.Guest(0, 1).Lock(), r.Guest(1, 2).Lock()
	onStore(t, r, 0, lockStateOff, true, func() {
		b.Revoke(mustBlock(t, b, 0))
		mustAcquire(t, b)
		onStore(t, r, 0, lockTicketOff, false, func() {
			b.Release()
			mustAcquire(t, b) // without waiting for it again
		})
	})
	mustBlock(t, a, 1)
	b.Release()
	mustAcquire(t, a)
}

func TestRevokeOfAPastBlockerDoesNothing(t *testing.T) {
	r := newRegion(t)
	a, b := r.Guest(0, 1), r.Guest(1, 2)
	mustAcquire(t, a.Lock())
	by := mustBlock(t, b.Lock(), 0)
	a.Lock().Release()
	mustAcquire(t, b.Lock())
	b.Lock().Release()
	mustAcquire(t, a.Lock())
	mustBlock(t, b.Lock(), 0)
	b.Lock().Revoke(by)
	b.Lock().Revoke(Blocker{Slot: -1})
	b.Lock().Revoke(Blocker{Slot: MaxWriters})
	b.Lock().Revoke(Blocker{Slot: 1})
	if a.Lock().Revoked() {
		t.Error("passed over by an old blocker")
	}
}

// A ticket is never one that others have passed over already, and revocations
// are carried on by the slot's next agent and never taken back.
func TestTicketsAndRevocationsGrow(t *testing.T) {
	r := newRegion(t)
	area := lockWords(guestArea(r.mem))
	far := uint64(counterStart)
	area.set(2, lockRevokedOff, far+1000)
	a := r.Guest(0, 1).Lock()
	mustAcquire(t, a)
	if a.Revoked() {
		t.Error("took a ticket that was passed over before")
	}
	b := r.Guest(1, 2).Lock()
	b.Revoke(mustBlock(t, b, 0))
	high := area.get(1, lockRevokedOff)
	b = r.Guest(1, 3).Lock()
	b.pass(0, counterStart)
	if got := area.get(1, lockRevokedOff); got != high {
		t.Errorf("revocation taken back from %#x to %#x", high, got)
	}
}

func TestPublishNeedsTheLock(t *testing.T) {
	r := newRegion(t)
	g := r.Guest(0, 1)
	if err := g.Publish(0, samplePublication(1, false)); !errors.Is(err, ErrLocked) {
		t.Errorf("publish: %v, want ErrLocked", err)
	}
	if err := g.Append(Journal{}); !errors.Is(err, ErrLocked) {
		t.Errorf("append: %v, want ErrLocked", err)
	}
	if err := g.Verify(0); !errors.Is(err, ErrEmpty) {
		t.Errorf("verify: %v, want ErrEmpty", err)
	}
}
