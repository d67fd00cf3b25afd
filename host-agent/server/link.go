package server

import (
	"errors"

	"golang.org/x/sys/unix"
)

// link is one accepted connection.
type link struct {
	*pollable
	stored string // its name in the store, "" if it is not there
}

// end is why a connection ended.
type end string

const (
	endClosed    end = "closed by the client"
	endSent      end = "the client sent data"
	endError     end = "connection error"
	endHandshake end = "the client did not take the handshake"
	endOurs      end = "closed by the server"
)

// peek reports, without waiting, whether and why the connection has ended.
// Nothing is taken from the socket, and descriptors that the client sends are
// never received: the kernel closes them with the socket.
func peek(fd int) (end, bool) {
	var b [1]byte
	for {
		n, _, err := unix.Recvfrom(fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return "", false
		case errors.Is(err, unix.ECONNRESET):
			return endClosed, true
		case err != nil:
			return endError, true
		case n == 0:
			return endClosed, true
		}
		return endSent, true
	}
}

// ended is peek for callers that do not wait.
func (l *link) ended() (why end, ended bool) {
	if err := l.with(func(fd int) { why, ended = peek(fd) }); err != nil {
		return endOurs, true
	}
	return why, ended
}

// wait returns when the connection has ended, also by close.
func (l *link) wait() end {
	var why end
	err := l.until(func(fd int) (ended bool) {
		why, ended = peek(fd)
		return ended
	})
	if err != nil {
		return endOurs
	}
	return why
}

// hangUp closes the connection for good. The store may have a copy, and the
// client would see nothing of a mere close.
func (l *link) hangUp() {
	_ = l.with(func(fd int) { _ = unix.Shutdown(fd, unix.SHUT_RDWR) })
	l.close()
}
