package server

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"guardring/host-agent/rundir"
	"guardring/internal/eventfd"
	"guardring/internal/statussock"
	"guardring/shmproto"
	"guardring/shmproto/ivshmem"
)

// systemd emulates the service manager's side of the descriptor store: it
// receives descriptors, closes a barrier's end in turn, drops a stored
// connection that hangs up, and passes the rest on, in reverse order.
type systemd struct {
	socket string
	conn   *net.UnixConn

	mu     sync.Mutex
	stored []Descriptor
	log    []string // texts received, in order
	deaf   bool     // barriers are not answered
	held   []int    // the barriers' ends meanwhile
}

func startSystemd(t testing.TB) *systemd {
	t.Helper()
	m := &systemd{socket: filepath.Join(tempDir(t), "notify")}
	var err error
	if m.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.socket, Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); m.receive() }()
	t.Cleanup(func() {
		_ = m.conn.Close()
		<-done
		for _, d := range m.stored {
			_ = unix.Close(d.FD)
		}
		for _, fd := range m.held {
			_ = unix.Close(fd)
		}
	})
	return m
}

func (m *systemd) receive() {
	b, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4*16))
	for {
		n, oobn, _, _, err := m.conn.ReadMsgUnix(b, oob)
		if err != nil {
			return
		}
		var fds []int
		messages, _ := unix.ParseSocketControlMessage(oob[:oobn])
		for i := range messages {
			got, _ := unix.ParseUnixRights(&messages[i])
			fds = append(fds, got...)
		}
		m.take(string(b[:n]), fds)
	}
}

func (m *systemd) take(text string, fds []int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log = append(m.log, text)
	fields := make(map[string]string)
	for line := range strings.SplitSeq(text, "\n") {
		k, v, _ := strings.Cut(line, "=")
		fields[k] = v
	}
	switch {
	case fields["FDSTORE"] == "1":
		for _, fd := range fds {
			m.stored = append(m.stored, Descriptor{fields["FDNAME"], fd})
		}
		return
	case fields["FDSTOREREMOVE"] == "1":
		m.stored = slices.DeleteFunc(m.stored, func(d Descriptor) bool {
			if d.Name == fields["FDNAME"] {
				_ = unix.Close(d.FD)
			}
			return d.Name == fields["FDNAME"]
		})
	case fields["BARRIER"] == "1" && m.deaf:
		m.held = append(m.held, fds...)
		return
	}
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// names returns what is stored, sorted; connections that have hung up are
// dropped first, as systemd does.
func (m *systemd) names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stored = slices.DeleteFunc(m.stored, func(d Descriptor) bool {
		gone := strings.Contains(d.Name, "/connection/") && pollNow(d.FD, 0)&unix.POLLHUP != 0
		if gone {
			_ = unix.Close(d.FD)
		}
		return gone
	})
	var names []string
	for _, d := range m.stored {
		names = append(names, d.Name)
	}
	slices.Sort(names)
	return names
}

// drop makes the store forget names that contain s, as if they had never come.
func (m *systemd) drop(s string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stored = slices.DeleteFunc(m.stored, func(d Descriptor) bool { return strings.Contains(d.Name, s) })
}

func (m *systemd) heard(text string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Contains(m.log, text)
}

// service is a server process under the emulated service manager.
type service struct {
	cmd *exec.Cmd
	log *logBuffer
}

// start starts a server process with what is stored.
func (m *systemd) start(t testing.TB, run string, gateways ...string) *service {
	t.Helper()
	m.names()
	s := &service{cmd: self(t, "server"), log: &logBuffer{}}
	s.cmd.Stderr = s.log
	m.mu.Lock()
	m.log = nil
	var names []string
	for _, d := range slices.Backward(m.stored) {
		fd, err := unix.FcntlInt(uintptr(d.FD), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), d.Name)
		defer f.Close()
		s.cmd.ExtraFiles = append(s.cmd.ExtraFiles, f)
		names = append(names, d.Name)
	}
	m.mu.Unlock()
	s.cmd.Env = append(s.cmd.Env,
		"NOTIFY_SOCKET="+m.socket, "GUARDRING_TEST_RUN="+run, "GUARDRING_TEST_GATEWAYS="+strings.Join(gateways, " "))
	if len(names) > 0 {
		s.cmd.Env = append(s.cmd.Env, fmt.Sprintf("LISTEN_FDS=%d", len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			t.Logf("server process:\n%s", s.log)
		}
	})
	eventually(t, "READY=1", func() bool { return m.heard("READY=1") })
	if _, err := statussock.Fetch(statusSocket(run), "server", 5*time.Second); err != nil {
		t.Fatal(err)
	}
	return s
}

// says waits until the log, which comes through a pipe, has the text.
func (s *service) says(t testing.TB, text string) {
	t.Helper()
	eventually(t, "the log says "+text, func() bool { return strings.Contains(s.log.String(), text) })
}

func (s *service) kill() {
	if s.cmd.ProcessState == nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
}

