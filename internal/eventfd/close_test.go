package eventfd

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// Close does not wait for a Ring that a hostile peer blocks, and the number is
// not given to another file before that Ring has ended.
func TestCloseDuringRing(t *testing.T) {
	e, err := New()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.acquire(); err != nil { // as the blocked Ring has
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(uintptr(e.fd), unix.F_GETFD, 0); err != nil {
		t.Fatalf("closed under the Ring: %v", err)
	}
	e.release()
	if _, err := unix.FcntlInt(uintptr(e.fd), unix.F_GETFD, 0); !errors.Is(err, unix.EBADF) {
		t.Fatalf("not closed after the Ring: %v", err)
	}
}

// What is rung while nobody waits wakes nothing of ours, however often, and the
// next Wait has it.
func TestNobodyWaits(t *testing.T) {
	e, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := e.Ring(); err != nil {
		t.Fatal(err)
	}
	if n, err := e.Wait(); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	const rings = 3
	for range rings {
		if err := e.Ring(); err != nil {
			t.Fatal(err)
		}
	}
	err = e.conn.Control(func(fd uintptr) {
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0); n != 0 || err != nil {
			t.Errorf("the runtime's poller is told: %d, %v", n, err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := e.Wait(); n != rings || err != nil {
		t.Errorf("%d, %v; want %d rings", n, err, rings)
	}
}
