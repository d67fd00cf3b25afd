package shmproto

import (
	"errors"
	"math/rand/v2"
	"testing"
)

// TestRenewAfterRandomBytes fills the guest area with random bytes, as a hostile
// guest can. After Renew an honest agent gets the lock at once and publishes, and
// the host reads that, and nothing bad.
func TestRenewAfterRandomBytes(t *testing.T) {
	r := newRegion(t)
	b, host := r.mem, r.Host(0)
	for seed := range byte(20) {
		rand.NewChaCha8([32]byte{seed}).Read(guestArea(b))
		if !Renew(b) {
			t.Error("random bytes are no damage")
		}
		var p Publication
		for slot := range MaxMembers {
			if err := host.ReadPublication(slot, &p); !errors.Is(err, ErrEmpty) {
				t.Fatalf("seed %d: slot %d after Renew: %v", seed, slot, err)
			}
		}
		before := host.PublicationVersion(2)
		g := r.Guest(0, 4711)
		if held, by := g.Lock().TryAcquire(); !held {
			t.Fatalf("seed %d: the lock is held by %+v", seed, by)
		}
		if err := g.Publish(2, &Publication{Seq: 1, Member: "default", State: MemberPresent}); err != nil {
			t.Fatal(err)
		}
		g.Lock().Release()
		if host.PublicationVersion(2) == before {
			t.Error("the host does not notice the publication")
		}
		if err := host.ReadPublication(2, &p); err != nil || p.Incarnation != 4711 {
			t.Errorf("the host reads %+v, %v", p, err)
		}
	}
}

// TestRenewKeepsWhatStands has a good publication outlive Renew, and a void one
// not come back.
func TestRenewKeepsWhatStands(t *testing.T) {
	r := newRegion(t)
	b, host := r.mem, r.Host(0)
	publish := func(writer, slot int) {
		g := r.Guest(writer, Incarnation(writer+1))
		for {
			held, by := g.Lock().TryAcquire()
			if held {
				break
			}
			g.Lock().Revoke(by)
		}
		if err := g.Publish(slot, &Publication{Seq: 1, Member: "default", State: MemberPresent}); err != nil {
			t.Fatal(err)
		}
	}
	publish(0, 1) // keeps the lock, and is passed over
	publish(1, 0)
	var p Publication
	if err := host.ReadPublication(1, &p); !errors.Is(err, ErrFenced) {
		t.Fatalf("a publication whose writer was passed over: %v", err)
	}
	if Renew(b) {
		t.Error("damage where there is none")
	}
	if err := host.ReadPublication(0, &p); err != nil || p.Incarnation != 2 {
		t.Errorf("a good publication: %+v, %v", p, err)
	}
	if err := host.ReadPublication(1, &p); !errors.Is(err, ErrEmpty) {
		t.Errorf("a void publication: %v", err)
	}
}
