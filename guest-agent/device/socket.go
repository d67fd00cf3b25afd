package device

import (
	"errors"
	"fmt"
	"time"

	"guardring/shmproto"
	"guardring/shmproto/ivshmem"
)

// dialTime bounds the handshake: the server sends it at once.
const dialTime = 5 * time.Second

// Socket is the guest seat taken over a server's socket. When the server goes
// away the memory and the doorbells go on working, as they do in QEMU.
type Socket struct{ client *ivshmem.Client }

// Dial takes the guest seat at the server's socket.
func Dial(path string) (*Socket, error) {
	c, err := ivshmem.Dial(path, shmproto.Vectors, dialTime)
	if err != nil {
		return nil, err
	}
	s := &Socket{client: c}
	for seat := range ivshmem.PeerID(shmproto.HostSeats) {
		if c.ID == seat || c.Vectors(seat) == 0 {
			_ = c.Close()
			return nil, fmt.Errorf("ivshmem server %s gives seat %d and %d doorbells of host seat %d: it does not serve a gateway of guardring", path, c.ID, c.Vectors(seat), seat)
		}
	}
	return s, nil
}

// Memory is the region. It is valid until Close.
func (s *Socket) Memory() []byte { return s.client.Memory }

// Seat is our own peer ID.
func (s *Socket) Seat() int { return int(s.client.ID) }

// Ring rings both host agents. It may block if a hostile peer misuses the
// shared eventfd (package eventfd): call it from a goroutine of its own.
func (s *Socket) Ring() error {
	var errs []error
	for seat := range ivshmem.PeerID(shmproto.HostSeats) {
		errs = append(errs, s.client.Ring(seat, shmproto.VectorChanged))
	}
	return errors.Join(errs...)
}

// Wait waits until we are rung. It ends with os.ErrClosed after Close.
func (s *Socket) Wait() error {
	_, err := s.client.Interrupt(shmproto.VectorChanged).Wait()
	return err
}

// Gone is closed when the server has closed the connection. Memory and doorbells
// stay usable.
func (s *Socket) Gone() <-chan struct{} { return s.client.Gone() }

// Close gives the seat up.
//
// Preconditions: nobody uses Memory any more.
func (s *Socket) Close() error { return s.client.Close() }
