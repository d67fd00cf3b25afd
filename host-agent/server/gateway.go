package server

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"guardring/host-agent/rundir"
	"guardring/shmproto"
	"guardring/shmproto/ivshmem"
)

// gateway serves one region: its sockets and seats. The lease board is one too,
// without guest seat.
//
// Goroutines: one per listening socket, one that rings the host seats, and two
// per taken seat (its connection, its process). So clients cannot make them
// grow.
type gateway struct {
	name        string
	log         *slog.Logger
	store       *store
	region      *region
	guest, host *listener // guest is nil for the lease board
	changed     chan struct{}
	cancel      context.CancelFunc
	ctx         context.Context // ends when seats are given up
	deafen      context.CancelFunc
	listening   context.Context // ends before, with the sockets
	sockets     sync.WaitGroup  // the sockets' goroutines, which give seats to who was accepted
	work        sync.WaitGroup  // those of seats; not the ringing goroutine, which a hostile peer can block
	closing     chan struct{}
	socketPace  func() *rate.Limiter
	lines       *commandLines

	mu    sync.Mutex
	cfg   Gateway
	seats []*seat
	tally tally
}

// seat is one peer ID of the region.
type seat struct {
	id     ivshmem.PeerID
	holder *holder // nil: free
}

// holder is the process that has a seat. It keeps it until its connection is
// closed and it has ended, in whichever order.
type holder struct {
	process  *process
	uid, gid uint32
	since    time.Time
	link     *link  // nil: the connection is lost, the process has the region still
	stored   string // the process's name in the store, "" if it is not there
}

// What happens to the store's copies when a gateway is closed.
type fate int

const (
	keepStored fate = iota // the next server goes on with them
	dropStored             // nobody will
)

// newGateway makes or takes over a region, recovers its seats, and serves it.
// It owns the descriptors in found.
func newGateway(cfg *Config, gw Gateway, found map[string][]int, s *store, log *slog.Logger) (*gateway, error) {
	g := &gateway{
		name:    gw.Name,
		cfg:     gw,
		log:     log.With("gateway", gw.Name),
		store:   s,
		changed: make(chan struct{}, 1),
		closing: make(chan struct{}),
		tally:   make(tally),
		lines:   newCommandLines(),
		socketPace: func() *rate.Limiter {
			return rate.NewLimiter(rate.Limit(cfg.AcceptRate), cfg.AcceptBurst)
		},
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.listening, g.deafen = context.WithCancel(g.ctx)
	for p := range regionSeats(gw.Name) {
		g.seats = append(g.seats, &seat{id: ivshmem.PeerID(p)})
	}
	sockets := split(found, "socket/")
	if err := g.obtainRegion(found); err != nil {
		closeAll(sockets)
		g.cancel()
		return nil, err
	}
	if err := g.listen(cfg.RunDir, sockets); err != nil {
		closeAll(sockets)
		g.close(keepStored)
		return nil, err
	}
	g.start()
	return g, nil
}

// listen opens the sockets, or takes them over from the store.
func (g *gateway) listen(run string, found map[string][]int) (err error) {
	if g.name != rundir.Board {
		if g.guest, err = g.openSocket(partGuestSocket, rundir.Dir(run).GuestSocket(g.name), g.cfg, found); err != nil {
			return err
		}
	}
	g.host, err = g.openSocket(partHostSocket, rundir.Dir(run).HostSocket(g.name), Gateway{UID: KeepID, GID: KeepID, Mode: 0o600}, found)
	return err
}

// start starts the goroutines of recovered seats and sockets.
func (g *gateway) start() {
	for _, s := range g.seats { // first: the sockets' goroutines change seats
		if h := s.holder; h != nil {
			g.watchProcess(s, h)
			if h.link != nil {
				g.resume(s, h)
			}
		}
	}
	go g.ring()
	if g.guest != nil {
		g.sockets.Go(func() {
			g.guest.serve(g.listening, g.socketPace(), g.log, func(fd int) { g.admit(fd, guestSide) })
		})
	}
	g.sockets.Go(func() {
		g.host.serve(g.listening, g.socketPace(), g.log, func(fd int) { g.admit(fd, hostSide) })
	})
}

// tell has the host seats rung: the guest seat was taken or is free.
func (g *gateway) tell() {
	select {
	case g.changed <- struct{}{}:
	default: // the ringing goroutine has it to do already
	}
}

// ring does what tell asks for. A hostile QEMU can block it (package eventfd);
// then only this gateway's hosts are told nothing.
func (g *gateway) ring() {
	for {
		select {
		case <-g.closing:
			return
		case <-g.changed:
			for p := range shmproto.HostSeats {
				_ = g.region.doorbells[p][shmproto.VectorChanged].Ring()
			}
		}
	}
}

// reconfigure takes over new rules; they hold for the next connection.
func (g *gateway) reconfigure(gw Gateway) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.name == rundir.Board || g.cfg.equal(gw) {
		return nil
	}
	if err := setOwner(g.guest.path, gw.UID, gw.GID, gw.Mode); err != nil {
		return fmt.Errorf("socket %s: %w", g.guest.path, err)
	}
	g.cfg = gw
	g.log.Info("gateway changed")
	return nil
}

// stopListening closes the sockets. Who was accepted is given its seat all the same.
// It may be called again.
func (g *gateway) stopListening(f fate) {
	if g.listening.Err() != nil {
		return
	}
	g.deafen()
	for _, l := range []*listener{g.guest, g.host} {
		switch {
		case l == nil:
		case f == keepStored && l.stored != "":
			l.close() // who connects now is answered by the next server
		default:
			l.remove()
		}
	}
}

// close gives up sockets, connections and our part of the region. Clients go on
// with the memory and doorbells that they have.
func (g *gateway) close(f fate) {
	g.stopListening(f)
	g.sockets.Wait() // no other server knows of who was accepted
	g.cancel()
	close(g.closing)
	var names []string
	for _, l := range []*listener{g.guest, g.host} {
		if l != nil {
			names = append(names, l.stored)
		}
	}
	g.mu.Lock()
	for _, s := range g.seats {
		if h := s.holder; h != nil {
			names = append(names, h.stored)
			if h.link != nil {
				names = append(names, h.link.stored)
				if f == dropStored {
					h.link.hangUp()
				}
				h.link.close()
			}
			h.process.close()
		}
	}
	g.mu.Unlock()
	g.work.Wait()
	g.mu.Lock()
	g.region.close() // under mu: status reads it
	g.mu.Unlock()
	if f == dropStored {
		for _, part := range parts(g.name) {
			names = append(names, storeName(g.name, part))
		}
		if err := g.store.remove(names...); err != nil {
			g.log.Warn("descriptor store", "error", err)
		}
	}
}

// The kinds of events in every gateway's life. What is not named here is trouble.
const (
	eventSeatTaken      = "seat taken"
	eventSeatTakenAgain = "seat taken again by its holder"
	eventSeatFree       = "seat free"
	eventDisconnected   = "disconnected: " // and why
)

// event counts something that a client caused, and logs it at the tally's
// limit. The caller holds mu.
func (g *gateway) event(kind string, attrs ...any) {
	if n := g.tally.add(kind, time.Now()); n > 0 {
		g.log.Info(kind, append(attrs, "times", n)...)
	}
}

// summarise logs what the tally held back.
func (g *gateway) summarise(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tally.overdue(now, func(kind string, n uint64) { g.log.Info(kind, "times", n) })
}
