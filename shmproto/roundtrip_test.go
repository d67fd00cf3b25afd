package shmproto

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var sameValue = cmp.Options{cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })}

// Twelve publications of each slot cross the wrap of the version, which starts
// five before it.
func TestPublicationRoundTrip(t *testing.T) {
	r := newRegion(t)
	h, g := r.Host(0), newGuest(t, r, 1)
	var got Publication
	for slot := range MaxMembers {
		if err := h.ReadPublication(slot, &got); !errors.Is(err, ErrEmpty) {
			t.Fatalf("slot %d of a fresh region: %v, want ErrEmpty", slot, err)
		}
		for i := range 12 {
			want := samplePublication(5*i, i%2 == 0)
			want.Seq = Seq(i)
			before := h.PublicationVersion(slot)
			if err := g.Publish(slot, want); err != nil {
				t.Fatal(err)
			}
			if h.PublicationVersion(slot) == before {
				t.Fatal("the version does not show the publication")
			}
			if err := h.ReadPublication(slot, &got); err != nil {
				t.Fatalf("slot %d, publication %d: %v", slot, i, err)
			}
			// Comparing all eight slots with cmp takes seconds.
			if slot == 0 {
				if d := cmp.Diff(want, &got, sameValue); d != "" {
					t.Fatalf("publication %d (-want +got):\n%s", i, d)
				}
			}
			if got.Seq != want.Seq || len(got.Guards) != len(want.Guards) {
				t.Fatalf("slot %d: publication %d of %d guards, want %d of %d", slot, got.Seq, len(got.Guards), want.Seq, len(want.Guards))
			}
			if got.Attachment != 7 || got.Incarnation != 0x1001 {
				t.Fatalf("binding (%d, %#x), want (7, 0x1001)", got.Attachment, got.Incarnation)
			}
			if err := g.Verify(slot); err != nil {
				t.Fatalf("verify: %v", err)
			}
		}
	}
}

func TestFullPublicationFits(t *testing.T) {
	r := newRegion(t)
	h, g := r.Host(0), newGuest(t, r, 0)
	want := samplePublication(MaxGuards, true)
	if err := g.Publish(3, want); err != nil {
		t.Fatal(err)
	}
	var got Publication
	if err := h.ReadPublication(3, &got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, &got, sameValue); d != "" {
		t.Fatal(d)
	}
	// One family more than the arena holds is the caller's to leave out, and
	// leaves the old record.
	want.Guards[0].Family = fingerprints(5000, 5900)
	if err := g.Publish(3, want); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("publish too much: %v, want ErrTooLarge", err)
	}
	if err := g.Verify(3); err != nil {
		t.Fatalf("after a refused publication: %v", err)
	}
}

func TestOrderRoundTrip(t *testing.T) {
	r := newRegion(t)
	g := r.Guest(0, 1)
	for seat := range HostSeats {
		h := r.Host(seat)
		for i := range 12 {
			want := sampleOrder(i + 9)
			want.Term = Term(seat + 1)
			want.Seq = Seq(i + 1)
			if err := h.WriteOrder(seat, want); err != nil {
				t.Fatal(err)
			}
			var got Order
			if err := g.ReadOrder(seat, "default", &got); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, &got); d != "" {
				t.Fatal(d)
			}
			if want.Digest() != got.Digest() || want.Digest() == [16]byte{} {
				t.Fatal("digests differ")
			}
		}
	}
}

func TestLeaseRoundTrip(t *testing.T) {
	r := newRegion(t)
	board := make([]byte, LeaseBoardSize)
	FormatLeaseBoard(board)
	mine, err := OpenLeaseBoard(board)
	if err != nil {
		t.Fatal(err)
	}
	other, err := OpenLeaseBoard(board)
	if err != nil {
		t.Fatal(err)
	}
	g := r.Guest(0, 1)
	for seat := range HostSeats {
		h := r.Host(seat)
		if _, err := other.Read(seat); !errors.Is(err, ErrEmpty) {
			t.Fatalf("fresh board: %v, want ErrEmpty", err)
		}
		if _, err := g.ReadLease(seat); !errors.Is(err, ErrEmpty) {
			t.Fatalf("fresh seat: %v, want ErrEmpty", err)
		}
		for i := range uint64(12) {
			want := Lease{Epoch: Epoch{5, 6}, Term: Term(i + 1), Heartbeat: i, Acting: i%2 == 0, Observe: i%3 == 0}
			mine.Set(seat, want)
			if got, err := other.Read(seat); err != nil || got != want {
				t.Fatalf("board: %+v, %v, want %+v", got, err, want)
			}
			h.SetLease(want)
			if got, err := g.ReadLease(seat); err != nil || got != want {
				t.Fatalf("region: %+v, %v, want %+v", got, err, want)
			}
		}
	}
}

func TestNoAllocations(t *testing.T) {
	r := newRegion(t)
	h, g := r.Host(0), newGuest(t, r, 0)
	p, o := samplePublication(MaxGuards, true), sampleOrder(MaxExclusions)
	var got Publication
	var order Order
	round := func() {
		if err := errors.Join(
			g.Publish(0, p), h.ReadPublication(0, &got), g.Verify(0),
			h.WriteOrder(0, o), g.ReadOrder(0, "default", &order),
			g.Append(Journal{}),
		); err != nil {
			t.Fatal(err)
		}
	}
	for range 4 { // until both sides' slices have grown
		round()
	}
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
