package server

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"guardring/host-agent/rundir"
	"guardring/internal/eventfd"
	"guardring/shmproto"
	"guardring/shmproto/ivshmem"
)

// Killed and stopped servers are followed by one that goes on: same region, same
// doorbells, same holders.
func TestRestartWithStore(t *testing.T) {
	m, run := startSystemd(t), runDir(t)
	first := m.start(t, run, "a", "b")
	guest := startChild(t)
	guest.want(t, "dial "+guestSocket(run, "a"), "seat 2")
	before := status(t, run).Gateways[0]

	restarts := []func(){first.kill}
	for round := range 4 {
		restarts[round]()
		if round == 1 {
			// Without a server, doorbells go on working.
			guest.want(t, "ring 1", "ok")
		}
		next := m.start(t, run, "a", "b")
		restarts = append(restarts, func() { next.kill() })
		if round == 1 {
			restarts[len(restarts)-1] = func() { next.terminate(t) }
		}

		after := status(t, run).Gateways[0]
		if !after.TakenOver || after.RegionEpoch != before.RegionEpoch || after.Attachment != 1 {
			t.Fatalf("round %d: %+v, want the region %s", round, after, before.RegionEpoch)
		}
		if s := after.Seats[2]; s.State != SeatConnected || s.PID != guest.cmd.Process.Pid {
			t.Fatalf("round %d: guest seat %+v, want it held by %d", round, s, guest.cmd.Process.Pid)
		}
		other := startChild(t)
		other.want(t, "dial "+guestSocket(run, "a"), "error")
		// A coordinator of the new server reaches the guest of the old one.
		h := dial(t, hostSocket(run, "a"))
		_, _ = h.Interrupt(shmproto.VectorChanged).Drain()
		_ = h.Interrupt(shmproto.VectorChanged).SetDeadline(time.Now().Add(patience))
		if err := h.Ring(shmproto.GuestSeat, shmproto.VectorChanged); err != nil {
			t.Fatal(err)
		}
		guest.want(t, "wait", "ok")
		guest.want(t, fmt.Sprintf("ring %d", h.ID), "ok")
		if _, err := h.Interrupt(shmproto.VectorChanged).Wait(); err != nil {
			t.Fatal(err)
		}
		if region, err := shmproto.Open(h.Memory); err != nil || region.Attachment() != 1 {
			t.Fatalf("header: %v", err)
		}
		_ = h.Close()
	}
}

// Who connects while there is no server waits for the next one.
func TestConnectionsWaitForTheNextServer(t *testing.T) {
	m, run := startSystemd(t), runDir(t)
	s := m.start(t, run, "a", "b")
	for round, end := range []func(){func() { s.kill() }, func() { s.terminate(t) }} {
		end()
		c := rawDial(t, guestSocket(run, "a")) // is accepted by the kernel
		gone := rawDial(t, guestSocket(run, "b"))
		var b [8]byte
		_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if n, err := c.Read(b[:]); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("round %d: %d bytes from no server, %v", round, n, err)
		}
		s = m.start(t, run, "a")
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if n, err := c.Read(b[:]); n != 8 || err != nil || b != [8]byte{} {
			t.Fatalf("round %d: % x, %v", round, b[:n], err)
		}
		// The gateway that the next server does not have says so.
		if n, err := gone.Read(b[:]); n != 8 || err != nil || int64(binary.LittleEndian.Uint64(b[:])) != int64(ivshmem.RefusedBroken) {
			t.Fatalf("round %d: unconfigured gateway: % x, %v", round, b[:n], err)
		}
		if _, err := os.Lstat(guestSocket(run, "b")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("round %d: the unconfigured gateway's socket: %v", round, err)
		}
		_ = c.Close()
		s.kill()
		s = m.start(t, run, "a", "b")
	}
}

func TestHolderThatLostItsConnectionIsRememberedByStore(t *testing.T) {
	m, run := startSystemd(t), runDir(t)
	m.start(t, run, "a").kill()
	s := m.start(t, run, "a")
	guest := startChild(t)
	guest.want(t, "dial "+guestSocket(run, "a"), "seat 2")
	guest.want(t, "drop", "ok")
	eventually(t, "the seat is lost", func() bool { return status(t, run).Gateways[0].Seats[2].State == SeatLost })
	s.kill()
	s = m.start(t, run, "a")
	if seat := status(t, run).Gateways[0].Seats[2]; seat.State != SeatLost || seat.PID != guest.cmd.Process.Pid {
		t.Fatalf("seat %+v", seat)
	}
	other := startChild(t)
	other.want(t, "dial "+guestSocket(run, "a"), "error")
	s.kill()
	guest.kill() // while no server runs
	m.start(t, run, "a")
	if seat := status(t, run).Gateways[0].Seats[2]; seat.State != SeatFree {
		t.Fatalf("seat %+v of a process that has ended", seat)
	}
	other.want(t, "dial "+guestSocket(run, "a"), "seat 2")
	eventually(t, "the store has only the new holder's", func() bool {
		var seats int
		for _, name := range m.names() {
			if strings.Contains(name, "/seat/2/") {
				seats++
			}
		}
		return seats == 2
	})
}

