package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"guardring/guest-agent/device"
	"guardring/shmproto"
)

// lockRetry is how soon a lock that somebody else holds is tried again.
const lockRetry = 2 * time.Millisecond

// shore is the region: where the members' publications are shown and their
// orders read. It belongs to the loop's goroutine, but for dial.
type shore struct {
	loop   *loop
	dev    *mooring
	region *shmproto.Region
	guest  *shmproto.Guest
	rung   chan struct{} // nil until there is a device
	err    error         // why there is no region, or why its server is away
	away   bool          // the server has gone; the memory goes on
	tried  bool          // Dial has ended once
	choice device.Choice // the way that was taken, or tried last

	retryAt time.Time // when to try the lock again
	blocker shmproto.Blocker
	blocked time.Time // since when the same one blocks us
}

// mooring is a device with its two goroutines.
type mooring struct {
	Device
	bell chan struct{} // a token: ring
}

func moor(d Device, rung chan<- struct{}) *mooring {
	m := &mooring{Device: d, bell: make(chan struct{}, 1)}
	go func() {
		for d.Wait() == nil {
			select {
			case rung <- struct{}{}:
			default:
			}
		}
	}()
	go func() {
		for range m.bell {
			_ = d.Ring() // a hint: whoever misses it looks at its next slow tick
		}
	}()
	return m
}

// close gives the device up, and ends both goroutines, which use no memory of it. It
// does not wait for them: a peer that misuses a shared doorbell can block Ring.
func (m *mooring) close() {
	close(m.bell)
	_ = m.Device.Close()
}

// dial takes the guest seat, again and again, until ctx ends.
func (s *shore) dial(ctx context.Context, post func(func()) bool) {
	cfg := s.loop.cfg
	wait := backoff{least: cfg.BackoffMin, most: cfg.BackoffMax}
	for ctx.Err() == nil {
		dev, choice, err := cfg.Dial()
		var region *shmproto.Region
		if err == nil {
			if region, err = shmproto.Open(dev.Memory()); err != nil {
				_ = dev.Close()
			}
		}
		if err != nil {
			post(func() { s.failed(choice, err) })
			sleep(ctx, wait.next())
			continue
		}
		taken := time.Now()
		if !post(func() { s.attach(dev, choice, region) }) {
			_ = dev.Close()
			return
		}
		select {
		case <-dev.Gone():
			if time.Since(taken) > cfg.BackoffMax {
				wait.reset()
			}
			post(func() {
				s.away, s.err = true, errServerGone
				cfg.Log.Warn("the region's server is away", "region", s.name())
			})
			sleep(ctx, wait.next())
		case <-ctx.Done():
			return
		}
	}
}

// errServerGone: the host's server has stopped. It is no disaster, QEMU goes on too.
var errServerGone = errors.New("the region's server has closed the connection; memory and doorbells go on")

// name says what the region is reached by.
func (s *shore) name() string { return cmp.Or(s.choice.Address, s.loop.cfg.Region) }

func (s *shore) failed(choice device.Choice, err error) {
	if s.guest == nil { // else the one that we have goes on
		s.choice = choice
	}
	if s.err == nil || s.err.Error() != err.Error() {
		s.loop.cfg.Log.Warn("no region yet", "region", s.name(), "error", err)
	}
	s.err, s.tried = err, true
}

// attach goes over to a new device. The members' publications are shown anew.
func (s *shore) attach(d Device, choice device.Choice, r *shmproto.Region) {
	if s.rung == nil {
		s.rung = make(chan struct{}, 1)
	}
	if s.dev != nil {
		s.dev.close()
	}
	s.dev, s.region, s.err, s.away, s.tried, s.choice = moor(d, s.rung), r, nil, false, true, choice
	s.guest = r.Guest(s.loop.cfg.Writer, s.loop.cfg.Incarnation)
	s.blocked = time.Time{}
	s.loop.host = hostWatch{}
	h := r.Header()
	s.loop.cfg.Log.Info("guest seat taken", "gateway", h.Gateway, "attachment", h.Attachment, "device", choice.Kind, "address", choice.Address, "because", choice.Reason)
	for _, m := range s.loop.members {
		m.slot = -1
		if m.pending == nil {
			m.pending = m.shown
		}
		m.shown = nil
	}
	now := time.Now()
	s.loop.host.look(s.loop, now)
	s.flush(now)
	s.readOrders(now)
}

func (s *shore) close() {
	if s.dev != nil {
		s.dev.close()
		s.dev = nil
	}
}

// possible reports whether the region is there, or may still come.
func (s *shore) possible() bool { return s.guest != nil || !s.tried }

