package device

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"guardring/internal/eventfd"
	"guardring/shmproto"
	"guardring/shmproto/ivshmem"
)

func TestWriterSlots(t *testing.T) {
	dir := t.TempDir()
	var held []*Writer
	for want := range shmproto.MaxWriters {
		w, err := TakeWriter(dir)
		if err != nil {
			t.Fatal(err)
		}
		if w.Slot != want {
			t.Errorf("slot %d, want %d", w.Slot, want)
		}
		held = append(held, w)
	}
	if _, err := TakeWriter(dir); !errors.Is(err, ErrNoWriter) {
		t.Errorf("a fifth agent: %v", err)
	}
	if err := held[2].Release(); err != nil {
		t.Fatal(err)
	}
	w, err := TakeWriter(dir)
	if err != nil || w.Slot != 2 {
		t.Fatalf("%+v, %v", w, err)
	}
	for _, w := range []*Writer{w, held[0], held[1], held[3]} {
		w.Release()
	}
	if _, err := TakeWriter(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
}

// serve is a small ivshmem server: one handshake per connection, over and over.
type server struct {
	path  string
	conns chan *net.UnixConn
	bells map[ivshmem.PeerID][]*eventfd.Eventfd
}

func serve(t *testing.T, own ivshmem.PeerID, table ...ivshmem.PeerID) *server {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "device")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	mem, err := unix.MemfdCreate("region", unix.MFD_ALLOW_SEALING|unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(mem) })
	if err := unix.Ftruncate(mem, shmproto.RegionSize); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(uintptr(mem), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		t.Fatal(err)
	}
	s := &server{path: filepath.Join(dir, "s"), conns: make(chan *net.UnixConn, 10), bells: map[ivshmem.PeerID][]*eventfd.Eventfd{}}
	var peers []ivshmem.Peer
	for _, id := range table {
		p := ivshmem.Peer{ID: id}
		for range shmproto.Vectors {
			e, err := eventfd.New()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { e.Close() })
			s.bells[id] = append(s.bells[id], e)
			p.Vectors = append(p.Vectors, e.FD())
		}
		peers = append(peers, p)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			raw, err := c.SyscallConn()
			if err != nil {
				return
			}
			raw.Control(func(fd uintptr) { err = ivshmem.Send(int(fd), ivshmem.Handshake(own, mem, peers)) })
			if err != nil {
				t.Error(err)
			}
			s.conns <- c
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
		close(s.conns)
		for c := range s.conns {
			c.Close()
		}
	})
	return s
}

func TestSocket(t *testing.T) {
	s := serve(t, 2, 0, 1, 2)
	d, err := Dial(s.path)
	if err != nil {
		t.Fatal(err)
	}
	conn := <-s.conns
	if d.Seat() != 2 || len(d.Memory()) != shmproto.RegionSize {
		t.Errorf("seat %d, %d bytes", d.Seat(), len(d.Memory()))
	}
	rings := func(when string) {
		t.Helper()
		if err := d.Ring(); err != nil {
			t.Errorf("%s: %v", when, err)
		}
		for seat := range ivshmem.PeerID(shmproto.HostSeats) {
			if n, err := s.bells[seat][0].Drain(); n != 1 || err != nil {
				t.Errorf("%s: seat %d was rung %d times, %v", when, seat, n, err)
			}
		}
		if err := s.bells[2][0].Ring(); err != nil {
			t.Fatal(err)
		}
		if err := d.Wait(); err != nil {
			t.Errorf("%s: wait: %v", when, err)
		}
	}
	rings("connected")
	conn.Close()
	<-d.Gone()
	rings("server gone") // memory and doorbells go on, as in QEMU
	d.Memory()[0] = 1
	ended := make(chan error, 1)
	go func() { ended <- d.Wait() }()
	d.Close()
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("wait after close: %v", err)
	}
}

func TestOtherServersAreRefused(t *testing.T) {
	s := serve(t, 2, 2, 5)
	if d, err := Dial(s.path); err == nil {
		d.Close()
		t.Error("a server without host seats was accepted")
	} else {
		t.Log(err)
	}
	if _, err := Dial("/nonexistent/s"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}
