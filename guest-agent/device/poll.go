package device

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"guardring/guest-agent/pci"
	"guardring/internal/hint"
	"guardring/shmproto"
)

// The pauses between two looks: doubling from the first to the last after each
// change and each ring of ours. The last is a little over a second, so that with
// the agent's slow tick an idle agent wakes up at most once a second in all.
const (
	pollFirst = time.Millisecond
	pollLast  = 1100 * time.Millisecond
)

// Poll is the PCI device through sysfs: for a VM without an IOMMU. Linux gives
// nobody its interrupts, so the region is looked at again and again.
type Poll struct {
	registers, memory []byte
	rings             func() [shmproto.HostSeats]uint64
	kick              chan struct{} // a token: look soon
	done              chan struct{}
	wakeups           atomic.Uint64
	seen              [shmproto.HostSeats]uint64 // by Wait only

	mu     sync.Mutex // held while the mappings are touched
	closed bool
}

func openPoll(bus pci.Bus, d pci.Device) (*Poll, error) {
	p := &Poll{kick: make(chan struct{}, 1), done: make(chan struct{})}
	var err error
	if p.registers, err = mapFile(bus.ResourceFile(d.Address, barRegisters), registersSize); err != nil {
		return nil, err
	}
	if p.memory, err = mapFile(bus.ResourceFile(d.Address, barMemory), shmproto.RegionSize); err != nil {
		p.unmap()
		return nil, err
	}
	if err := checkRegion(p.memory, load32(p.registers, registerIVPosition)); err != nil {
		p.unmap()
		return nil, err
	}
	p.rings = func() (none [shmproto.HostSeats]uint64) { return none }
	if r, err := shmproto.Open(p.memory); err == nil { // else the caller finds out, and closes us
		p.rings = r.HostRings
	}
	p.seen = p.rings()
	return p, nil
}

// mapFile maps the first bytes of one of sysfs's resource files.
func mapFile(path string, size int) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_SYNC, 0)
	if err != nil {
		if errors.Is(err, os.ErrPermission) {
			err = hint.Wrap(err, prepareRemedy+", with the agent's group")
		}
		return nil, err
	}
	defer f.Close()
	b, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if errors.Is(err, unix.EPERM) {
		return nil, hint.Wrap(fmt.Errorf("map %s: %w", path, err), "a locked-down kernel (Secure Boot) forbids this: use VFIO; "+iommuRemedy)
	}
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	return b, nil
}

// Memory is the region. It is valid until Close.
func (p *Poll) Memory() []byte { return p.memory }

// Seat is our own peer ID.
func (p *Poll) Seat() int { return shmproto.GuestSeat }

// Ring rings both host agents. An answer is expected, so the next looks come soon.
func (p *Poll) Ring() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return os.ErrClosed
	}
	for seat := range uint32(shmproto.HostSeats) {
		store32(p.registers, registerDoorbell, doorbell(seat))
	}
	select {
	case p.kick <- struct{}{}:
	default:
	}
	return nil
}

// Wait looks until a host agent has ordered something. It ends with os.ErrClosed
// after Close.
func (p *Poll) Wait() error {
	pause := pollFirst
	t := time.NewTimer(pause)
	defer t.Stop()
	for {
		select {
		case <-p.done:
			return os.ErrClosed
		case <-p.kick:
			pause = pollFirst
		case <-t.C:
			p.wakeups.Add(1)
			changed, err := p.look()
			if changed || err != nil {
				return err
			}
			pause = min(2*pause, pollLast)
		}
		t.Reset(pause)
	}
}

// look reads one word for each host seat: there may be no cache between us and
// the memory.
func (p *Poll) look() (changed bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false, os.ErrClosed
	}
	now := p.rings()
	changed, p.seen = now != p.seen, now
	return changed, nil
}

// Wakeups is how often Wait has looked.
func (p *Poll) Wakeups() uint64 { return p.wakeups.Load() }

// Gone is nil: the device goes on when its server has gone, and does not tell.
func (p *Poll) Gone() <-chan struct{} { return nil }

// Close gives the mappings up and ends Wait.
//
// Preconditions: nobody uses Memory any more.
func (p *Poll) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return os.ErrClosed
	}
	p.closed = true
	close(p.done)
	return p.unmap()
}

func (p *Poll) unmap() error { return errors.Join(unmap(&p.registers), unmap(&p.memory)) }

// unmap gives a mapping up, once.
func unmap(b *[]byte) error {
	if *b == nil {
		return nil
	}
	err := unix.Munmap(*b)
	*b = nil
	return err
}
