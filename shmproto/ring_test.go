package shmproto

import "testing"

// rings is a region with a reader and a writer on the guest's ring.
func rings(t *testing.T) (*Region, *Host, *Guest, ring) {
	t.Helper()
	r := newRegion(t)
	return r, r.Host(0), newGuest(t, r, 0), ringIn(guestArea(r.mem), guestRingOff)
}

func appendN(t *testing.T, g *Guest, n int) {
	t.Helper()
	for range n {
		if err := g.Append(Journal{Kind: JournalPublished, Slot: 3}); err != nil {
			t.Fatal(err)
		}
	}
}

func mustReadN(t *testing.T, h *Host, n int, lost uint64) {
	t.Helper()
	dst := make([]Journal, 3*ringRecords)
	if got, gotLost := h.ReadJournal(dst); got != n || gotLost != lost {
		t.Fatalf("%d records, %d lost, want %d and %d", got, gotLost, n, lost)
	}
	if n, lost := h.ReadJournal(dst); n != 0 || lost != 0 {
		t.Fatalf("nothing new, and yet %d records, %d lost", n, lost)
	}
}

func TestRingOrderAcrossTheWrap(t *testing.T) {
	_, h, g, _ := rings(t)
	next := uint64(counterStart)
	dst := make([]Journal, 7)
	for round := range 100 {
		appendN(t, g, round%8)
		for left := round % 8; left > 0; {
			n, lost := h.ReadJournal(dst)
			if n == 0 || lost != 0 {
				t.Fatalf("round %d: %d records, %d lost, %d missing", round, n, lost, left)
			}
			for _, j := range dst[:n] {
				if j.Seq != next || j.Kind != JournalPublished || j.Slot != 3 {
					t.Fatalf("record %+v, want number %#x", j, next)
				}
				next++
			}
			left -= n
		}
	}
}

func TestRingOverrun(t *testing.T) {
	_, h, g, _ := rings(t)
	appendN(t, g, ringRecords)
	mustReadN(t, h, ringRecords, 0)
	appendN(t, g, ringRecords+9)
	mustReadN(t, h, ringRecords, 9)
}

func TestRingHeadJumps(t *testing.T) {
	_, h, g, r := rings(t)
	appendN(t, g, 2)
	start := uint64(counterStart)
	store(r.mem, ringHeadOff, start+1<<40)
	// Nothing in the ring has the numbers that the head promises.
	mustReadN(t, h, 0, 1<<40)
	store(r.mem, ringHeadOff, start)
	mustReadN(t, h, 0, 1)
	appendN(t, g, 3)
	mustReadN(t, h, 3, 0)
}

func TestRingDamagedRecord(t *testing.T) {
	_, h, g, r := rings(t)
	appendN(t, g, 3)
	r.mem[r.place(counterStart+1)+journalArgsOff] ^= 1
	mustReadN(t, h, 2, 1)
	// A record in another's place, with a good checksum.
	appendN(t, g, 3)
	copy(r.mem[r.place(counterStart+4):][:ringRecordSize], r.mem[r.place(counterStart+3):])
	mustReadN(t, h, 2, 1)
}

func TestRingRecordOfRevokedHolder(t *testing.T) {
	r, h, a, _ := rings(t)
	appendN(t, a, 2)
	b := r.Guest(1, 2)
	b.Lock().Revoke(mustBlock(t, b.Lock(), 0))
	mustAcquire(t, b.Lock())
	appendN(t, b, 1)
	mustReadN(t, h, 1, 2)
}

func TestHostRings(t *testing.T) {
	r := newRegion(t)
	g := r.Guest(0, 1)
	dst := make([]Journal, 4)
	for seat := range HostSeats {
		h := r.Host(seat)
		for i := range uint64(9) {
			h.Append(Journal{Kind: JournalOrdered, Args: [3]uint64{i}})
			if n, lost := g.ReadJournal(seat, dst); n != 1 || lost != 0 || dst[0].Args[0] != i {
				t.Fatalf("seat %d: %d records, %d lost, %+v", seat, n, lost, dst[0])
			}
		}
	}
}
