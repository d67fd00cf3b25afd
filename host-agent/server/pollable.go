package server

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pollable is a descriptor that Go's poller watches: a goroutine that waits for
// it holds no thread, and Close ends the wait. What it waits for is asked with
// calls that never block, so the descriptor's own flags do not matter.
type pollable struct {
	file *os.File
	conn syscall.RawConn
}

// newPollable takes over fd; on error it is closed.
func newPollable(fd int, name string) (*pollable, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("watch %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	// What the poller did not take has no deadlines.
	err := f.SetReadDeadline(time.Time{})
	var conn syscall.RawConn
	if err == nil {
		conn, err = f.SyscallConn()
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("watch %s: %w", name, err)
	}
	return &pollable{file: f, conn: conn}, nil
}

// until calls ready whenever the descriptor may have become readable, until it
// returns true. The error is os.ErrClosed or os.ErrDeadlineExceeded.
func (p *pollable) until(ready func(fd int) bool) error {
	return p.conn.Read(func(fd uintptr) bool { return ready(int(fd)) })
}

// with calls f with the descriptor, which stays open meanwhile.
func (p *pollable) with(f func(fd int)) error {
	return p.conn.Control(func(fd uintptr) { f(int(fd)) })
}

// duplicate returns another descriptor for the same file, which is the caller's; -1
// if there is none.
func (p *pollable) duplicate() int {
	fd := -1
	if err := p.with(func(own int) { fd, _ = unix.FcntlInt(uintptr(own), unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return -1
	}
	return fd
}

func (p *pollable) close() { _ = p.file.Close() }

// pollNow reports, without waiting, which of the events hold for fd.
func pollNow(fd int, events int16) int16 {
	p := []unix.PollFd{{Fd: int32(fd), Events: events}}
	for {
		_, err := unix.Poll(p, 0)
		if err != unix.EINTR {
			return p[0].Revents
		}
	}
}
