package server

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"guardring/host-agent/rundir"
	"guardring/shmproto"
)

// obtainRegion takes the region over from the store if it is there whole, else
// makes one and stores it. It owns the descriptors in found.
func (g *gateway) obtainRegion(found map[string][]int) error {
	if len(found) > 0 {
		names := slices.Sorted(maps.Keys(found))
		seats := split(found, "seat/")
		r, err := adoptRegion(g.name, found)
		if err == nil {
			g.region = r
			g.recoverSeats(seats)
			if g.name != rundir.Board {
				if g.seats[shmproto.GuestSeat].holder != nil {
					g.show(r.held())
				} else {
					g.show(r.leave())
				}
			}
			g.mend()
			g.log.Info("region taken over", "epoch", r.epochString(), "parts", len(parts(g.name)))
			return nil
		}
		g.log.Warn("stored region is not whole, discarded; guests that run need a restart to be seen again", "error", err)
		closeAll(seats)
		discard(g.store, g.name, names)
	}
	r, err := makeRegion(g.name)
	if err != nil {
		return err
	}
	g.region = r
	if g.store == nil {
		return nil
	}
	descriptors := r.descriptors(g.name)
	for i := range descriptors {
		descriptors[i].Name = storeName(g.name, descriptors[i].Name)
	}
	if err := g.store.put(descriptors...); err != nil {
		g.log.Warn("region not stored; it is lost when this server ends", "error", err)
	}
	return nil
}

// mend restores the region's header before somebody is to read it. The caller
// holds mu, or is alone.
func (g *gateway) mend() {
	switch mended, err := g.region.mend(g.name); {
	case err != nil:
		g.event("the region's header is not this server's, left as it is", "error", err)
	case mended:
		g.event("the region's header was damaged, as a guest can do, and is written anew")
	}
}

// openSocket takes a listening socket over from the store, or makes and stores
// one. It takes the descriptors of part out of found.
func (g *gateway) openSocket(part, path string, cfg Gateway, found map[string][]int) (*listener, error) {
	name := storeName(g.name, part)
	fds := found[part]
	delete(found, part)
	if len(fds) > 0 {
		for _, more := range fds[1:] {
			_ = unix.Close(more)
		}
		l, err := adoptListener(fds[0], path, cfg.UID, cfg.GID, cfg.Mode)
		if err == nil {
			l.stored = name
			return l, nil
		}
		g.log.Warn("stored socket not taken over, made anew", "error", err)
		g.unstore(name)
	}
	l, err := listen(path, cfg.UID, cfg.GID, cfg.Mode)
	if err != nil || g.store == nil {
		return l, err
	}
	if e := l.with(func(fd int) { err = g.store.put(Descriptor{name, fd}) }); e != nil {
		err = e
	}
	if err != nil {
		g.log.Warn("socket not stored; connections are refused while this server restarts", "error", err)
		return l, nil
	}
	l.stored = name
	return l, nil
}

// recoverSeats finds the holders of seats among stored connections and
// processes. It owns the descriptors.
func (g *gateway) recoverSeats(found map[string][]int) {
	for _, s := range g.seats {
		g.recoverSeat(s, found)
	}
	for _, part := range slices.Sorted(maps.Keys(found)) {
		g.log.Warn("stored descriptor names no seat, discarded", "part", part)
		for _, fd := range found[part] {
			_ = unix.Close(fd)
		}
		g.unstore(storeName(g.name, part))
	}
}

// recoverSeat recovers one seat and takes its descriptors out of found.
func (g *gateway) recoverSeat(s *seat, found map[string][]int) {
	h := &holder{since: time.Now(), uid: ^uint32(0), gid: ^uint32(0)}
	var useless []string
	for _, part := range slices.Sorted(maps.Keys(found)) {
		what, ok := strings.CutPrefix(part, fmt.Sprintf("seat/%d/", s.id))
		if !ok {
			continue
		}
		for _, fd := range found[part] {
			var used bool
			switch name := storeName(g.name, part); {
			case strings.HasPrefix(what, "process/"):
				used = h.recoverProcess(fd, name)
			case strings.HasPrefix(what, "connection/"):
				used = h.recoverLink(fd, name)
			default:
				_ = unix.Close(fd)
			}
			if !used {
				useless = append(useless, storeName(g.name, part))
			}
		}
		delete(found, part)
	}
	switch {
	case h.process == nil && h.link == nil:
	case h.process == nil:
		h.process = h.link.owner()
	case h.link == nil:
		h.uid, h.gid = h.process.owner()
	}
	if h.process != nil {
		s.holder = h
		g.log.Info("seat still held", "seat", s.id, "pid", h.process.pid, "connected", h.link != nil)
	}
	_ = g.store.remove(useless...)
}

// recoverProcess takes over a stored pidfd; false if it is of no use: the
// process has ended.
func (h *holder) recoverProcess(fd int, name string) bool {
	p, err := storedProcess(fd)
	if err != nil {
		return false
	}
	if p.ended() || h.process != nil {
		p.close()
		return false
	}
	h.process, h.stored = p, name
	return true
}

// recoverLink takes over a stored connection; false if it has ended.
func (h *holder) recoverLink(fd int, name string) bool {
	unix.CloseOnExec(fd)
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	p, err2 := newPollable(fd, "connection")
	if err2 != nil {
		return false
	}
	l := &link{pollable: p, stored: name}
	if _, ended := l.ended(); ended || err != nil || h.link != nil {
		l.close()
		return false
	}
	h.link, h.uid, h.gid = l, cred.Uid, cred.Gid
	return true
}

// owner returns the process that made the connection: of one that is stored
// without its process. One that cannot be found has ended.
func (l *link) owner() *process {
	p := &process{}
	_ = l.with(func(fd int) {
		cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			return
		}
		if found, err := peerProcess(fd, int(cred.Pid)); err == nil {
			p = found
			return
		}
		p.pid = int(cred.Pid)
	})
	return p
}
