package server

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// store is systemd's descriptor store (sd_notify(3), FDSTORE=1). A nil store
// stores nothing.
type store struct {
	timeout time.Duration

	mu sync.Mutex // keeps the messages of one caller together; not held while the service manager is waited for
	fd int
}

// openStore connects to the service manager's socket; x/sys makes a leading "@"
// an abstract address.
func openStore(socket string, timeout time.Duration) (*store, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("descriptor store: %w", err)
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: socket}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("descriptor store at %s: %w", socket, err)
	}
	return &store{timeout: timeout, fd: fd}, nil
}

// put stores descriptors, each under its name, and waits until the service
// manager has them. An error means that it may not have all.
func (s *store) put(descriptors ...Descriptor) error {
	if s == nil {
		return nil
	}
	if err := s.give(descriptors); err != nil {
		return err
	}
	return s.barrier()
}

// give sends them.
func (s *store) give(descriptors []Descriptor) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range descriptors {
		if err := s.send("FDSTORE=1\nFDNAME="+d.Name, d.FD); err != nil {
			return fmt.Errorf("store descriptor %s: %w", d.Name, err)
		}
	}
	return nil
}

// remove takes names out of the store.
func (s *store) remove(names ...string) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var faults []error
	for _, name := range names {
		if name == "" {
			continue
		}
		if err := s.send("FDSTOREREMOVE=1\nFDNAME="+name, -1); err != nil {
			faults = append(faults, fmt.Errorf("remove stored descriptor %s: %w", name, err))
		}
	}
	return errors.Join(faults...)
}

// barrier waits until the service manager has worked off what it was sent: it closes
// the pipe's end that BARRIER=1 carries once it has seen everything before it.
func (s *store) barrier() error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("barrier: %w", err)
	}
	defer r.Close()
	err = s.send("BARRIER=1", int(w.Fd()))
	_ = w.Close()
	if err != nil {
		return fmt.Errorf("barrier: %w", err)
	}
	if err := r.SetReadDeadline(time.Now().Add(s.timeout)); err != nil {
		return fmt.Errorf("barrier: %w", err)
	}
	var b [1]byte
	if _, err := r.Read(b[:]); errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("the service manager did not confirm within %s what it was given to store: a restart of this server may lose it", s.timeout)
	}
	return nil
}

// send sends one datagram, and waits at most timeout for room. net.UnixConn
// refuses descriptors on connected datagram sockets, hence the bare call.
func (s *store) send(text string, fd int) error {
	var rights []byte
	if fd >= 0 {
		rights = unix.UnixRights(fd)
	}
	deadline := time.Now().Add(s.timeout)
	for {
		err := unix.Sendmsg(s.fd, []byte(text), rights, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return err
		}
		left := time.Until(deadline)
		if left <= 0 {
			return fmt.Errorf("the service manager takes no message: %w", os.ErrDeadlineExceeded)
		}
		poll := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLOUT}}
		if _, err := unix.Poll(poll, int(left.Milliseconds())+1); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func (s *store) close() {
	if s != nil {
		_ = unix.Close(s.fd)
	}
}
