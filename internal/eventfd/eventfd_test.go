package eventfd_test

import (
	"encoding/binary"
	"errors"
	"math"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"guardring/internal/eventfd"
)

func open(t testing.TB) *eventfd.Eventfd {
	t.Helper()
	e, err := eventfd.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func TestRingAndDrain(t *testing.T) {
	e := open(t)
	if n, err := e.Drain(); n != 0 || err != nil {
		t.Fatalf("fresh: %d, %v", n, err)
	}
	for range 3 {
		if err := e.Ring(); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := e.Drain(); n != 3 || err != nil {
		t.Fatalf("after 3 rings: %d, %v", n, err)
	}
	if n, err := e.Drain(); n != 0 || err != nil {
		t.Fatalf("after draining: %d, %v", n, err)
	}
}

func TestDescriptorFlags(t *testing.T) {
	e := open(t)
	if flags, _ := unix.FcntlInt(uintptr(e.FD()), unix.F_GETFL, 0); flags&unix.O_NONBLOCK == 0 {
		t.Error("blocking")
	}
	if flags, _ := unix.FcntlInt(uintptr(e.FD()), unix.F_GETFD, 0); flags&unix.FD_CLOEXEC == 0 {
		t.Error("inherited by children")
	}
}

func TestWaitEndsByRingDeadlineAndClose(t *testing.T) {
	e := open(t)
	counts, errs := make(chan uint64), make(chan error)
	wait := func() {
		n, err := e.Wait()
		if err != nil {
			errs <- err
			return
		}
		counts <- n
	}
	go wait()
	if err := e.Ring(); err != nil {
		t.Fatal(err)
	}
	if n := <-counts; n != 1 {
		t.Errorf("counter %d, want 1", n)
	}
	if err := e.SetDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	go wait()
	if err := <-errs; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
	if err := e.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	go wait()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-errs; !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	for name, f := range map[string]func() error{
		"Ring":  e.Ring,
		"Close": e.Close,
		"Drain": func() error { _, err := e.Drain(); return err },
		"Wait":  func() error { _, err := e.Wait(); return err },
	} {
		if err := f(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s after Close: %v", name, err)
		}
	}
}

// A hostile peer shares the file description: it clears O_NONBLOCK for us too,
// and fills the counter.
func TestHostilePeerBlocksNothing(t *testing.T) {
	e := open(t)
	peer, err := unix.Dup(e.FD())
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(peer)
	// Waiting begins while the flag is still set, then loses it.
	if err := e.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(peer, false); err != nil {
		t.Fatal(err)
	}
	if flags, _ := unix.FcntlInt(uintptr(e.FD()), unix.F_GETFL, 0); flags&unix.O_NONBLOCK != 0 {
		t.Fatal("the test did not clear our flag")
	}
	if n, err := e.Drain(); n != 0 || err != nil {
		t.Fatalf("drain of an empty one: %d, %v", n, err)
	}
	if _, err := unix.Write(peer, binary.NativeEndian.AppendUint64(nil, math.MaxUint64-1)); err != nil {
		t.Fatal(err)
	}
	if err := e.Ring(); err != nil { // would hang without the poll
		t.Fatal(err)
	}
	if n, err := e.Drain(); n != math.MaxUint64-1 || err != nil {
		t.Fatalf("drain: %d, %v", n, err)
	}
	ended := make(chan error)
	go func() { _, err := e.Wait(); ended <- err }()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Fatal(err)
	}
}

// A doorbell that is emptied before its waiter looks has woken that one all the
// same, so that the waiter's pace bounds this storm, too.
func TestStolenRingWakes(t *testing.T) {
	e := open(t)
	done := make(chan error)
	go func() {
		_, err := e.Wait()
		done <- err
	}()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			return
		default:
			if err := e.Ring(); err != nil {
				t.Fatal(err)
			}
			if _, err := e.Drain(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestAdopt(t *testing.T) {
	fd, err := unix.Eventfd(5, 0)
	if err != nil {
		t.Fatal(err)
	}
	e, err := eventfd.Adopt(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if n, err := e.Drain(); n != 5 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, err := eventfd.Adopt(int(r.Fd())); err == nil {
		t.Error("a pipe was taken for an eventfd")
	}
}

// BenchmarkPingPong is the floor of all doorbell figures: one goroutine rings
// another, which rings back, through Go's poller.
func BenchmarkPingPong(b *testing.B) {
	there, back := open(b), open(b)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if _, err := there.Wait(); err != nil {
				return
			}
			_ = back.Ring()
		}
	}()
	b.ReportAllocs()
	for b.Loop() {
		if err := there.Ring(); err != nil {
			b.Fatal(err)
		}
		if _, err := back.Wait(); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	_ = there.Close()
	<-done
}

func BenchmarkRing(b *testing.B) {
	e := open(b)
	b.ReportAllocs()
	for b.Loop() {
		_ = e.Ring()
	}
}

// Close ends a Wait that a ring has just woken, and neither waits for the other: an agent that closes its doorbell while the host
// answers its last word once never ended.
func TestCloseWhileRung(t *testing.T) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		begun := time.Now()
		for n := 0; n < 3000 && time.Since(begun) < 5*time.Second; n++ { // with one processor, each round takes its share of time
			e, err := eventfd.New()
			if err != nil {
				t.Error(err)
				return
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				for err := error(nil); err == nil; {
					_, err = e.Wait()
				}
			})
			wg.Go(func() {
				for e.Ring() == nil {
				}
			})
			wg.Go(func() {
				runtime.Gosched()
				_ = e.Close()
			})
			wg.Wait()
		}
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("Close and Wait wait for each other")
	}
}
