//go:build e2e

package failover

import (
	"sync"
	"time"

	"guardring/e2e/impostor"
	"guardring/shmproto"
)

// watch reads what the coordinators write into each gateway's region, all the time.
type watch struct {
	history *history
	regions []*region
	done    chan struct{}
	ended   sync.WaitGroup

	mu    sync.Mutex
	beats []beat
}

// region is what is seen of one gateway's region.
type region struct {
	number        int
	witness       *impostor.Witness
	leases        [shmproto.HostSeats]shmproto.Lease
	fence, orders reader
	highest       shmproto.Term // of a lease
	issued        []issued
	lost          uint64 // records that were overwritten before they were read
}

// issued is an order that a coordinator wrote. late: after a lease of a newer term was visible.
type issued struct {
	impostor.Issued
	late bool
}

// beat is a lease as it was first seen.
type beat struct {
	seat int
	shmproto.Lease
	at time.Time
}

// watching is how often it looks.
const watching = time.Millisecond

func newWatch(h *history, players []*player) *watch {
	w := &watch{history: h, done: make(chan struct{})}
	for _, p := range players {
		w.regions = append(w.regions, &region{
			number: p.number, witness: p.seat.Witness(), fence: reader{history: h, id: gateways}, orders: reader{history: h, id: gateways},
		})
	}
	w.ended.Go(func() {
		for tick := time.Tick(watching); ; <-tick {
			w.look()
			select {
			case <-w.done:
				return
			default:
			}
		}
	})
	return w
}

// end waits until it does not look any more. Only then what it has seen may be read.
func (w *watch) end() {
	close(w.done)
	w.ended.Wait()
	for _, r := range w.regions {
		r.fence.end()
		r.orders.end()
	}
}

func (w *watch) look() {
	for i, r := range w.regions {
		before := r.highest
		call := w.history.now()
		whole := true
		for seat := range r.leases {
			l, ok := r.witness.Lease(seat)
			if !ok {
				whole = whole && r.leases[seat] == shmproto.Lease{} // nobody has been there yet
				continue
			}
			if i == 0 && l != r.leases[seat] {
				w.mu.Lock()
				w.beats = append(w.beats, beat{seat, l, time.Now()})
				w.mu.Unlock()
			}
			r.leases[seat] = l
		}
		if highest := max(r.leases[0].Term, r.leases[1].Term); whole && highest > 0 {
			r.highest = max(r.highest, highest)
			r.fence.look(seen{r.number, lease, uint64(highest), 0}, call)
		}
		for seat := range r.leases {
			all, lost := r.witness.Issued(seat)
			r.lost += lost
			for _, o := range all {
				r.issued = append(r.issued, issued{o, o.Term < before})
			}
		}
		call = w.history.now()
		if o, err := r.witness.Order(); err == nil {
			r.orders.look(seen{r.number, order, uint64(o.Term), uint64(o.Seq)}, call)
		}
	}
}

// seen returns the leases that were seen up to now.
func (w *watch) seen() []beat {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.beats[:len(w.beats):len(w.beats)]
}
