package ivshmem

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"guardring/internal/eventfd"
)

// patience bounds what would else hang for ever.
const patience = time.Minute

// wire is a server's end of a connection, its memory and doorbells.
type wire struct {
	fd     int
	conn   *net.UnixConn // the client's end
	memory int
	bells  map[PeerID][]*eventfd.Eventfd
}

func newWire(t testing.TB) *wire {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fds[1]), "client")
	c, err := net.FileConn(f)
	_ = f.Close()
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{fd: fds[0], conn: c.(*net.UnixConn), bells: make(map[PeerID][]*eventfd.Eventfd)}
	if w.memory, err = unix.MemfdCreate("test", unix.MFD_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	if err := unix.Ftruncate(w.memory, 8192); err != nil {
		t.Fatal(err)
	}
	for id := range PeerID(3) {
		for range 2 {
			e, err := eventfd.New()
			if err != nil {
				t.Fatal(err)
			}
			w.bells[id] = append(w.bells[id], e)
		}
	}
	t.Cleanup(func() {
		w.hangUp()
		_ = w.conn.Close()
		_ = unix.Close(w.memory)
		for _, vectors := range w.bells {
			for _, e := range vectors {
				_ = e.Close()
			}
		}
	})
	return w
}

func (w *wire) hangUp() {
	if w.fd >= 0 {
		_ = unix.Close(w.fd)
		w.fd = -1
	}
}

func (w *wire) handshake(own PeerID) []Message {
	var table []Peer
	for id := range PeerID(3) {
		table = append(table, Peer{id, []int{w.bells[id][0].FD(), w.bells[id][1].FD()}})
	}
	return Handshake(own, w.memory, table)
}

func (w *wire) send(t testing.TB, messages ...Message) {
	t.Helper()
	if err := Send(w.fd, messages); err != nil {
		t.Fatal(err)
	}
}

