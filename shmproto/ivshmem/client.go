package ivshmem

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"guardring/internal/eventfd"
	"guardring/internal/sockpath"
)

// Errors that callers tell apart.
var (
	// ErrRefused: the server gave no seat. errors.As finds the Refusal that says
	// why, unless the server just closed the connection.
	ErrRefused = errors.New("the server refused the connection (its log says more)")
	// ErrNoVector: the peer, or that vector of it, does not exist (any more).
	ErrNoVector = errors.New("no such peer or vector")

	errTwoDescriptors = errors.New("more than one descriptor")
)

// queueRetry is how long Dial waits when the server's queue is full.
const queueRetry = 20 * time.Millisecond

// Client is a peer's place in a region: what QEMU sets up at start. Its methods
// may be called concurrently, Close excepted.
//
// A client outlives its server: when the connection ends, Gone is closed, and
// memory and doorbells go on working, as they do in QEMU. Whether to Dial again
// is the caller's business; a server that still knows this process gives it the
// same seat.
type Client struct {
	ID     PeerID
	Memory []byte // the region, shared and writable; gone after Close

	conn *net.UnixConn
	own  []*eventfd.Eventfd
	gone chan struct{}
	end  error // why the connection ended; set before gone is closed

	mu    sync.RWMutex
	peers map[PeerID][]*eventfd.Eventfd
}

// Dial connects to the ivshmem server at path and does the whole handshake
// within timeout. vectors is how many of our own vectors must come: QEMU's
// property of that name.
func Dial(path string, vectors int, timeout time.Duration) (*Client, error) {
	if vectors < 0 || vectors > maxVectors {
		return nil, fmt.Errorf("ivshmem server %s: %d vectors asked for, at most %d are possible", path, vectors, maxVectors)
	}
	if err := sockpath.Check(path); err != nil {
		return nil, fmt.Errorf("ivshmem server %s: %w", path, err)
	}
	deadline := time.Now().Add(timeout)
	conn, err := net.DialTimeout("unix", path, timeout)
	for errors.Is(err, syscall.EAGAIN) && time.Until(deadline) > queueRetry {
		// The server's queue is full. There is no event for room in it.
		time.Sleep(queueRetry)
		conn, err = net.DialTimeout("unix", path, time.Until(deadline))
	}
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("ivshmem server %s: is the server running? %w", path, err)
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("ivshmem server %s: user %d (group %d) may not use this socket: %w", path, os.Geteuid(), os.Getegid(), err)
	case err != nil:
		return nil, fmt.Errorf("ivshmem server %s: %w", path, err)
	}
	c, err := newClient(conn.(*net.UnixConn), vectors, deadline)
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("ivshmem server %s: %w", path, err)
	}
	return c, nil
}

// newClient does the handshake on conn, which it closes only by Close.
func newClient(conn *net.UnixConn, vectors int, deadline time.Time) (*Client, error) {
	c := &Client{conn: conn, gone: make(chan struct{}), peers: make(map[PeerID][]*eventfd.Eventfd)}
	s := &sequence{want: vectors, peers: make(map[PeerID]int)}
	r := &reader{conn: conn}
	err := conn.SetReadDeadline(deadline)
	for err == nil && !s.complete() {
		err = c.next(r, s)
	}
	if err == nil {
		err = conn.SetReadDeadline(time.Time{})
	}
	if err != nil {
		c.free()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, fmt.Errorf("handshake stalled after %d messages: %w", s.messages, os.ErrDeadlineExceeded)
		case s.messages == 0 && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)):
			return nil, ErrRefused
		case s.refused != 0:
			return nil, fmt.Errorf("%w: %w", ErrRefused, s.refused)
		case errors.Is(err, io.EOF):
			return nil, fmt.Errorf("the server closed the connection after %d messages: %w", s.messages, io.ErrUnexpectedEOF)
		}
		return nil, err
	}
	go c.follow(r, s)
	return c, nil
}

// follow takes what comes after the handshake until the connection ends.
func (c *Client) follow(r *reader, s *sequence) {
	for {
		if err := c.next(r, s); err != nil {
			c.end = err
			_ = c.conn.Close()
			close(c.gone)
			return
		}
	}
}