// flush shows what is pending, under the lock. It never waits: if somebody
// else holds the lock, it asks to be called again, and passes them over when
// they have stalled too long by our clock.
func (s *shore) flush(now time.Time) {
	s.retryAt = time.Time{}
	if s.guest == nil || !s.wanted() {
		return
	}
	lock := s.guest.Lock()
	held, by := lock.TryAcquire()
	if !held {
		switch {
		case by != s.blocker || s.blocked.IsZero():
			s.blocker, s.blocked = by, now
		case now.Sub(s.blocked) >= s.loop.cfg.LockPatience:
			s.loop.cfg.Log.Warn("another agent has stalled with the region's lock and is passed over", "writer", by.Slot)
			lock.Revoke(by)
			s.blocked = time.Time{}
		}
		s.retryAt = now.Add(lockRetry)
		return
	}
	s.blocked = time.Time{}
	rung, joined := false, false
	for _, m := range s.loop.members {
		if m.pending == nil {
			continue
		}
		joined = joined || m.slot < 0
		err := s.show(m)
		switch {
		case errors.Is(err, shmproto.ErrFenced), errors.Is(err, shmproto.ErrLocked), errors.Is(err, shmproto.ErrTorn):
			s.retryAt = now.Add(lockRetry)
		case err != nil:
			if m.fault == nil || m.fault.Error() != err.Error() {
				s.loop.cfg.Log.Error("publication cannot be shown", "member", m.tor.Name, "error", err)
			}
			m.fault, m.pending = err, nil
		default:
			rung = true
			m.published(time.Now())
		}
	}
	lock.Release()
	if rung {
		s.ring()
	}
	if joined {
		s.readOrders(now) // one may stand there from before our start, and nobody rings again
	}
}

func (s *shore) wanted() bool {
	for _, m := range s.loop.members {
		if m.pending != nil {
			return true
		}
	}
	return false
}

func (s *shore) ring() {
	select {
	case s.dev.bell <- struct{}{}:
	default:
	}
}

// show publishes what m has pending. The lock is held.
func (s *shore) show(m *member) error {
	joined := false
	if m.slot < 0 {
		slot, err := s.findSlot(m.tor.Name)
		if err != nil {
			return err
		}
		m.slot, joined = slot, true
	}
	p := m.pending
	if err := s.guest.Publish(m.slot, p); err != nil {
		return err
	}
	entries := []shmproto.Journal{{Kind: shmproto.JournalPublished, Args: [3]uint64{uint64(p.Seq), uint64(p.Attachment)}}}
	if joined {
		entries = append(entries, shmproto.Journal{Kind: shmproto.JournalJoined})
	}
	if r := p.Receipt; r.Status != shmproto.ReceiptNone && (m.shown == nil || m.shown.Receipt != r) {
		entries = append(entries, shmproto.Journal{Kind: shmproto.JournalReceipt, Args: [3]uint64{uint64(r.Term), uint64(r.Seq), uint64(r.Status) | uint64(r.Reason)<<8}})
	}
	if p.State == shmproto.MemberLeft {
		entries = append(entries, shmproto.Journal{Kind: shmproto.JournalLeft})
	}
	for _, j := range entries {
		j.Slot = uint8(m.slot)
		if err := s.guest.Append(j); err != nil {
			return err
		}
	}
	return nil
}

// findSlot returns the member's slot: its own of before, else the best that may
// be taken. Free slots come first, then those of members that have left, then
// those of an attachment that is over (whoever of them comes back finds another),
// then what nobody can read. A slot of one of our own members is not taken, also
// while that one has nothing to show. The lock is held.
func (s *shore) findSlot(name string) (int, error) {
	const ranks = 4
	best := [ranks]int{-1, -1, -1, -1}
	for slot := range shmproto.MaxMembers {
		owner, err := s.guest.SlotOwner(slot)
		var violation *shmproto.ViolationError
		rank := -1
		switch {
		case err != nil && !errors.As(err, &violation):
			return -1, err
		case err == nil && owner.Member == name:
			return slot, nil
		case s.taken(slot, owner.Member):
		case err != nil:
			rank = 3
		case owner.Member == "":
			rank = 0
		case owner.Left:
			rank = 1
		case owner.Past:
			rank = 2
		}
		if rank >= 0 && best[rank] < 0 {
			best[rank] = slot
		}
	}
	for _, slot := range best {
		if slot >= 0 {
			return slot, nil
		}
	}
	return -1, fmt.Errorf("all %d member slots of this gateway are taken: let a Tor that is gone leave, or restart the gateway's region", shmproto.MaxMembers)
}

// taken reports whether a slot, whose owner has a name, is one of our own members'.
func (s *shore) taken(slot int, owner string) bool {
	for _, m := range s.loop.members {
		if m.slot == slot || owner != "" && m.tor.Name == owner {
			return true
		}
	}
	return false
}

// check looks whether our records still stand, and shows again those that do not.
func (s *shore) check(now time.Time) {
	if s.guest == nil {
		return
	}
	for _, m := range s.loop.members {
		if m.slot < 0 || m.pending != nil || m.shown == nil {
			continue
		}
		err := s.guest.Verify(m.slot)
		if err == nil {
			continue
		}
		if owner, ownerErr := s.guest.SlotOwner(m.slot); ownerErr == nil && owner.Member != m.tor.Name {
			m.slot = -1 // somebody else's now
		}
		s.loop.cfg.Log.Warn("our publication does not stand any more and is shown again", "member", m.tor.Name, "error", err)
		m.pending, m.cause = m.shown, now
	}
}

// readOrders gives each member the order that stands for it, if it is a new one.
func (s *shore) readOrders(now time.Time) {
	if s.guest == nil {
		return
	}
	for _, m := range s.loop.members {
		if m.slot < 0 {
			continue
		}
		err := s.guest.ReadOrder(m.slot, m.tor.Name, &m.scratch)
		if errors.Is(err, shmproto.ErrEmpty) {
			m.orderErr = nil
			continue
		}
		if m.orderErr = err; err != nil {
			continue
		}
		if !m.hasOrder || m.scratch.Compare(&m.order) > 0 {
			m.orderSeen(&m.scratch, now)
		}
	}
}
