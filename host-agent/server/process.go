package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// process is a handle on the process at the other end of a connection. It names
// that very process: a number that is used again does not fool it.
type process struct {
	pid   int
	pidfd *pollable // nil: the process had ended when the handle was made
}

// peerProcess returns a handle on the process that connected fd, whose number
// is pid. On kernels without SO_PEERPIDFD (before 6.5) the number might have
// been given to another process in the meantime, which is told by the
// connection: a process that has ended has closed it.
func peerProcess(fd, pid int) (*process, error) {
	pidfd, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	switch {
	case err == nil:
		unix.CloseOnExec(pidfd)
	case errors.Is(err, unix.ENOPROTOOPT):
		if pidfd, err = unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK); err != nil {
			return nil, fmt.Errorf("process %d: %w", pid, err)
		}
		if pollNow(fd, unix.POLLRDHUP)&(unix.POLLRDHUP|unix.POLLHUP) != 0 {
			_ = unix.Close(pidfd)
			return nil, fmt.Errorf("process %d has hung up", pid)
		}
	default:
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	return newProcess(pidfd, pid)
}

// storedProcess makes a handle from a pidfd out of the store.
func storedProcess(pidfd int) (*process, error) {
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", pidfd))
	if err != nil {
		_ = unix.Close(pidfd)
		return nil, err
	}
	for line := range strings.Lines(string(info)) {
		value, ok := strings.CutPrefix(line, "Pid:")
		if !ok {
			continue
		}
		pid, err := strconv.Atoi(strings.TrimSpace(value))
		switch {
		case err != nil:
		case pid <= 0: // reaped: -1
			_ = unix.Close(pidfd)
			return &process{}, nil
		default:
			return newProcess(pidfd, pid)
		}
	}
	_ = unix.Close(pidfd)
	return nil, errors.New("is not a process's descriptor")
}

func newProcess(pidfd, pid int) (*process, error) {
	p, err := newPollable(pidfd, "pidfd")
	if err != nil {
		return nil, err
	}
	return &process{pid: pid, pidfd: p}, nil
}

// ended reports whether the process has ended (a zombie has).
func (p *process) ended() bool {
	if p.pidfd == nil {
		return true
	}
	var revents int16
	if err := p.pidfd.with(func(fd int) { revents = pollNow(fd, unix.POLLIN) }); err != nil {
		return false // closed by us: unknown, so not given on
	}
	return revents != 0
}

// wait returns when the process has ended (nil) or close was called.
func (p *process) wait() error {
	if p.pidfd == nil {
		return nil
	}
	return p.pidfd.until(func(fd int) bool { return pollNow(fd, unix.POLLIN) != 0 })
}

// waitFor is wait with a limit.
func (p *process) waitFor(ctx context.Context, limit time.Duration) bool {
	if p.pidfd == nil {
		return true
	}
	// A duplicate, because a deadline would end other waits too.
	fd := p.duplicate()
	if fd < 0 {
		return false
	}
	own, err := newPollable(fd, "pidfd")
	if err != nil {
		return false
	}
	defer own.close()
	_ = own.file.SetReadDeadline(time.Now().Add(limit))
	stop := context.AfterFunc(ctx, func() { _ = own.file.SetReadDeadline(time.Now()) })
	defer stop()
	return own.until(func(fd int) bool { return pollNow(fd, unix.POLLIN) != 0 }) == nil
}

// duplicate returns another descriptor for the process, which is the caller's; -1 if
// there is none.
func (p *process) duplicate() int {
	if p.pidfd == nil {
		return -1
	}
	return p.pidfd.duplicate()
}

func (p *process) close() {
	if p.pidfd != nil {
		p.pidfd.close()
	}
}

// owner returns the user and group of the process as /proc shows them.
func (p *process) owner() (uid, gid uint32) {
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d", p.pid), &st); err != nil {
		return ^uint32(0), ^uint32(0)
	}
	return st.Uid, st.Gid
}
