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
