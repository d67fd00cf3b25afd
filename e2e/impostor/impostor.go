// Package impostor is a hostile guest: it takes a gateway's guest seat, as QEMU or an honest agent does, and publishes whatever a test
// wants, without any Tor. It uses the protocol's own library, because a lie that is not well-formed is never believed anyway.
//
// Trust: it is the untrusted side. What it publishes is the test's invention; it never reads a guard of anybody.
package impostor

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"guardring/internal/eventfd"
	"guardring/internal/guardstate"
	"guardring/shmproto"
	"guardring/shmproto/ivshmem"
)

// Guard is what the impostor says of one guard of its made-up sample.
type Guard struct {
	// Fingerprint is the relay's, 40 hex digits.
	Fingerprint string
	// Addr is its ORPort as address:port.
	Addr string
	// FamilyIDs are family keys as torrc's FamilyId names them.
	FamilyIDs []string
	// Family is its declared list: fingerprints.
	Family []string
	// Primary and InUse claim it.
	Primary, InUse bool
	// Excluded says that an order is obeyed.
	Excluded bool
}

// Impostor holds a guest seat.
type Impostor struct {
	ring   func(peer ivshmem.PeerID, v ivshmem.Vector) error
	close  func() error
	bell   *eventfd.Eventfd // ours; nil for one that was made by Over
	region *shmproto.Region
	guest  *shmproto.Guest
	seq    shmproto.Seq
}

// takeTime bounds the handshake, and the wait for the lock.
const takeTime = 5 * time.Second

// Take takes the guest seat at a gateway's socket.
func Take(socket string) (*Impostor, error) {
	c, err := ivshmem.Dial(socket, shmproto.Vectors, takeTime)
	if err != nil {
		return nil, err
	}
	i, err := Over(c.Memory, c.Ring)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	i.close, i.bell = c.Close, c.Interrupt(shmproto.VectorChanged)
	return i, nil
}

// Over works on a region that is mapped already, by a PCI device for instance, and has the doorbells rung by ring.
func Over(memory []byte, ring func(ivshmem.PeerID, ivshmem.Vector) error) (*Impostor, error) {
	region, err := shmproto.Open(memory)
	if err != nil {
		return nil, err
	}
	i := &Impostor{ring: ring, close: func() error { return nil }, region: region}
	i.Restart()
	return i, nil
}

// Restart makes it another incarnation of its agent, and returns which.
func (i *Impostor) Restart() shmproto.Incarnation {
	now := shmproto.Incarnation(time.Now().UnixNano())
	i.guest, i.seq = i.region.Guest(0, now), 0
	return now
}

// Publish shows a member "default" with this sample, in this order, and rings the host.
func (i *Impostor) Publish(sample ...Guard) error {
	p, err := Compose(sample...)
	if err != nil {
		return err
	}
	return i.Show(p)
}

// Compose makes a publication of a member "default" with this sample, in this order.
func Compose(sample ...Guard) (*shmproto.Publication, error) {
	p := &shmproto.Publication{Member: "default", State: shmproto.MemberPresent, Selection: shmproto.SelectionDefault,
		NumPrimary: 3, PassPercent: 100, TorVersion: "0.4.9.11"}
	for _, s := range sample {
		g, err := s.guard()
		if err != nil {
			return nil, fmt.Errorf("guard %.8s: %w", s.Fingerprint, err)
		}
		p.Guards = append(p.Guards, g)
	}
	return p, nil
}

// Show shows a publication with the next sequence number, and rings the host.
func (i *Impostor) Show(p *shmproto.Publication) error { return i.ShowIn(0, p) }

// ShowIn is Show in another member's slot.
func (i *Impostor) ShowIn(slot int, p *shmproto.Publication) error {
	i.seq++
	p.Seq = i.seq
	lock := i.guest.Lock()
	if held, by := lock.TryAcquire(); !held {
		return fmt.Errorf("the region's lock is held by writer %d", by.Slot)
	}
	defer lock.Release()
	if err := i.guest.Publish(slot, p); err != nil {
		return err
	}
	var errs []error
	for seat := range ivshmem.PeerID(shmproto.HostSeats) {
		errs = append(errs, i.ring(seat, shmproto.VectorChanged))
	}
	return errors.Join(errs...)
}

// Leave shows that the member "default" has left, as `guardring-guest leave` does.
func (i *Impostor) Leave() error {
	p, err := Compose()
	if err != nil {
		return err
	}
	p.State = shmproto.MemberLeft
	return i.Show(p)
}

// Ordered is the sequence number of the order that is shown to the member "default"; 0 for none.
func (i *Impostor) Ordered() uint64 {
	var o shmproto.Order
	if i.guest.ReadOrder(0, "default", &o) != nil {
		return 0
	}
	return uint64(o.Seq)
}

// Order is the order that stands for the member "default", as an honest agent reads it.
func (i *Impostor) Order() (shmproto.Order, error) {
	var o shmproto.Order
	err := i.guest.ReadOrder(0, "default", &o)
	return o, err
}

// AwaitDoorbell waits until the host rings, or for that long.
func (i *Impostor) AwaitDoorbell(within time.Duration) error {
	if err := i.bell.SetDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	if _, err := i.bell.Wait(); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return nil
}

// AwaitOrder waits, as an honest agent does, until an order after that sequence number is visible to the member "default".
func (i *Impostor) AwaitOrder(after uint64, within time.Duration) (shmproto.Order, error) {
	var o shmproto.Order
	if err := i.bell.SetDeadline(time.Now().Add(within)); err != nil {
		return o, err
	}
	for {
		if i.guest.ReadOrder(0, "default", &o) == nil && uint64(o.Seq) > after {
			return o, nil
		}
		if _, err := i.bell.Wait(); err != nil {
			return o, fmt.Errorf("no order after %d: %w", after, err)
		}
	}
}

// Close gives the seat up.
func (i *Impostor) Close() error { return i.close() }

// guard is the protocol's form.
func (s Guard) guard() (shmproto.Guard, error) {
	g := shmproto.Guard{Flags: shmproto.GuardListed | shmproto.GuardFiltered | shmproto.GuardConfirmed | shmproto.GuardFamilyStated}
	if s.Primary {
		g.Flags |= shmproto.GuardPrimary
	}
	if s.InUse {
		g.Flags |= shmproto.GuardInUse
	}
	if s.Excluded {
		g.Flags |= shmproto.GuardExcluded
	}
	var err error
	if g.Fingerprint, err = guardstate.ParseFingerprint(s.Fingerprint); err != nil {
		return shmproto.Guard{}, err
	}
	addr, err := netip.ParseAddrPort(s.Addr)
	if err != nil {
		return shmproto.Guard{}, err
	}
	g.Addrs = []netip.AddrPort{addr}
	for _, f := range s.Family {
		fp, err := guardstate.ParseFingerprint(f)
		if err != nil {
			return shmproto.Guard{}, err
		}
		g.Family = append(g.Family, fp)
	}
	slices.SortFunc(g.Family, guardstate.Fingerprint.Compare)
	for _, id := range s.FamilyIDs {
		key, err := base64.RawStdEncoding.DecodeString(id)
		if err != nil || len(key) != 32 {
			return shmproto.Guard{}, fmt.Errorf("family key %q: want 32 bytes in base64", id)
		}
		g.FamilyIDs = append(g.FamilyIDs, [32]byte(key))
	}
	slices.SortFunc(g.FamilyIDs, func(a, b [32]byte) int { return slices.Compare(a[:], b[:]) })
	return g, nil
}
