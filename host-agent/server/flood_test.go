package server

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

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
	c, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(c)
	restore := useUpDescriptors(t, c)
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

// TestAcceptWithoutDescriptor: without a free descriptor a connection fails, and no connection does not.
func TestAcceptWithoutDescriptor(t *testing.T) {
	path := filepath.Join(tempDir(t), "a.sock")
	l, err := listen(path, KeepID, KeepID, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer l.remove()
	c, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(c)
	acceptOne := func() (err error) {
		_ = l.with(func(own int) {
			var fd int
			if fd, err = acceptNow(own); err == nil {
				_ = unix.Close(fd)
			}
		})
		return err
	}
	restore := useUpDescriptors(t, c)
	if err := acceptOne(); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("nobody waits, no descriptor: %v", err)
	}
	if err := unix.Connect(c, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := acceptOne(); !errors.Is(err, unix.EMFILE) {
		t.Errorf("somebody waits, no descriptor: %v", err)
	}
	restore()
	if err := acceptOne(); err != nil {
		t.Errorf("somebody waits: %v", err)
	}
}

// useUpDescriptors leaves this process no descriptor, by copies of fd, until restore is called or the test ends.
func useUpDescriptors(t *testing.T, fd int) (restore func()) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	top := fd // no descriptor above those that are open now
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		top = max(top, atoi(e.Name()))
	}
	var fill []int
	restore = func() {
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &old)
		for _, fd := range fill {
			_ = unix.Close(fd)
		}
		fill = nil
	}
	t.Cleanup(restore)
	low := old
	low.Cur = uint64(top + 1)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	for {
		copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return restore
		}
		fill = append(fill, copied)
	}
}
