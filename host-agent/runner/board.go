package runner

import (
	"errors"
	"fmt"

	"guardring/shmproto"
	"guardring/shmproto/ivshmem"
)

// board is our seat at the lease board.
type board struct {
	client *ivshmem.Client
	leases *shmproto.LeaseBoard
	seat   int
	last   [shmproto.HostSeats]shmproto.Lease // last good readings
}

func dialBoard(path string) (*board, error) {
	c, err := ivshmem.Dial(path, shmproto.Vectors, dialTime)
	if err != nil {
		if errors.Is(err, ivshmem.ErrRefused) {
			return nil, fmt.Errorf("two coordinators run already, or their seats are not free yet: %w", err)
		}
		return nil, err
	}
	b, err := newBoard(c)
	if err != nil {
		_ = c.Close()
	}
	return b, err
}

// newBoard makes a board of a connected client; on error that stays open.
func newBoard(c *ivshmem.Client) (*board, error) {
	leases, err := shmproto.OpenLeaseBoard(c.Memory)
	if err == nil && c.ID >= shmproto.HostSeats {
		err = fmt.Errorf("lease board: the server gave us seat %d, want 0 or 1", c.ID)
	}
	if err != nil {
		return nil, err
	}
	return &board{client: c, leases: leases, seat: int(c.ID)}, nil
}

// read returns what a seat shows. What cannot be read counts as unchanged: a
// lease that stays unreadable becomes stale like one that does not change.
func (b *board) read(seat int) shmproto.Lease {
	if l, err := b.leases.Read(seat); err == nil {
		b.last[seat] = l
	}
	return b.last[seat]
}

// other returns the lease that the other coordinator shows.
func (b *board) other() shmproto.Lease { return b.read(1 - b.seat) }

// succeed takes over what a board of a former server connection knew: a server
// that was restarted may come back with an empty board, which says nothing
// about who acts.
func (b *board) succeed(old *board) { b.last[1-b.seat] = old.last[1-old.seat] }

func (b *board) gone() bool {
	select {
	case <-b.client.Gone():
		return true
	default:
		return false
	}
}
