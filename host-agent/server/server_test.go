package server

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
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
	_ = h.Interrupt(shmproto.VectorChanged).SetDeadline(time.Now().Add(10 * time.Second))
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

func rawDial(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestClientThatSendsIsClosed(t *testing.T) {
	r := startServer(t, testConfig(runDir(t), "a"))
	path := guestSocket(r.run, "a")
	file, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for i, send := range []func(c *net.UnixConn) error{
		func(c *net.UnixConn) error { _, err := c.Write([]byte{0}); return err },
		func(c *net.UnixConn) error { _, err := c.Write(bytes.Repeat([]byte("x"), 100_000)); return err },
		func(c *net.UnixConn) error { // descriptors
			_, _, err := c.WriteMsgUnix([]byte{1}, unix.UnixRights(int(file.Fd()), int(file.Fd())), nil)
			return err
		},
	} {
		before := status(t, r.run).Descriptors.Open
		c := rawDial(t, path)
		if err := send(c); err != nil {
			t.Logf("send %d: %v", i, err) // closed while it sent
		}
		var g GatewayStatus
		eventually(t, "closed and counted", func() bool {
			g = r.gateway(t, "a")
			return g.Disconnected[string(endSent)] == uint64(i+1)
		})
		_ = c.Close()
		if g.Seats[2].State != SeatLost || g.Seats[2].PID != os.Getpid() {
			t.Errorf("seat %+v, want it lost to this process", g.Seats[2])
		}
		eventually(t, "no descriptor is left of it", func() bool { return status(t, r.run).Descriptors.Open <= before+1 })
	}
}

func TestFloodOfConnections(t *testing.T) {
	r := startServer(t, testConfig(runDir(t), "a", "b"))
	path := guestSocket(r.run, "a")
	holder := startChild(t)
	holder.want(t, "dial "+path, "seat 2")
	before, descriptors := runtime.NumGoroutine(), status(t, r.run).Descriptors.Open
	for range 1000 {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0) // waits while the queue is full
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
			t.Fatal(err)
		}
		_ = unix.Close(fd)
	}
	eventually(t, "all were refused", func() bool {
		var n uint64
		for _, count := range r.gateway(t, "a").Refused {
			n += count
		}
		return n == 1000
	})
	if n := runtime.NumGoroutine(); n > before+4 {
		t.Errorf("%d goroutines, were %d", n, before)
	}
	if n := status(t, r.run).Descriptors.Open; n > descriptors+4 {
		t.Errorf("%d descriptors, were %d", n, descriptors)
	}
	if n := strings.Count(r.log.String(), "refused"); n > 3 {
		t.Errorf("%d log lines about 1000 refusals", n)
	}
	dial(t, guestSocket(r.run, "b")) // others are served
	holder.want(t, "ring 0", "ok")
}

func TestConnectionsArePaced(t *testing.T) {
	cfg := testConfig(runDir(t), "a", "b")
	cfg.AcceptBurst, cfg.AcceptRate = 2, 0.001
	r := startServer(t, cfg)
	for range 6 {
		rawDial(t, guestSocket(r.run, "a"))
	}
	// Two were answered; the others wait, and b's socket has tokens of its own.
	c := rawDial(t, guestSocket(r.run, "b"))
	var b [8]byte
	if _, err := c.Read(b[:]); err != nil {
		t.Fatal(err)
	}
	g := r.gateway(t, "a")
	if n := g.Connections + g.Refused["seat taken"]; n > 2 {
		t.Errorf("%d connections answered, want at most 2", n)
	}
	r.stop() // and the pause does not hold up the end
}

// What an honest gateway does not cause is trouble at once, for a minute; what it
// does is, when there is too much of it.
func TestTroubles(t *testing.T) {
	var now = time.Unix(1000, 0)
	tl := make(tally)
	named := func() (kinds []string) {
		for _, x := range tl.troubles(now) {
			kinds = append(kinds, x.What)
		}
		return kinds
	}
	sent := eventDisconnected + string(endSent)
	tl.add(sent, now)
	for range ordinary[eventSeatTaken] {
		tl.add(eventSeatTaken, now)
	}
	if got := named(); !slices.Equal(got, []string{sent}) {
		t.Errorf("%q, want only what the client sent", got)
	}
	tl.add(eventSeatTaken, now)
	if got := named(); !slices.Equal(got, []string{sent, eventSeatTaken}) {
		t.Errorf("%q, want too many connections, too", got)
	}
	now = now.Add(troubleTime)
	tl.add(eventSeatTaken, now)
	if got := named(); len(got) > 0 {
		t.Errorf("a minute later: %q", got)
	}
}

