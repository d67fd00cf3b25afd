// Package eventfd wraps Linux eventfds, the doorbells of ivshmem: ringing one,
// emptying one without waiting, and waiting for one in Go's poller, so that a
// waiting goroutine holds no thread.
//
// Trust: an eventfd's file description is shared with the other side, and the
// other side may be a hostile QEMU. It can add to the counter, fill it, empty
// it, and set or clear O_NONBLOCK for everybody. So nothing here depends on
// that flag: reads ask for RWF_NOWAIT, and Ring polls before it writes. The
// kernel has no RWF_NOWAIT for an eventfd's write, so one gap stays: who clears
// the flag and fills the counter between Ring's poll and its write makes that
// one call block. Therefore ring each gateway from a goroutine of its own,
// which holds no lock that others need. Close never waits for a blocked Ring.
package eventfd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Eventfd is one eventfd. All methods may be called concurrently.
type Eventfd struct {
	mu     sync.Mutex
	fd     int      // closed by the last user once closed is set
	users  int      // calls that use fd right now
	closed bool     // Close was called
	waiter *os.File // an epoll instance of the descriptor, in Go's poller; made by the first Wait
	conn   syscall.RawConn
	armed  bool // the instance reports the next ring; guarded by the waiter's read lock
}

// New makes an eventfd with counter 0, close-on-exec and non-blocking.
func New() (*Eventfd, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make eventfd: %w", err)
	}
	return &Eventfd{fd: fd}, nil
}

// Adopt takes over the descriptor fd, which came from elsewhere, after checking
// that it is an eventfd. On error fd stays the caller's.
func Adopt(fd int) (*Eventfd, error) {
	name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return nil, fmt.Errorf("adopt eventfd: %w", err)
	}
	if name != "anon_inode:[eventfd]" {
		return nil, fmt.Errorf("adopt eventfd: descriptor %d is %q", fd, name)
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("adopt eventfd: %w", err)
	}
	return &Eventfd{fd: fd}, nil
}

// FD returns the descriptor, for passing it on. It is valid until Close.
func (e *Eventfd) FD() int { return e.fd }

// acquire keeps fd open until release.
func (e *Eventfd) acquire() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return os.ErrClosed
	}
	e.users++
	return nil
}

func (e *Eventfd) release() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.users--
	if e.closed && e.users == 0 {
		_ = unix.Close(e.fd)
	}
}

var one = binary.NativeEndian.AppendUint64(nil, 1)

// Ring adds 1 to the counter. A full counter is no error: the other side is
// told already. See the package comment for the one case in which it blocks.
func (e *Eventfd) Ring() error {
	if err := e.acquire(); err != nil {
		return err
	}
	defer e.release()
	poll := [1]unix.PollFd{{Fd: int32(e.fd), Events: unix.POLLOUT}}
	for {
		n, err := unix.Poll(poll[:], 0)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return fmt.Errorf("ring: %w", err)
		case n == 0 || poll[0].Revents&unix.POLLOUT == 0:
			return nil // the counter is full
		}
		_, err = unix.Write(e.fd, one)
		switch err {
		case unix.EINTR:
		case nil, unix.EAGAIN:
			return nil
		default:
			return fmt.Errorf("ring: %w", err)
		}
	}
}

// Drain returns the counter and sets it to 0. It never waits: 0 means that
// nobody rang.
func (e *Eventfd) Drain() (uint64, error) {
	if err := e.acquire(); err != nil {
		return 0, err
	}
	defer e.release()
	n, err := read(e.fd)
	if errors.Is(err, unix.EAGAIN) {
		return 0, nil
	}
	return n, err
}

// read takes the counter, or EAGAIN, whatever the descriptor's flags are.
func read(fd int) (uint64, error) {
	var b [8]byte
	iov := [1][]byte{b[:]}
	for {
		_, err := unix.Preadv2(fd, iov[:], -1, unix.RWF_NOWAIT)
		switch err {
		case nil:
			return binary.NativeEndian.Uint64(b[:]), nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, unix.EAGAIN
		default:
			return 0, fmt.Errorf("drain: %w", err)
		}
	}
}