// limitWhenRead ends the client's time when it has read all that was sent.
func (w *wire) limitWhenRead(t testing.TB) {
	for {
		unread, err := unix.IoctlGetInt(w.fd, unix.SIOCOUTQ)
		if err != nil {
			t.Error(err)
			return
		}
		if unread == 0 {
			_ = w.conn.SetReadDeadline(time.Unix(1, 0))
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func openDescriptors(t testing.TB) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

func TestClientBothWays(t *testing.T) {
	w := newWire(t)
	before := openDescriptors(t)
	w.send(t, w.handshake(2)...)
	c, err := newClient(w.conn, 2, time.Now().Add(patience))
	if err != nil {
		t.Fatal(err)
	}
	if c.ID != 2 || len(c.Memory) != 8192 || c.Vectors(0) != 2 || c.Vectors(2) != 0 {
		t.Fatalf("ID %d, %d bytes, peer 0 has %d vectors, we among the peers %d", c.ID, len(c.Memory), c.Vectors(0), c.Vectors(2))
	}
	c.Memory[4097] = 0x5a
	var b [1]byte
	if _, err := unix.Pread(w.memory, b[:], 4097); err != nil || b[0] != 0x5a {
		t.Errorf("memory: %#x, %v", b[0], err)
	}
	both := func(when string) {
		t.Helper()
		for peer := range PeerID(2) {
			for v := range Vector(2) {
				if err := c.Ring(peer, v); err != nil {
					t.Fatalf("%s: %v", when, err)
				}
				if n, _ := w.bells[peer][v].Drain(); n != 1 {
					t.Errorf("%s: peer %d vector %d rung %d times", when, peer, v, n)
				}
			}
		}
		for v := range Vector(2) {
			_ = w.bells[2][v].Ring()
			if n, err := c.Interrupt(v).Wait(); n != 1 || err != nil {
				t.Errorf("%s: own vector %d: %d, %v", when, v, n, err)
			}
		}
	}
	both("connected")
	if err := c.Ring(0, 2); !errors.Is(err, ErrNoVector) {
		t.Errorf("vector 2: %v", err)
	}
	if err := c.Ring(9, 0); !errors.Is(err, ErrNoVector) {
		t.Errorf("peer 9: %v", err)
	}
	if c.Interrupt(2) != nil {
		t.Error("we have a third vector")
	}
	if c.Err() != nil {
		t.Errorf("connected, but %v", c.Err())
	}
	w.hangUp()
	<-c.Gone()
	if !errors.Is(c.Err(), io.EOF) {
		t.Errorf("end: %v", c.Err())
	}
	both("server gone")
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	// The server's end and the client's end of the socket have gone.
	if after := openDescriptors(t); after != before-2 {
		t.Errorf("%d descriptors open, want %d", after, before-2)
	}
}

func TestClientFollowsComingAndGoingPeers(t *testing.T) {
	w := newWire(t)
	w.send(t, w.handshake(0)...)
	c, err := newClient(w.conn, 2, time.Now().Add(patience))
	if err != nil {
		t.Fatal(err)
	}
	w.send(t, Message{1, NoFD}, Message{7, w.bells[1][0].FD()}, Message{300, NoFD}) // the last is wrong
	<-c.Gone()
	if c.Vectors(1) != 0 || c.Vectors(7) != 1 || c.Vectors(2) != 2 {
		t.Errorf("vectors of 1, 7, 2: %d %d %d", c.Vectors(1), c.Vectors(7), c.Vectors(2))
	}
	var p *ProtocolError
	if !errors.As(c.Err(), &p) || p.Message != 12 {
		t.Errorf("end: %v", c.Err())
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestClientRefusesServers(t *testing.T) {
	for name, tt := range map[string]struct {
		serve func(t *testing.T, w *wire)
		want  string
	}{
		"closes at once": {func(_ *testing.T, w *wire) { w.hangUp() }, "the server refused the connection"},
		"says taken": {func(t *testing.T, w *wire) {
			if err := Refuse(w.fd, RefusedTaken); err != nil {
				t.Error(err)
			}
			w.hangUp()
		}, "(its log says more): the seat is taken"},
		"closes in between": {func(t *testing.T, w *wire) { w.send(t, w.handshake(2)[:4]...); w.hangUp() }, "after 4 messages"},
		"stalls": {func(t *testing.T, w *wire) {
			w.send(t, w.handshake(2)[:4]...)
			go w.limitWhenRead(t)
		}, "stalled after 4 messages"},
		"closes in a message": {func(_ *testing.T, w *wire) { _, _ = unix.Write(w.fd, []byte{0, 0, 0}); w.hangUp() }, "message 1 (0, without a descriptor): the stream ends within"},
		"speaks HTTP":         {func(_ *testing.T, w *wire) { _, _ = unix.Write(w.fd, []byte("HTTP/1.1 200 OK\r\n")) }, "is this an ivshmem server?"},
		"eventfd as memory": {func(t *testing.T, w *wire) {
			w.send(t, Message{0, NoFD}, Message{2, NoFD}, Message{-1, w.bells[0][0].FD()})
		}, "message 3 (-1, with a descriptor): shared memory"},
		"memory as eventfd": {func(t *testing.T, w *wire) {
			w.send(t, append(w.handshake(2)[:3], Message{0, w.memory})...)
		}, "message 4 (0, with a descriptor): adopt eventfd"},
		"odd size": {func(t *testing.T, w *wire) {
			_ = unix.Ftruncate(w.memory, 5000)
			w.send(t, w.handshake(2)[:3]...)
		}, "power of two"},
		"two descriptors": {func(_ *testing.T, w *wire) {
			_, _ = unix.SendmsgN(w.fd, make([]byte, 8), unix.UnixRights(w.memory, w.memory), nil, 0)
		}, "more than one descriptor"},
		"many descriptors": {func(_ *testing.T, w *wire) {
			_, _ = unix.SendmsgN(w.fd, make([]byte, 8), unix.UnixRights(w.memory, w.memory, w.memory, w.memory, w.memory, w.memory, w.memory), nil, 0)
		}, "message 1"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t)
			tt.serve(t, w)
			before := openDescriptors(t)
			c, err := newClient(w.conn, 2, time.Now().Add(patience))
			if err == nil {
				_ = c.Close()
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q, want %q", err, tt.want)
			}
			if after := openDescriptors(t); after != before {
				t.Errorf("%d descriptors leaked", after-before)
			}
		})
	}
}

func TestDialErrors(t *testing.T) {
	d, err := os.MkdirTemp("/tmp", "ivshmem")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(d)
	for path, want := range map[string]string{
		filepath.Join(d, "missing"):           "is the server running?",
		"/tmp/" + strings.Repeat("long/", 25): "at most 107",
	} {
		if _, err := Dial(path, 2, patience); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}

// A client that never reads does not make Send wait.
func TestSendNeverWaits(t *testing.T) {
	w := newWire(t)
	m := w.handshake(2)
	for range 100_000 {
		if err := Send(w.fd, m); err != nil {
			if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.ETOOMANYREFS) {
				t.Errorf("error %v", err)
			}
			return
		}
	}
	t.Error("the buffer never filled")
}

// FuzzReader sends arbitrary bytes in arbitrary pieces, some with descriptors:
// no panic, no descriptor leaked, always an end.
func FuzzReader(f *testing.F) {
	f.Add([]byte{8, 0, 0, 0, 0, 0, 0, 0, 0, 8, 2, 0, 0, 0, 0, 0, 0, 0, 0x88, 255, 255, 255, 255, 255, 255, 255, 255})
	f.Add([]byte{3, 1, 2, 3, 0x85, 1, 2, 3, 4, 5})
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 512 {
			return
		}
		w := newWire(t)
		before := openDescriptors(t)
		for len(script) > 0 {
			n := min(int(script[0]&0x3f), len(script)-1)
			var rights []byte
			switch script[0] >> 6 {
			case 1:
				rights = unix.UnixRights(w.bells[0][0].FD())
			case 2:
				rights = unix.UnixRights(w.memory)
			case 3:
				rights = unix.UnixRights(w.memory, w.memory)
			}
			if n > 0 {
				_ = unix.Sendmsg(w.fd, script[1:1+n], rights, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
			}
			script = script[1+n:]
		}
		w.hangUp()
		c, err := newClient(w.conn, 1, time.Now().Add(patience))
		if err == nil {
			<-c.Gone()
			_ = c.Close()
			return
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("no end")
		}
		if after := openDescriptors(t); after != before-1 {
			t.Fatalf("%d descriptors, want %d", after, before-1)
		}
	})
}