// next reads one message, checks it and does what it says.
func (c *Client) next(r *reader, s *sequence) error {
	value, fd, err := r.read(s.messages + 1)
	if err != nil {
		return err
	}
	what, id, err := s.accept(value, fd != NoFD)
	if err == nil {
		switch what {
		case effectMemory:
			c.ID = s.own
			c.Memory, err = mapMemory(fd)
			_ = unix.Close(fd)
			fd = NoFD
		case effectOwn, effectPeer:
			var e *eventfd.Eventfd
			if e, err = eventfd.Adopt(fd); err == nil {
				fd = NoFD
				c.add(what, id, e)
			}
		case effectRemoved:
			c.remove(id)
		}
		if err != nil {
			err = &ProtocolError{Message: s.messages, Value: value, HasFD: true, Reason: err.Error()}
		}
	}
	if fd != NoFD {
		_ = unix.Close(fd)
	}
	return err
}

func (c *Client) add(what effect, id PeerID, e *eventfd.Eventfd) {
	if what == effectOwn {
		c.own = append(c.own, e)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.peers[id] = append(c.peers[id], e)
}

func (c *Client) remove(id PeerID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.peers[id] {
		_ = e.Close()
	}
	delete(c.peers, id)
}

// mapMemory maps the region after checking what the descriptor is.
func mapMemory(fd int) ([]byte, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("shared memory: %w", err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, fmt.Errorf("shared memory: the descriptor is no memory file (mode %#o)", st.Mode)
	case st.Size < minMemory || st.Size > maxMemory || st.Size&(st.Size-1) != 0:
		return nil, fmt.Errorf("shared memory of %d bytes: want a power of two from %d to %d", st.Size, minMemory, maxMemory)
	}
	b, err := unix.Mmap(fd, 0, int(st.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes of shared memory: %w", st.Size, err)
	}
	return b, nil
}

// Ring rings the doorbell of a peer's vector. A peer that is away is rung all
// the same: its eventfd keeps the mark. Where the other peers may be hostile,
// ring from one goroutine per region (see package eventfd).
func (c *Client) Ring(peer PeerID, v Vector) error {
	c.mu.RLock()
	vectors := c.peers[peer]
	c.mu.RUnlock()
	if int(v) >= len(vectors) {
		return fmt.Errorf("ring vector %d of peer %d: %w", v, peer, ErrNoVector)
	}
	return vectors[v].Ring()
}

// Interrupt returns our own vector v, on which we are rung: Wait on it, or
// Drain it. It is nil if there is no such vector. It stays the client's: Close
// closes it, which ends a Wait with os.ErrClosed.
func (c *Client) Interrupt(v Vector) *eventfd.Eventfd {
	if int(v) >= len(c.own) {
		return nil
	}
	return c.own[v]
}

// Vectors returns how many vectors the peer has: 0 if it is unknown.
func (c *Client) Vectors(peer PeerID) int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.peers[peer])
}

// Gone is closed when the connection to the server has ended.
func (c *Client) Gone() <-chan struct{} { return c.gone }

// Err says why the connection ended: nil while it lives, io.EOF when the server
// closed it, a *ProtocolError when it sent what it must not. The connection is
// closed in each case.
func (c *Client) Err() error {
	select {
	case <-c.gone:
		return c.end
	default:
		return nil
	}
}

// Close gives the seat up: connection, doorbells and memory.
//
// Preconditions: nobody uses Memory any more, or anything that was made from it.
func (c *Client) Close() error {
	err := c.conn.Close()
	<-c.gone
	c.free()
	if errors.Is(err, net.ErrClosed) {
		return nil // the server had gone before
	}
	return err
}

// free releases everything but the connection.
func (c *Client) free() {
	for _, e := range c.own {
		_ = e.Close()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, vectors := range c.peers {
		for _, e := range vectors {
			_ = e.Close()
		}
		delete(c.peers, id)
	}
	if c.Memory != nil {
		_ = unix.Munmap(c.Memory)
		c.Memory = nil
	}
}