// Wait waits until the doorbell is rung, sets the counter to 0 and returns what
// it was: 0 if the other side has emptied it meanwhile. What is rung while
// nobody waits wakes nothing and is seen by the next Wait, so a caller that
// paces its Waits bounds what a storm costs it. Wait ends with os.ErrClosed after
// Close and with os.ErrDeadlineExceeded after the deadline. Of several waiters,
// one gets the counter.
func (e *Eventfd) Wait() (uint64, error) {
	conn, err := e.pollable()
	if err != nil {
		return 0, err
	}
	var count uint64
	var failure error
	woken := false // the runtime calls again when the instance has something to say
	err = conn.Read(func(watch uintptr) bool {
		if failure = e.acquire(); failure != nil {
			return true
		}
		defer e.release()
		rung, err := e.rung(int(watch), woken)
		woken = true
		if rung {
			count, err = read(e.fd)
			if errors.Is(err, unix.EAGAIN) {
				err = nil
			}
		}
		failure = err
		return rung || err != nil
	})
	switch {
	case err != nil && errors.Is(err, os.ErrDeadlineExceeded):
		return 0, os.ErrDeadlineExceeded
	case err != nil:
		return 0, os.ErrClosed
	}
	return count, failure
}

// SetDeadline ends present and future Waits at t; the zero time lifts it.
func (e *Eventfd) SetDeadline(t time.Time) error {
	if _, err := e.pollable(); err != nil {
		return err
	}
	return e.waiter.SetReadDeadline(t)
}

// rung reports whether the doorbell was rung since it last said so; woken: it has
// been, even if the other side has emptied the counter before we looked. The
// caller holds the read lock of watch (it is called by RawConn.Read), which
// guards armed.
func (e *Eventfd) rung(watch int, woken bool) (bool, error) {
	if !e.armed {
		if err := e.arm(watch, once); err != nil {
			return false, err
		}
	}
	var events [1]unix.EpollEvent
	n, err := unix.EpollWait(watch, events[:], 0)
	for err == unix.EINTR {
		n, err = unix.EpollWait(watch, events[:], 0)
	}
	switch {
	case err != nil:
		return false, fmt.Errorf("watch eventfd: %w", err)
	case n == 0 && woken:
		return true, e.arm(watch, 0)
	}
	e.armed = n == 0
	return n > 0, nil
}

// arm says what watch reports next: once or nothing.
func (e *Eventfd) arm(watch int, events uint32) error {
	if err := unix.EpollCtl(watch, unix.EPOLL_CTL_MOD, e.fd, &unix.EpollEvent{Events: events}); err != nil {
		return fmt.Errorf("watch eventfd: %w", err)
	}
	e.armed = events != 0
	return nil
}

// once reports one ring and is silent until it is asked for again. The runtime's
// own poller would be woken by every ring, whether somebody waits or not.
const once = unix.EPOLLIN | unix.EPOLLONESHOT

// pollable makes, once, the epoll instance that watches the descriptor, and that
// Go's poller watches.
func (e *Eventfd) pollable() (syscall.RawConn, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, os.ErrClosed
	}
	if e.conn != nil {
		return e.conn, nil
	}
	watch, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("watch eventfd: %w", err)
	}
	fail := func(err error) (syscall.RawConn, error) {
		_ = unix.Close(watch)
		return nil, fmt.Errorf("watch eventfd: %w", err)
	}
	if err := unix.EpollCtl(watch, unix.EPOLL_CTL_ADD, e.fd, &unix.EpollEvent{Events: once}); err != nil {
		return fail(err)
	}
	// os.NewFile registers only what is non-blocking at this moment.
	if err := unix.SetNonblock(watch, true); err != nil {
		return fail(err)
	}
	f := os.NewFile(uintptr(watch), "eventfd")
	if err := f.SetReadDeadline(time.Time{}); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("watch eventfd: the poller does not take it: %w", err)
	}
	conn, err := f.SyscallConn()
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("watch eventfd: %w", err)
	}
	e.waiter, e.conn, e.armed = f, conn, true
	return conn, nil
}

// Close closes the descriptor and ends all Waits. It does not wait for a Ring
// that a hostile peer blocks; the descriptor then closes when that Ring ends.
func (e *Eventfd) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return os.ErrClosed
	}
	e.closed = true
	e.users++ // ours, until nobody waits any more
	waiter := e.waiter
	e.mu.Unlock()
	defer e.release()
	if waiter == nil {
		return nil
	}
	// It waits for a Wait that was woken just now, which needs the mutex.
	return waiter.Close()
}
