package runner

import (
	"time"

	"guardring/shmproto"
)

// hostWatch notices when no host agent acts any more. It is looked at with the
// slow tick, so an absence is said after two ticks at most.
type hostWatch struct {
	leases [shmproto.HostSeats]shmproto.Lease
	known  [shmproto.HostSeats]bool
	beat   time.Time // when a heartbeat of an acting seat was last seen to change
	since  time.Time // when we began to look; zero: not yet
	told   bool
	acting int // seat + 1; 0: none
}

func (h *hostWatch) look(l *loop, now time.Time) {
	if l.shore.guest == nil {
		return
	}
	first := h.since.IsZero()
	if first {
		h.since = now
	}
	h.acting = 0
	for seat := range shmproto.HostSeats {
		lease, err := l.shore.guest.ReadLease(seat)
		if err != nil {
			continue // empty or torn: the last one stays
		}
		// What is there at the first look proves nothing: it may be a dead one's.
		changed := !h.known[seat] || lease.Heartbeat != h.leases[seat].Heartbeat
		if !first && changed && lease.Acting {
			h.beat = now
		}
		h.leases[seat], h.known[seat] = lease, true
		if lease.Acting && (h.acting == 0 || newer(lease, h.leases[h.acting-1])) {
			h.acting = seat + 1
		}
	}
	gone := h.absent(now, l.cfg.SlowTick)
	if gone != h.told {
		if gone {
			l.cfg.Log.Warn("no host agent acts: duplicates are not resolved until it is back; exclusions stay", "seconds", int(now.Sub(h.lastSign()).Seconds()))
		} else {
			l.cfg.Log.Info("a host agent acts", "seat", h.acting-1, "term", h.leases[max(0, h.acting-1)].Term)
		}
		h.told = gone
	}
}

func (h *hostWatch) lastSign() time.Time {
	if h.beat.After(h.since) {
		return h.beat
	}
	return h.since
}

// absent reports whether two looks a slow tick apart found no heartbeat between
// them. Heartbeats come every second or so.
func (h *hostWatch) absent(now time.Time, tick time.Duration) bool {
	return !h.since.IsZero() && now.Sub(h.lastSign()) >= tick*9/10
}

func newer(a, b shmproto.Lease) bool {
	if c := a.Epoch.Compare(b.Epoch); c != 0 {
		return c > 0
	}
	return a.Term > b.Term
}
