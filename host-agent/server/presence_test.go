package server

import (
	"testing"
	"time"

	"guardring/shmproto"
	"guardring/shmproto/ivshmem"
)

// seatWord reads the header as a coordinator does.
func seatWord(t testing.TB, h *ivshmem.Client) (a shmproto.Attachment, held bool) {
	t.Helper()
	region, err := shmproto.Open(h.Memory)
	if err != nil {
		t.Fatal(err)
	}
	return region.GuestSeat()
}

func wantWord(t testing.TB, h *ivshmem.Client, attachment shmproto.Attachment, held bool) {
	t.Helper()
	eventually(t, "the header's word on the guest seat", func() bool {
		a, is := seatWord(t, h)
		return a == attachment && is == held
	})
}

// The word follows the holder, and the hosts are rung for both changes.
func TestGuestSeatShownInHeader(t *testing.T) {
	r := startServer(t, testConfig(runDir(t), "a"))
	h := dial(t, hostSocket(r.run, "a"))
	rung := func() {
		t.Helper()
		_ = h.Interrupt(shmproto.VectorChanged).SetDeadline(time.Now().Add(patience))
		if _, err := h.Interrupt(shmproto.VectorChanged).Wait(); err != nil {
			t.Fatalf("the host was not rung: %v", err)
		}
	}
	if a, held := seatWord(t, h); a != 0 || held {
		t.Fatalf("attachment %d, held %v in a fresh region", a, held)
	}
	guest := startChild(t)
	guest.want(t, "dial "+guestSocket(r.run, "a"), "seat 2")
	rung()
	wantWord(t, h, 1, true)
	// A lost connection is no loss of the seat: the process has the memory.
	guest.want(t, "drop", "ok")
	eventually(t, "the seat is lost", func() bool { return r.gateway(t, "a").Seats[2].State == SeatLost })
	wantWord(t, h, 1, true)
	guest.want(t, "dial "+guestSocket(r.run, "a"), "seat 2")
	rung()
	wantWord(t, h, 2, true)
	guest.kill()
	rung()
	wantWord(t, h, 2, false)
	next := startChild(t)
	next.want(t, "dial "+guestSocket(r.run, "a"), "seat 2")
	rung()
	wantWord(t, h, 3, true)
}

// After a restart the word says what was recovered, whatever a guest wrote there
// and whoever ended meanwhile.
func TestGuestSeatShownAfterRestart(t *testing.T) {
	m, run := startSystemd(t), runDir(t)
	s := m.start(t, run, "a")
	guest := startChild(t)
	guest.want(t, "dial "+guestSocket(run, "a"), "seat 2")
	h := dial(t, hostSocket(run, "a"))
	wantWord(t, h, 1, true)

	s.kill()
	shmproto.SetEnded(h.Memory, 1) // as a guest can
	s = m.start(t, run, "a")
	wantWord(t, h, 1, true)

	s.kill()
	guest.kill()
	if a, held := seatWord(t, h); a != 1 || !held {
		t.Fatalf("attachment %d, held %v without a server", a, held)
	}
	m.start(t, run, "a")
	wantWord(t, h, 1, false)
}

// The next holder of the seat finds a lock that it can take, whatever the last one
// left in the guest area. A holder that only connects again finds its own bytes.
func TestNextHolderFindsAFreeLock(t *testing.T) {
	r := startServer(t, testConfig(runDir(t), "a"))
	h := dial(t, hostSocket(r.run, "a"))
	guestArea := h.Memory[0x30000:0xc0000] // docs/LAYOUT.md
	free := func() bool {
		region, err := shmproto.Open(h.Memory)
		if err != nil {
			t.Fatal(err)
		}
		held, _ := region.Guest(0, 1).Lock().TryAcquire()
		return held
	}
	hostile := startChild(t)
	hostile.want(t, "dial "+guestSocket(r.run, "a"), "seat 2")
	wantWord(t, h, 1, true)
	clear(guestArea)
	guestArea[0x48], guestArea[0x50] = 2, 1 // writer 1 competes with the first ticket, and always will
	hostile.want(t, "drop", "ok")
	eventually(t, "the seat is lost", func() bool { return r.gateway(t, "a").Seats[2].State == SeatLost })
	hostile.want(t, "dial "+guestSocket(r.run, "a"), "seat 2")
	wantWord(t, h, 2, true)
	if free() {
		t.Error("its own bytes were changed under a holder that connected again")
	}
	hostile.kill()
	wantWord(t, h, 2, false)
	startChild(t).want(t, "dial "+guestSocket(r.run, "a"), "seat 2")
	wantWord(t, h, 3, true)
	if !free() {
		t.Error("the next holder waits for an agent that never was")
	}
}
