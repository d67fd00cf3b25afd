package server

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"guardring/host-agent/rundir"
	"guardring/shmproto"
	"guardring/shmproto/ivshmem"
)

func TestSeatsAndMemory(t *testing.T) {
	r := startServer(t, testConfig(runDir(t), "browsing", "updates"))
	guest := startChild(t)
	guest.want(t, "dial "+guestSocket(r.run, "browsing"), "seat 2")
	hosts := []*ivshmem.Client{dial(t, hostSocket(r.run, "browsing")), dial(t, hostSocket(r.run, "browsing"))}
	for i, h := range hosts {
		if int(h.ID) != i {
			t.Errorf("host client %d has seat %d", i, h.ID)
		}
		region, err := shmproto.Open(h.Memory)
		if err != nil {
			t.Fatal(err)
		}
		if got := region.Header(); got.Gateway != "browsing" || got.Attachment != 1 {
			t.Errorf("header %+v", got)
		}
	}
	other := dial(t, hostSocket(r.run, "updates"))
	hosts[0].Memory[shmproto.RegionSize-1] = 7
	if hosts[1].Memory[shmproto.RegionSize-1] != 7 {
		t.Error("the host seats of one gateway do not share memory")
	}
	if other.Memory[shmproto.RegionSize-1] != 0 {
		t.Error("two gateways share memory")
	}
	// The guest's arrival rang nobody's ear yet who came later; a ring does.
	for i, h := range hosts {
		_, _ = h.Interrupt(shmproto.VectorChanged).Drain()
		guest.want(t, "ring "+string(rune('0'+i)), "ok")
		if _, err := h.Interrupt(shmproto.VectorChanged).Wait(); err != nil {
			t.Fatal(err)
		}
	}
	if err := hosts[0].Ring(shmproto.GuestSeat, shmproto.VectorChanged); err != nil {
		t.Fatal(err)
	}
	guest.want(t, "wait", "ok")
	if n, _ := other.Interrupt(shmproto.VectorChanged).Drain(); n != 0 {
		t.Error("a doorbell crossed over to another gateway")
	}
	g := r.gateway(t, "browsing")
	if g.Seats[2].PID != guest.cmd.Process.Pid || g.Seats[2].State != SeatConnected || g.Attachment != 1 || g.Connections != 3 {
		t.Errorf("status %+v", g)
	}
}

func TestGuestArrivalRingsTheHosts(t *testing.T) {
	r := startServer(t, testConfig(runDir(t), "a"))
	h := dial(t, hostSocket(r.run, "a"))
	_ = h.Interrupt(shmproto.VectorChanged).SetDeadline(time.Now().Add(patience))
	dial(t, guestSocket(r.run, "a"))
	if _, err := h.Interrupt(shmproto.VectorChanged).Wait(); err != nil {
		t.Fatal(err)
	}
}

func TestSeatIsGivenOnOnlyWhenItsHolderIsGone(t *testing.T) {
	r := startServer(t, testConfig(runDir(t), "a"))
	path := guestSocket(r.run, "a")
	first, second := startChild(t), startChild(t)
	first.want(t, "dial "+path, "seat 2")
	second.want(t, "dial "+path, "error ivshmem server "+path+": the server refused the connection")
	first.want(t, "drop", "ok")
	second.want(t, "dial "+path, "error") // connection closed, but the process lives
	eventually(t, "the seat is lost", func() bool { return r.gateway(t, "a").Seats[2].State == SeatLost })
	first.want(t, "dial "+path, "seat 2") // its own seat again
	first.want(t, "drop", "ok")
	first.kill()
	second.want(t, "dial "+path, "seat 2") // at once, without waiting for any event to be seen
	g := r.gateway(t, "a")
	if g.Attachment != 3 || g.Refused["seat taken"] != 2 || g.Disconnected[string(endClosed)] != 2 {
		t.Errorf("status %+v", g)
	}
	if log := r.log.String(); !strings.Contains(log, "refused: seat taken") || !strings.Contains(log, "holders=["+itoa(first.cmd.Process.Pid)) {
		t.Errorf("the log does not name the refusal and the holder:\n%s", log)
	}
}