func TestTallySaysOncePerPeriod(t *testing.T) {
	var now = time.Unix(1000, 0)
	tl := make(tally)
	var said []uint64
	for range 100 {
		if n := tl.add("x", now); n > 0 {
			said = append(said, n)
		}
		now = now.Add(time.Second)
	}
	if len(said) != 2 || said[0] != 1 || said[1] != 60 {
		t.Errorf("said %v, want 1 then 60", said)
	}
	tl.overdue(now.Add(summaryPeriod), func(_ string, n uint64) { said = append(said, n) })
	if len(said) != 3 || said[2] != 39 || tl.totals()["x"] != 100 {
		t.Errorf("said %v of %d", said, tl.totals()["x"])
	}
}

func TestDescriptorLimit(t *testing.T) {
	r := startServer(t, testConfig(runDir(t), "a"))
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	c, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(c)
	var top int // no descriptor above those that are open now
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		top = max(top, atoi(e.Name()))
	}
	var fill []int
	restore := func() {
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &old)
		for _, fd := range fill {
			_ = unix.Close(fd)
		}
		fill = nil
	}
	defer restore()
	low := old
	low.Cur = uint64(top + 1)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	for {
		fd, err := unix.Dup(c)
		if err != nil {
			break
		}
		unix.CloseOnExec(fd)
		fill = append(fill, fd)
	}
	if err := unix.Connect(c, &unix.SockaddrUnix{Name: guestSocket(r.run, "a")}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server says that it is out of descriptors", func() bool {
		return strings.Contains(r.log.String(), "no descriptor left")
	})
	restore()
	var b [8]byte
	if n, err := unix.Read(c, b[:]); n != 8 || err != nil {
		t.Fatalf("handshake after the shortage: %d, %v", n, err)
	}
	if n := strings.Count(r.log.String(), "no descriptor left"); n != 1 {
		t.Errorf("said %d times", n)
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
	_ = host.Interrupt(shmproto.VectorChanged).SetDeadline(time.Now().Add(10 * time.Second))
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

func TestUsersAndGroups(t *testing.T) {
	me := uint32(os.Geteuid())
	for name, tt := range map[string]struct {
		cfg      Gateway
		uid, gid uint32
		from     side
		want     bool
	}{
		"own user":              {Gateway{UID: KeepID, GID: KeepID}, me, 9, guestSide, true},
		"root":                  {Gateway{UID: KeepID, GID: KeepID}, 0, 9, guestSide, true},
		"stranger":              {Gateway{UID: KeepID, GID: KeepID}, 5000, 5000, guestSide, false},
		"all ones, nothing set": {Gateway{UID: KeepID, GID: KeepID}, 1<<32 - 1, 1<<32 - 1, guestSide, false},
		"socket's owner":        {Gateway{UID: 5000, GID: KeepID}, 5000, 9, guestSide, true},
		"socket's group":        {Gateway{UID: KeepID, GID: 77}, 5000, 77, guestSide, true},
		"list without root":     {Gateway{AllowUIDs: []uint32{64055}}, 0, 0, guestSide, false},
		"list":                  {Gateway{AllowUIDs: []uint32{1, 64055}}, 64055, 9, guestSide, true},
		"group list":            {Gateway{AllowUIDs: []uint32{1}, AllowGIDs: []uint32{9}}, 64055, 9, guestSide, true},
		"host: socket's owner":  {Gateway{UID: 5000, GID: KeepID}, 5000, 9, hostSide, false},
		"host: list":            {Gateway{AllowUIDs: []uint32{5000}}, 5000, 9, hostSide, false},
		"host: root":            {Gateway{}, 0, 9, hostSide, true},
	} {
		if got := allowed(tt.cfg, tt.uid, tt.gid, tt.from); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestPeersThatMayNot(t *testing.T) {
	cfg := testConfig(runDir(t), "users", "label")
	cfg.Gateways[0].AllowUIDs = []uint32{1<<32 - 2}
	cfg.Gateways[1].Label = "libvirt-7f3c"
	r := startServer(t, cfg)
	for name, reason := range map[string]string{
		"users": "user and group not allowed",
		"label": "not confined by the AppArmor profile",
	} {
		_, err := ivshmem.Dial(guestSocket(r.run, name), shmproto.Vectors, 5*time.Second)
		if !errors.Is(err, ivshmem.ErrRefused) || !errors.Is(err, ivshmem.RefusedDenied) {
			t.Errorf("%s: %v", name, err)
		}
		if g := r.gateway(t, name); g.Refused[reason] != 1 || g.Attachment != 0 {
			t.Errorf("%s: status %+v", name, g)
		}
	}
}

func TestConfigFaultsAllAtOnce(t *testing.T) {
	_, err := New(Config{
		RunDir:     "run",
		StatusMode: 0o10600,
		Store:      true,
		Gateways: []Gateway{
			{Name: ".lease"}, {Name: "a"}, {Name: "a", UID: -7}, {Name: strings.Repeat("x", 33)}, {Name: "b", Mode: fs.ModeSetuid | 0o600},
		},
	}, slog.New(slog.DiscardHandler))
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"absolute path", "status mode", "NOTIFY_SOCKET", `".lease"`, "named twice", "-7", `"xxxxx`, "socket mode"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not reported in:\n%v", want, err)
		}
	}
	long := "/" + strings.Repeat("long/", 25)
	if _, err := New(testConfig(long, "a"), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "at most 107") {
		t.Errorf("long path: %v", err)
	}
}

func TestRunDirFaults(t *testing.T) {
	discard := slog.New(slog.DiscardHandler)
	run := func(dir string) error { return Run(context.Background(), testConfig(dir, "a"), discard) }

	busy := startServer(t, testConfig(runDir(t), "a"))
	if err := run(busy.run); err == nil || !strings.Contains(err.Error(), "another server (process "+itoa(os.Getpid())+")") {
		t.Errorf("second server: %v", err)
	}
	dial(t, guestSocket(busy.run, "a")) // the first one is unharmed

	file := filepath.Join(tempDir(t), "file")
	open := filepath.Join(tempDir(t), "open")
	full := filepath.Join(tempDir(t), "full")
	for _, err := range []error{
		os.WriteFile(file, nil, 0o600), os.Mkdir(open, 0o755), os.Chmod(open, 0o777),
		os.MkdirAll(guestSocket(full, "a"), 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for dir, want := range map[string]string{
		file:                                     "not a directory",
		open:                                     "others can write in it",
		full:                                     "not a socket",
		filepath.Join(tempDir(t), "none", "run"): "no such file",
	} {
		if err := run(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", dir, err, want)
		}
	}
	if os.Geteuid() == 0 {
		foreign := filepath.Join(tempDir(t), "foreign")
		if err := errors.Join(os.Mkdir(foreign, 0o755), os.Chown(foreign, 5000, 5000)); err != nil {
			t.Fatal(err)
		}
		if err := run(foreign); err == nil || !strings.Contains(err.Error(), "belongs to user 5000") {
			t.Errorf("foreign directory: %v", err)
		}
	}
}

func TestModesAndCleanUp(t *testing.T) {
	r := startServer(t, testConfig(runDir(t), "a"))
	for path, want := range map[string]fs.FileMode{
		r.run:                            0o755,
		filepath.Join(r.run, "host"):     0o700,
		filepath.Join(r.run, "gateways"): 0o755,
		guestSocket(r.run, "a"):          0o660,
		hostSocket(r.run, "a"):           0o600,
		hostSocket(r.run, rundir.Board):  0o600,
		statusSocket(r.run):              0o600,
	} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
	r.stop()
	for _, path := range []string{guestSocket(r.run, "a"), hostSocket(r.run, "a"), hostSocket(r.run, rundir.Board), statusSocket(r.run)} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s stayed: %v", path, err)
		}
	}
	startServer(t, testConfig(r.run, "a")) // and the directory is free for the next
}
