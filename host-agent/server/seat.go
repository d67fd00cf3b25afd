package server

import (
	"crypto/rand"
	"fmt"

	"golang.org/x/sys/unix"

	"guardring/shmproto"
)

// watchLink waits for the end of a connection.
func (g *gateway) watchLink(s *seat, h *holder, l *link) {
	g.work.Go(func() {
		if why := l.wait(); why != endOurs {
			g.lost(s, h, l, why)
		}
	})
}

// watchProcess waits for the end of a holder's process.
func (g *gateway) watchProcess(s *seat, h *holder) {
	g.work.Go(func() {
		if h.process.wait() != nil {
			return // closed by us
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		if s.holder == h {
			g.settle(s)
		}
	})
}

// lost notes that a connection has ended.
func (g *gateway) lost(s *seat, h *holder, l *link, why end) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.drop(s, h, l, why)
	if s.holder == h {
		g.settle(s)
	}
}

// drop closes a connection, unless that has happened. The caller holds mu.
func (g *gateway) drop(s *seat, h *holder, l *link, why end) {
	if h.link != l || g.ctx.Err() != nil {
		return
	}
	h.link = nil
	l.hangUp()
	g.unstore(l.stored)
	g.event(eventDisconnected+string(why), "seat", s.id, "pid", h.process.pid, "uid", h.uid)
}

// settle frees the seat if its holder is gone: connection closed and process
// ended. It asks socket and pidfd, so it is right also before their goroutines
// have run. The caller holds mu.
func (g *gateway) settle(s *seat) {
	h := s.holder
	if h == nil {
		return
	}
	if h.link != nil {
		if why, ended := h.link.ended(); ended {
			g.drop(s, h, h.link, why)
		}
	}
	if h.link != nil || !h.process.ended() || g.ctx.Err() != nil {
		return
	}
	s.holder = nil
	h.process.close()
	g.unstore(h.stored)
	g.event(eventSeatFree, "seat", s.id, "pid", h.process.pid)
	if s.id == shmproto.GuestSeat {
		g.show(g.region.leave())
	}
}

// show rings the hosts after the header's word on the guest seat was written.
func (g *gateway) show(err error) {
	if err != nil {
		g.log.Error("the guest seat's state is not shown: a gateway that is switched off looks present", "error", err)
		return
	}
	g.tell()
}

// storeHolder puts a holder's connection and process into the store, so that the
// next server knows who has the seat. The store gets duplicates, so that nobody who
// closes one waits for the service manager, which can hang.
func (g *gateway) storeHolder(s *seat, h *holder, l *link, fresh bool) {
	if g.store == nil {
		return
	}
	serial := rand.Text()
	name := func(what string) string {
		return storeName(g.name, fmt.Sprintf("seat/%d/%s/%s", s.id, what, serial))
	}
	connection, process := Descriptor{name("connection"), l.duplicate()}, Descriptor{name("process"), -1}
	if fresh {
		process.FD = h.process.duplicate()
	}
	var all []Descriptor
	g.mu.Lock()
	if connection.FD >= 0 {
		l.stored = connection.Name
		all = append(all, connection)
	}
	if process.FD >= 0 {
		h.stored = process.Name
		all = append(all, process)
	}
	g.mu.Unlock()
	g.stored(g.store.put(all...))
	for _, d := range all {
		_ = unix.Close(d.FD)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	// What has ended meanwhile was taken out before it was in.
	if h.link != l {
		g.unstore(connection.Name)
	}
	if s.holder != h && fresh {
		g.unstore(process.Name)
	}
}

// stored counts and logs what the store did not take.
func (g *gateway) stored(err error) {
	if err == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.event("descriptors not stored: after a restart of this server the seat may be given on too early", "error", err)
}

// unstore takes a name out of the store. The caller holds mu; the store's names
// are unique, so nobody waits for it to be done.
func (g *gateway) unstore(name string) {
	if g.store == nil || name == "" {
		return
	}
	if err := g.store.remove(name); err != nil {
		g.event("descriptors not removed from the store", "error", err)
	}
}