func TestManyHoldersOneAfterAnother(t *testing.T) {
	r := startServer(t, testConfig(runDir(t), "a"))
	for range 10 {
		c := startChild(t)
		c.want(t, "dial "+guestSocket(r.run, "a"), "seat 2")
		c.kill()
	}
	eventually(t, "the seat is free", func() bool { return r.gateway(t, "a").Seats[2].State == SeatFree })
}

func TestLeaseBoard(t *testing.T) {
	r := startServer(t, testConfig(runDir(t)))
	path := hostSocket(r.run, rundir.Board)
	a, b, c := startChild(t), startChild(t), startChild(t)
	a.want(t, "dial "+path, "seat 0")
	b.want(t, "dial "+path, "seat 1")
	c.want(t, "dial "+path, "error")
	a.kill()
	m := dial(t, path)
	if m.ID != 0 || len(m.Memory) != shmproto.LeaseBoardSize {
		t.Errorf("seat %d, %d bytes", m.ID, len(m.Memory))
	}
	if _, err := shmproto.OpenLeaseBoard(m.Memory); err != nil {
		t.Error(err)
	}
	if m.Vectors(1) != shmproto.Vectors || m.Vectors(2) != 0 {
		t.Error("the lease board has a guest seat, or no second host seat")
	}
}

func TestMemoryIsSealed(t *testing.T) {
	r, err := makeRegion("a")
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	for _, size := range []int64{0, shmproto.RegionSize / 2, shmproto.RegionSize * 2} {
		if err := unix.Ftruncate(r.memory, size); err == nil {
			t.Errorf("truncated to %d bytes", size)
		}
	}
	if _, err := unix.FcntlInt(uintptr(r.memory), unix.F_ADD_SEALS, unix.F_SEAL_WRITE); err == nil {
		t.Error("a peer could seal the memory against our writes")
	}
}

func TestApply(t *testing.T) {
	r := startServer(t, testConfig(runDir(t), "a", "b"))
	guest := startChild(t)
	guest.want(t, "dial "+guestSocket(r.run, "a"), "seat 2")
	host := dial(t, hostSocket(r.run, "a"))
	epoch := r.gateway(t, "a").RegionEpoch
	kept := r.gateway(t, "b").RegionEpoch

	if err := r.Apply(testConfig("", "b", "c").Gateways); err != nil {
		t.Fatal(err)
	}
	guest.want(t, "gone", "ok")
	<-host.Gone()
	if _, err := os.Stat(guestSocket(r.run, "a")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the removed gateway's socket: %v", err)
	}
	// Whoever has the region goes on with it.
	guest.want(t, "ring 0", "ok")
	_ = host.Interrupt(shmproto.VectorChanged).SetDeadline(time.Now().Add(patience))
	if _, err := host.Interrupt(shmproto.VectorChanged).Wait(); err != nil {
		t.Fatal(err)
	}
	host.Memory[0]++
	dial(t, guestSocket(r.run, "c"))
	if got := r.gateway(t, "b").RegionEpoch; got != kept {
		t.Error("an unchanged gateway got a new region")
	}

	gateways := testConfig("", "a", "b").Gateways
	gateways[1].Mode = 0o600
	if err := r.Apply(gateways); err != nil {
		t.Fatal(err)
	}
	if got := r.gateway(t, "a").RegionEpoch; got == epoch {
		t.Error("a gateway that came back has its old region")
	}
	if info, err := os.Stat(guestSocket(r.run, "b")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("changed mode: %v, %v", info.Mode(), err)
	}
	dial(t, guestSocket(r.run, "a"))

	err := r.Apply([]Gateway{{Name: "a/b"}, {Name: ""}})
	if err == nil || !strings.Contains(err.Error(), `"a/b"`) || !strings.Contains(err.Error(), `""`) {
		t.Errorf("faulty list: %v", err)
	}
	if len(status(t, r.run).Gateways) != 2 {
		t.Error("a faulty list changed something")
	}
}