// The store is filled, and has confirmed it, before a client is told anything.
func TestStoredBeforeTheFirstByte(t *testing.T) {
	m, run := startSystemd(t), runDir(t)
	m.start(t, run, "a")
	want := []string{}
	for _, part := range append(parts("a"), partGuestSocket, partHostSocket) {
		want = append(want, storeName("a", part))
	}
	for _, part := range append(parts(rundir.Board), partHostSocket) {
		want = append(want, storeName(rundir.Board, part))
	}
	slices.Sort(want)
	if got := m.names(); !slices.Equal(got, want) {
		t.Fatalf("stored:\n%q\nwant:\n%q", got, want)
	}
	m.hangs()
	c := rawDial(t, guestSocket(run, "a"))
	eventually(t, "the barrier came", func() bool { return m.unconfirmed() == 1 })
	_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	var b [8]byte
	if n, err := c.Read(b[:]); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes before the store confirmed (%v)", n, err)
	}
	stored := strings.Join(m.names(), " ")
	if !strings.Contains(stored, "/seat/2/process/") || !strings.Contains(stored, "/seat/2/connection/") {
		t.Errorf("the holder is not stored: %s", stored)
	}
	_ = c.SetReadDeadline(time.Now().Add(patience))
	m.goesOn()
	if n, err := c.Read(b[:]); n != 8 || err != nil {
		t.Fatalf("confirmed: %d bytes, %v", n, err)
	}
}

// A service manager that hangs delays the handshake, but not for ever.
func TestHandshakeWithoutConfirmation(t *testing.T) {
	m, run := startSystemd(t), runDir(t)
	t.Setenv("GUARDRING_TEST_STORE_TIMEOUT", "200ms")
	s := m.start(t, run, "a")
	m.hangs()
	c := rawDial(t, guestSocket(run, "a"))
	_ = c.SetReadDeadline(time.Now().Add(patience))
	var b [8]byte
	if n, err := c.Read(b[:]); n != 8 || err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	s.says(t, "did not confirm")
}

// A server that is killed in the middle of a handshake is followed by one that goes on with it: a QEMU reads for ever from a connection that
// is silent or closed. The client gets each message once, in order, and the device works.
func TestKilledInAHandshake(t *testing.T) {
	messages := len(ivshmem.Handshake(shmproto.GuestSeat, 0, make([]ivshmem.Peer, 0))) + shmproto.Seats*shmproto.Vectors
	for sent := range messages + 1 {
		t.Run(fmt.Sprintf("%d of %d messages sent", sent, messages), func(t *testing.T) {
			killedInAHandshake(t, fmt.Sprintf("handshake-%d", sent))
		})
	}
	// Nobody knows of such a message whether it was sent, so it is sent again. The first three cannot be.
	for sent := 4; sent <= messages; sent++ {
		t.Run(fmt.Sprintf("%d of %d messages sent, the last not noted", sent, messages), func(t *testing.T) {
			killedInAHandshake(t, fmt.Sprintf("handshake-%d-unnoted", sent))
		})
	}
}

// killedInAHandshake has a client connect, the server killed at the step, and the next one finish: seat, memory and doorbells
// must work.
func killedInAHandshake(t *testing.T, step string) {
	m, run := startSystemd(t), runDir(t)
	t.Setenv("GUARDRING_TEST_KILL_AT", step)
	first := m.start(t, run, "a")
	t.Setenv("GUARDRING_TEST_KILL_AT", "")
	clients := make(chan *ivshmem.Client, 1)
	go func() {
		c, err := ivshmem.Dial(guestSocket(run, "a"), shmproto.Vectors, patience)
		if err != nil {
			t.Error(err)
		}
		clients <- c
	}()
	if err := first.cmd.Wait(); err == nil {
		t.Fatal("the server was not killed")
	}
	m.start(t, run, "a")
	guest := <-clients
	if guest == nil {
		return
	}
	defer guest.Close()
	g := status(t, run).Gateways[0]
	if guest.ID != shmproto.GuestSeat || g.Seats[2].State != SeatConnected || g.Attachment == 0 || !g.TakenOver {
		t.Errorf("client %d; status %+v", guest.ID, g)
	}
	host := dial(t, hostSocket(run, "a"))
	if err := errors.Join(host.Ring(shmproto.GuestSeat, 0), guest.Ring(host.ID, 0)); err != nil {
		t.Fatal(err)
	}
	for _, e := range []*eventfd.Eventfd{guest.Interrupt(0), host.Interrupt(0)} {
		if err := e.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Wait(); err != nil {
			t.Error(err)
		}
	}
	wantWord(t, host, g.Attachment, true)
	select {
	case <-guest.Gone():
		t.Errorf("the client dropped the connection: %v", guest.Err())
	default:
	}
}
