package server

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"guardring/apparmor"
	"guardring/internal/killpoint"
	"guardring/shmproto"
	"guardring/shmproto/ivshmem"
)

// side is which of a gateway's sockets a connection came to.
type side int

const (
	hostSide side = iota
	guestSide
)

func (s side) String() string {
	if s == guestSide {
		return "guest"
	}
	return "host"
}

// endingTime is how long a process that has closed its connection may take to
// end before its successor is refused. A QEMU with much memory needs a moment.
const endingTime = 250 * time.Millisecond

// refusal is why a connection got no seat. The texts are counters' names in the
// status document.
type refusal string

const (
	refusedUser    refusal = "refused: user and group not allowed"
	refusedLabel   refusal = "refused: not confined by the AppArmor profile"
	refusedDomain  refusal = "refused: not the gateway's domain"
	refusedStuck   refusal = "refused: command line hangs"
	refusedTaken   refusal = "refused: seat taken"
	refusedProcess refusal = "refused: process unknown or ended"
)

// told is what the client is told.
func (r refusal) told() ivshmem.Refusal {
	if r == refusedTaken {
		return ivshmem.RefusedTaken
	}
	return ivshmem.RefusedDenied
}

// admit gives the connection fd, which it takes over, a seat and the handshake,
// or closes it. It is called from one goroutine per socket and waits for nobody
// but the service manager's store, for an ending process, and for a command line, with limits.
func (g *gateway) admit(fd int, from side) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	p, err2 := newPollable(fd, "connection")
	if err2 != nil {
		g.log.Error("connection not watched", "error", err2)
		return
	}
	l := &link{pollable: p}
	if err != nil || cred.Pid <= 0 { // 0: in a PID namespace that we do not see
		g.refuse(l, refusedProcess, "side", from, "error", err)
		return
	}
	who := []any{"side", from, "pid", cred.Pid, "uid", cred.Uid, "gid", cred.Gid}
	proc, why, err := g.identify(l, cred, from)
	if err != nil {
		g.refuse(l, why, append(who, "error", err)...)
		return
	}
	s, h, fresh := g.take(from, proc, l, cred)
	if s == nil {
		g.mu.Lock()
		who = append(who, "holders", g.holders(from))
		g.mu.Unlock()
		g.refuse(l, refusedTaken, append(who, "hint", "a seat is free when its holder's process has ended")...)
		proc.close()
		return
	}
	if !fresh {
		proc.close()
	}
	g.seat(s, h, l, fresh, who)
}

// refuse tells the client, closes the connection and counts.
func (g *gateway) refuse(l *link, why refusal, attrs ...any) {
	g.mu.Lock()
	g.event(string(why), attrs...) // first: who was told finds it counted
	g.mu.Unlock()
	_ = l.with(func(fd int) { _ = ivshmem.Refuse(fd, why.told()) })
	l.close()
}

// identify finds out whose connection it is and whether that process may take
// a seat at all.
func (g *gateway) identify(l *link, cred *unix.Ucred, from side) (*process, refusal, error) {
	g.mu.Lock()
	cfg := g.cfg
	g.mu.Unlock()
	if !allowed(cfg, cred.Uid, cred.Gid, from) {
		return nil, refusedUser, fmt.Errorf("user %d, group %d", cred.Uid, cred.Gid)
	}
	var proc *process
	var err error
	if e := l.with(func(fd int) { proc, err = peerProcess(fd, int(cred.Pid)) }); e != nil {
		err = e
	}
	if err != nil {
		return nil, refusedProcess, err
	}
	if from == guestSide {
		if why, err := proc.check(g.ctx, cfg, g.lines); err != nil {
			proc.close()
			return nil, why, err
		}
	}
	return proc, "", nil
}

// check applies the configuration's rules on label and domain.
func (p *process) check(ctx context.Context, cfg Gateway, lines *commandLines) (refusal, error) {
	if cfg.Label != "" {
		label, err := apparmor.LabelOf("", p.pid)
		if err == nil && !enforced(label, cfg.Label) {
			err = fmt.Errorf("confined by %q, mode %q; want %q, mode \"enforce\"", label.Profile, label.Mode, cfg.Label)
		}
		if err != nil {
			return refusedLabel, err
		}
	}
	if cfg.Domain != "" {
		if why, err := p.checkDomain(ctx, cfg.Domain, lines); err != nil {
			return why, err
		}
	}
	if (cfg.Label != "" || cfg.Domain != "") && p.ended() {
		return refusedProcess, fmt.Errorf("process %d has ended", p.pid)
	}
	return "", nil
}

// enforced reports whether a label is this profile's and counts: in another mode than
// enforce the kernel denies nothing, and a process that was taken over is as free as
// without a profile.
func enforced(label apparmor.Label, profile string) bool {
	return label.Mode == "enforce" && label.Profile == profile
}

// allowed applies the configuration's rule on users and groups.
func allowed(cfg Gateway, uid, gid uint32, from side) bool {
	own := uid == 0 || uid == uint32(os.Geteuid())
	switch {
	case from == hostSide:
		return own
	case len(cfg.AllowUIDs) == 0 && len(cfg.AllowGIDs) == 0:
		return own || cfg.UID != KeepID && uid == uint32(cfg.UID) || cfg.GID != KeepID && gid == uint32(cfg.GID)
	}
	return slices.Contains(cfg.AllowUIDs, uid) || slices.Contains(cfg.AllowGIDs, gid)
}