func (s *service) terminate(t testing.TB) {
	t.Helper()
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	if err := s.cmd.Wait(); err != nil {
		t.Fatalf("server: %v", err)
	}
}

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
		_ = h.Interrupt(shmproto.VectorChanged).SetDeadline(time.Now().Add(10 * time.Second))
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
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
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
	s := m.start(t, run, "a")
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
	m.mu.Lock()
	m.deaf = true
	m.mu.Unlock()
	c := rawDial(t, guestSocket(run, "a"))
	eventually(t, "the barrier came", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return len(m.held) == 1
	})
	_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	var b [8]byte
	if n, err := c.Read(b[:]); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes before the store confirmed (%v)", n, err)
	}
	stored := strings.Join(m.names(), " ")
	if !strings.Contains(stored, "/seat/2/process/") || !strings.Contains(stored, "/seat/2/connection/") {
		t.Errorf("the holder is not stored: %s", stored)
	}
	// A service manager that hangs delays the handshake, but not for ever.
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if n, err := c.Read(b[:]); n != 8 || err != nil {
		t.Fatalf("after the deadline: %d bytes, %v", n, err)
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
		c, err := ivshmem.Dial(guestSocket(run, "a"), shmproto.Vectors, 20*time.Second)
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
		if err := e.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
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

func TestIncompleteStoreIsNamedAndReplaced(t *testing.T) {
	m, run := startSystemd(t), runDir(t)
	s := m.start(t, run, "a", "b", "c")
	epochs := status(t, run).Gateways
	s.kill()
	m.drop(storeName("a", "vector/1/0"))
	fd, err := unix.MemfdCreate("stranger", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	m.take("FDSTORE=1\nFDNAME=stranger", []int{fd})
	s = m.start(t, run, "a", "b")
	got := status(t, run).Gateways
	if got[0].TakenOver || got[0].RegionEpoch == epochs[0].RegionEpoch {
		t.Error("an incomplete region was taken over")
	}
	if !got[1].TakenOver || got[1].RegionEpoch != epochs[1].RegionEpoch {
		t.Error("a complete region was not taken over")
	}
	for _, want := range []string{"vector/1/0 is missing", "gateway=a", "name=stranger", "gateway=c"} {
		s.says(t, want)
	}
	eventually(t, "the store has a and b once, and nothing else", func() bool {
		names := m.names()
		return len(names) == 2*len(parts("a"))+len(parts(rundir.Board))+5 && len(slices.Compact(names)) == len(names)
	})
	// What was stored anew is whole.
	s.kill()
	m.start(t, run, "a", "b")
	if again := status(t, run).Gateways[0]; !again.TakenOver || again.RegionEpoch != got[0].RegionEpoch {
		t.Errorf("a after another restart: %+v", again)
	}
}

func TestAdoptRefusesWrongKinds(t *testing.T) {
	swap := func(p, q string) func(*testing.T, map[string][]int) {
		return func(_ *testing.T, f map[string][]int) { f[p], f[q] = f[q], f[p] }
	}
	for name, tt := range map[string]struct {
		spoil func(t *testing.T, found map[string][]int)
		want  string
	}{
		"sizes":    {swap("memory", "book"), "memory: 4096 bytes"},
		"eventfd":  {swap("memory", "vector/0/0"), "memory: no memfd"},
		"memfd":    {swap("book", "vector/0/0"), "book: no memfd"},
		"pipe":     {func(t *testing.T, f map[string][]int) { replace(t, f, "vector/1/1") }, "vector/1/1: adopt"},
		"twice":    {func(t *testing.T, f map[string][]int) { f["book"] = append(f["book"], duplicate(t, f["book"][0])) }, "book is there 2"},
		"missing":  {func(_ *testing.T, f map[string][]int) { _ = unix.Close(f["book"][0]); delete(f, "book") }, "book is missing"},
		"contents": {func(_ *testing.T, f map[string][]int) { _, _ = unix.Pwrite(f["book"][0], make([]byte, 8), 0) }, "book: begins with"},
		"unsealed": {func(t *testing.T, f map[string][]int) { replaceUnsealed(t, f) }, "memory: seals"},
		"none":     {func(_ *testing.T, _ map[string][]int) {}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := makeRegion("a")
			if err != nil {
				t.Fatal(err)
			}
			defer r.close()
			before := descriptors().Open
			found := make(map[string][]int)
			for _, d := range r.descriptors("a") {
				found[d.Name] = []int{duplicate(t, d.FD)}
			}
			tt.spoil(t, found)
			adopted, err := adoptRegion("a", found)
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				adopted.close()
			} else if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if after := descriptors().Open; after != before {
				t.Errorf("%d descriptors, were %d", after, before)
			}
		})
	}
}

func duplicate(t *testing.T, fd int) int {
	t.Helper()
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return own
}

// replace puts a pipe's end in the place of a part.
func replace(t *testing.T, found map[string][]int, part string) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(p[1])
	_ = unix.Close(found[part][0])
	found[part][0] = p[0]
}

func replaceUnsealed(t *testing.T, found map[string][]int) {
	t.Helper()
	fd, err := unix.MemfdCreate("unsealed", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Ftruncate(fd, shmproto.RegionSize); err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(found["memory"][0])
	found["memory"][0] = fd
}

// A guest can write into the header; that must not cost the region, nor keep a
// coordinator from it.
func TestDamagedHeaderIsMended(t *testing.T) {
	m, run := startSystemd(t), runDir(t)
	s := m.start(t, run, "a")
	c := dial(t, guestSocket(run, "a"))
	clear(c.Memory[:4096])
	s.kill()
	s = m.start(t, run, "a")
	select {
	case <-c.Gone():
		t.Error("the client saw the restart, though the store keeps its connection")
	default:
	}
	if g := status(t, run).Gateways[0]; !g.TakenOver || g.Seats[2].PID != os.Getpid() || g.Attachment != 1 {
		t.Errorf("%+v", g)
	}
	s.says(t, "header was damaged")
	if region, err := shmproto.Open(c.Memory); err != nil || region.Header().Gateway != "a" || region.Attachment() != 1 {
		t.Errorf("after the restart: %v", err)
	}
	for _, off := range []int{0x0, 0x8, 0x30, 0x48} {
		c.Memory[off] ^= 1
		h := dial(t, hostSocket(run, "a"))
		if _, err := shmproto.Open(h.Memory); err != nil {
			t.Errorf("a coordinator after byte %#x was changed: %v", off, err)
		}
		_ = h.Close()
	}
}
