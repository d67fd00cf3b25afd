package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"guardring/internal/statussock"
	"guardring/shmproto/ivshmem"
)

const (
	// backlog connections wait for accept; the next ones wait in connect.
	backlog = 16
	// pause after the system had no descriptor for another connection. There is
	// no event to wait for.
	pause = time.Second
)

// listener is one listening socket.
type listener struct {
	*pollable
	path   string
	stored string // its name in the store, "" if it is not there
}

// listen binds path. Owner and mode are right before anybody can connect.
func listen(path string, uid, gid int, mode fs.FileMode) (*listener, error) {
	if err := removeSocket(path); err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	fail := func(err error) (*listener, error) {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return fail(err)
	}
	if err := setOwner(path, uid, gid, mode); err != nil {
		_ = os.Remove(path)
		return fail(err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		_ = os.Remove(path)
		return fail(err)
	}
	p, err := newPollable(fd, path)
	if err != nil {
		_ = os.Remove(path)
		return nil, err
	}
	return &listener{pollable: p, path: path}, nil
}

// removeSocket removes a former server's socket. That server is gone, because we
// hold the lock of the run directory.
func removeSocket(path string) error {
	if there, err := statussock.Present(path); !there {
		return err
	}
	return os.Remove(path)
}

// adoptListener takes over a stored listening socket. On error fd is closed.
func adoptListener(fd int, path string, uid, gid int, mode fs.FileMode) (*listener, error) {
	unix.CloseOnExec(fd)
	fail := func(err error) (*listener, error) {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || on != 1 {
		return fail(fmt.Errorf("the stored descriptor does not listen (%v)", err))
	}
	addr, err := unix.Getsockname(fd)
	if u, ok := addr.(*unix.SockaddrUnix); !ok || err != nil || u.Name != path {
		return fail(fmt.Errorf("the stored descriptor listens elsewhere (%v)", err))
	}
	if there, err := statussock.Present(path); !there {
		return fail(fmt.Errorf("the socket is not there any more (%v)", err))
	}
	if err := setOwner(path, uid, gid, mode); err != nil {
		return fail(err)
	}
	p, err := newPollable(fd, path)
	if err != nil {
		return nil, err
	}
	return &listener{pollable: p, path: path}, nil
}

// setOwner sets a socket's owner and mode; the mode last, because it gives access.
func setOwner(path string, uid, gid int, mode fs.FileMode) error {
	if uid == KeepID {
		uid = os.Geteuid()
	}
	if gid == KeepID {
		gid = os.Getegid()
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return err
	}
	if int(st.Uid) != uid || int(st.Gid) != gid {
		if err := os.Lchown(path, uid, gid); err != nil {
			return fmt.Errorf("give it to %d:%d: %w (only root can, except to a group that the server's user is in)", uid, gid, err)
		}
	}
	return os.Chmod(path, mode)
}

// accept waits for the next connection.
func (l *listener) accept() (fd int, err error) {
	var failure error
	err = l.until(func(own int) bool {
		fd, failure = acceptNow(own)
		return !errors.Is(failure, unix.EAGAIN)
	})
	if err != nil {
		return -1, err
	}
	return fd, failure
}

// acceptNow takes the next connection of those that wait; EAGAIN if none does.
func acceptNow(own int) (fd int, err error) {
	fd, _, err = unix.Accept4(own, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	// Linux looks for a free descriptor before it looks for a connection. Who comes after that look wakes the poller.
	if outOfResources(err) && pollNow(own, unix.POLLIN)&unix.POLLIN == 0 {
		err = unix.EAGAIN
	}
	return fd, err
}

// outOfResources tells an error of this process or system from one of a connection.
func outOfResources(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.ENOBUFS)
}

// remove closes the socket for good and takes its file away.
func (l *listener) remove() {
	_ = os.Remove(l.path)
	_ = l.with(refusePending)
	l.close()
}

// refusePending answers those who wait to be accepted: a QEMU whose connection
// is closed without a word would not end (ivshmem.Refusal).
func refusePending(fd int) {
	for {
		if pollNow(fd, unix.POLLIN)&unix.POLLIN == 0 {
			return
		}
		conn, err := acceptNow(fd)
		if err != nil {
			return
		}
		_ = ivshmem.Refuse(conn, ivshmem.RefusedBroken)
		_ = unix.Close(conn)
	}
}

// serve hands connections to admit, one after another, not faster than
// pace allows, until the listener is closed or ctx ends.
func (l *listener) serve(ctx context.Context, pace *rate.Limiter, log *slog.Logger, admit func(fd int)) {
	var short bool // of descriptors; said once
	for ctx.Err() == nil {
		if pace.Wait(ctx) != nil {
			return
		}
		fd, err := l.accept()
		switch {
		case err == nil:
			if short {
				short = false
				log.Info("connections are accepted again", "socket", l.path)
			}
			admit(fd)
		case outOfResources(err):
			if !short {
				short = true
				log.Error("no descriptor left for a connection: raise LimitNOFILE (ulimit -n); connections wait until then", "socket", l.path, "error", err)
			}
			if !sleep(ctx, pause) {
				return
			}
		case errors.Is(err, os.ErrClosed):
			return
		default:
			// The connection was lost before it was accepted, or the like; the
			// pace keeps this from spinning.
		}
	}
}

// sleep waits for d; false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