// eligible are the seats that a socket gives out.
func (g *gateway) eligible(from side) []*seat {
	if from == guestSide {
		return g.seats[shmproto.GuestSeat : shmproto.GuestSeat+1]
	}
	return g.seats[:shmproto.HostSeats]
}

// take finds a seat for the process and makes it the holder; nil if there is
// none. fresh tells a new holder from one that is back with a new connection.
func (g *gateway) take(from side, proc *process, l *link, cred *unix.Ucred) (s *seat, h *holder, fresh bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s, fresh = g.choose(from, proc)
	if s == nil {
		if ending := g.ending(from); ending != nil {
			g.mu.Unlock()
			ending.waitFor(g.ctx, endingTime)
			g.mu.Lock()
			s, fresh = g.choose(from, proc)
		}
	}
	if s == nil || g.ctx.Err() != nil {
		return nil, nil, false
	}
	if fresh {
		s.holder = &holder{process: proc, uid: cred.Uid, gid: cred.Gid, since: time.Now()}
	}
	s.holder.link = l
	return s, s.holder, fresh
}

// choose looks for the process's own seat, then for a free one. What sockets
// and pidfds say by now counts, not only what their goroutines have seen.
func (g *gateway) choose(from side, proc *process) (s *seat, fresh bool) {
	seats := g.eligible(from)
	for _, s := range seats {
		g.settle(s)
	}
	for _, s := range seats {
		// The same number is the same process as long as the handle says that
		// the holder lives.
		if h := s.holder; h != nil && h.link == nil && h.process.pid == proc.pid && !h.process.ended() {
			return s, false
		}
	}
	for _, s := range seats {
		if s.holder == nil {
			return s, true
		}
	}
	return nil, false
}

// ending returns a process that holds a seat without a connection.
func (g *gateway) ending(from side) *process {
	for _, s := range g.eligible(from) {
		if s.holder != nil && s.holder.link == nil {
			return s.holder.process
		}
	}
	return nil
}

func (g *gateway) holders(from side) []int {
	var pids []int
	for _, s := range g.eligible(from) {
		if s.holder != nil {
			pids = append(pids, s.holder.process.pid)
		}
	}
	return pids
}

// seat stores the holder, tells it the table, and watches it.
func (g *gateway) seat(s *seat, h *holder, l *link, fresh bool, who []any) {
	// Before the connection is stored: a server that finds it there greets it.
	if err := g.region.note(s.id, handshake{underWay: true, fresh: fresh}); err != nil {
		g.log.Error("a handshake that is cut off by this server's end will not be finished", "error", err)
	}
	g.storeHolder(s, h, l, fresh)
	if fresh {
		g.watchProcess(s, h)
	}
	g.greet(s, h, l, fresh, append(who, "seat", s.id))
}

// greet counts the connection and sends it the handshake.
func (g *gateway) greet(s *seat, h *holder, l *link, fresh bool, who []any) {
	what := eventSeatTakenAgain
	if fresh {
		what = eventSeatTaken
		g.region.quiet(s.id)
	}
	g.mu.Lock()
	g.mend()
	// A holder that has ended by now has been settled: not counted, it leaves the
	// seat as free as the header says.
	if s.id == shmproto.GuestSeat && s.holder == h {
		if fresh && shmproto.Renew(g.region.mapping) {
			g.event("the gateway's part of the region was damaged, as a guest can do, and is emptied for the next holder of its seat")
		}
		a, err := g.region.attach()
		if err != nil {
			g.log.Error("attachment not counted", "error", err)
		}
		who = append(who, "attachment", a)
	}
	g.event(what, who...)
	g.mu.Unlock()
	g.send(s, h, l, 0)
}

// step is for tests, which end the server there.
var step = killpoint.Here

// send sends the handshake from its message number done on, and watches the
// connection. Each message is noted when it is sent: the server can be killed at
// any moment, and the next one goes on there. For a QEMU that was told a part reads
// on for ever, also when the connection is closed. Killed between a message and
// its note, the next server says it twice: of a doorbell that harms nobody, a QEMU
// that hears one of the first three twice ends with an error.
func (g *gateway) send(s *seat, h *holder, l *link, done int) {
	step(fmt.Sprintf("handshake-%d", done))
	messages := ivshmem.Handshake(s.id, g.region.memory, g.region.peers())
	for i := min(done, len(messages)); i < len(messages); i++ {
		var err error
		if e := l.with(func(fd int) { err = ivshmem.Send(fd, messages[i:i+1]) }); e != nil {
			err = e
		}
		if err != nil {
			g.lost(s, h, l, endHandshake)
			return
		}
		step(fmt.Sprintf("handshake-%d-unnoted", i+1))
		_ = g.region.note(s.id, handshake{underWay: true, sent: i + 1}) // seat has said it if that fails
		step(fmt.Sprintf("handshake-%d", i+1))
	}
	_ = g.region.note(s.id, handshake{})
	g.watchLink(s, h, l)
	if s.id == shmproto.GuestSeat {
		g.tell()
	}
}

// resume watches a connection that was taken over. One that the killed server had not
// told all, it tells the rest.
func (g *gateway) resume(s *seat, h *holder) {
	switch n := g.region.noted(s.id); {
	case !n.underWay:
		g.watchLink(s, h, h.link)
	case n.sent == 0:
		g.greet(s, h, h.link, n.fresh, []any{"pid", h.process.pid, "uid", h.uid, "gid", h.gid, "seat", s.id})
	default:
		g.log.Info("handshake of the server before goes on", "seat", s.id, "pid", h.process.pid, "sent", n.sent)
		g.send(s, h, h.link, n.sent)
	}
}
