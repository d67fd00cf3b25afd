package coordinator

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// gate is one gateway: a region, a Tor, and the present agent.
type gate struct {
	w      *failover
	name   string
	mem    []byte
	tor    *fakeTor // with a real agent: only what it published last
	agent  *agent   // the real one; nil: it is played
	mood   mood
	copied bool // its state was another's once
	rung   [shmproto.HostSeats]bool
	fence  [shmproto.HostSeats]shmproto.Term // the last that was shown there
	bell   bool
	shown  map[string]string // what its agents published, by (attachment, incarnation, seq)
	kept   map[guardstate.Fingerprint]bool
	term   shmproto.Term                 // of the highest order that was obeyed
	quit   map[shmproto.Incarnation]bool // starts of agents, up to the one that has left; false: since then
	ghost  []word                        // stores of an agent that was stopped and replaced

	guest   *shmproto.Guest
	region  *shmproto.Region
	writer  int
	order   *shmproto.Order // none since the agent's start: nil
	applied bool
	dirty   bool
	late    []word // stores of the agent that others have not seen yet
	blocked int    // how often the lock was not to be had
}

// word is one store that has not come true yet.
type word struct {
	off int
	val uint64
}

func (g *gate) start(writer int) {
	r, err := shmproto.Open(g.mem)
	if err != nil {
		g.w.fail("%s: %v", g.name, err)
	}
	p := &g.tor.pub
	p.Incarnation, p.Seq, p.Receipt = shmproto.Incarnation(g.w.rng.Uint64()), 0, shmproto.Receipt{}
	g.region, g.guest, g.writer = r, r.Guest(writer, p.Incarnation), writer
	g.order, g.applied, g.dirty, g.late, g.blocked = nil, false, true, nil, 0
	g.quit[p.Incarnation] = false
	if g.agent != nil {
		g.agent.born()
	}
}

func (g *gate) advance() {
	w := g.w
	if g.agent != nil {
		g.agent.advance()
		return
	}
	switch {
	case len(g.ghost) > 0 && (w.calm || w.rng.IntN(4) == 0):
		g.ghost = g.commit(g.ghost, 1+w.rng.IntN(len(g.ghost)))
	case !w.calm && w.rng.IntN(40) == 0:
		g.restart()
	case !w.calm && g.mood == hostile && w.rng.IntN(8) == 0:
		off := w.rng.IntN(len(g.mem)/8) * 8
		binary.LittleEndian.PutUint64(g.mem[off:], w.rng.Uint64()%4)
		g.repair()
	case len(g.late) > 0:
		g.late = g.commit(g.late, 1+w.rng.IntN(len(g.late)))
		if len(g.late) == 0 {
			g.ring()
		}
	case g.bell || w.rng.IntN(6) == 0:
		g.bell = false
		g.read()
	case g.order != nil && !g.applied && g.mood != deaf:
		g.tor.obey(*g.order)
		g.applied, g.dirty = true, true
	case g.dirty:
		g.publish()
	case w.rng.IntN(3) == 0:
		if err := g.guest.Verify(0); err != nil {
			g.dirty = true
		}
	case !w.calm && w.rng.IntN(4) == 0:
		g.live()
	}
}

// restart: the agent is killed, or stopped and replaced, or its VM is.
func (g *gate) restart() {
	w := g.w
	switch w.rng.IntN(4) {
	case 0: // killed in the middle of its stores
		g.start(g.writer)
	case 1: // killed or stopped with the lock, and the next one has another slot
		g.guest.Lock().TryAcquire()
		g.ghost = append(g.ghost, g.late...)
		g.start((g.writer + 1) % shmproto.MaxWriters)
	case 3: // stopped: its stores come true whenever they like
		g.ghost = append(g.ghost, g.late...)
		g.start((g.writer + 1) % shmproto.MaxWriters)
	case 2:
		g.reboot()
	}
}

// reboot starts the VM anew.
func (g *gate) reboot() {
	g.ghost = nil
	a := g.region.Attachment()
	shmproto.SetEnded(g.mem, a)
	shmproto.Renew(g.mem)
	shmproto.SetAttachment(g.mem, a+1)
	g.tor.pub.Attachment = a + 1
	if g.agent != nil {
		g.agent.tor.dropped = nil
		g.agent.tor.restart()
	}
	g.start(0)
}

// repair is what the server does: the header is right for whoever comes next.
func (g *gate) repair() {
	h := shmproto.Header{Gateway: g.name, Attachment: g.tor.pub.Attachment, Compatible: shmproto.FeatureEnded}
	if _, err := shmproto.Mend(g.mem, h); err != nil {
		g.w.fail("mend: %v", err)
	}
	shmproto.SetAttachment(g.mem, g.tor.pub.Attachment)
	shmproto.SetEnded(g.mem, g.tor.pub.Attachment-1)
}

// live lets circuits come and go, and guards be unlisted and listed again.
func (g *gate) live() {
	switch g.w.rng.IntN(5) {
	case 3: // the consensus has another guard in the place of one
		j := g.w.rng.IntN(len(g.tor.pub.Guards))
		g.tor.pub.Guards = append(slices.Delete(g.tor.pub.Guards, j, j+1), g.w.freshGuard())
	case 4: // its state is another's: a clone
		if g.w.rng.IntN(6) == 0 {
			of := g.w.gates[g.w.rng.IntN(len(g.w.gates))]
			if len(of.tor.pub.Guards) == 0 { // a real agent that has shown nothing yet
				return
			}
			g.copied = true
			clear(g.kept)
			g.tor.pub.Guards = slices.Clone(of.tor.pub.Guards)
			g.start(g.writer)
		}
	case 0:
		g.tor.using = g.w.rng.IntN(4)
	case 1:
		j := g.w.rng.IntN(len(g.tor.pub.Guards))
		g.tor.pub.Guards[j].Flags ^= shmproto.GuardListed
	case 2:
		if g.mood == hostile {
			for j := range g.tor.pub.Guards {
				g.tor.pub.Guards[j].Flags = shmproto.GuardFlags(g.w.rng.IntN(1 << 6))
			}
			g.dirty = true
			return
		}
	}
	for f := range g.kept { // an exclusion ends when its guard has left the sample
		if !g.samples(f) {
			delete(g.kept, f)
		}
	}
	g.tor.settle()
	g.dirty = true
}

func (w *failover) freshGuard() shmproto.Guard {
	w.next++
	return shmproto.Guard{Fingerprint: fp(10_000 + w.next), Flags: shmproto.GuardListed | shmproto.GuardFiltered}
}

// samples reports whether the guard is in the gateway's sample: else an exclusion may end.
func (g *gate) samples(f guardstate.Fingerprint) bool {
	if g.agent != nil {
		return !g.agent.leaving && g.agent.tor.samples(f)
	}
	return slices.ContainsFunc(g.tor.pub.Guards, func(o shmproto.Guard) bool { return o.Fingerprint == f })
}

// read is loop.readOrders.
func (g *gate) read() {
	w := g.w
	var o shmproto.Order
	err := g.guest.ReadOrder(0, g.tor.pub.Member, &o)
	if err != nil || g.order != nil && o.Compare(g.order) <= 0 {
		if errors.Is(err, shmproto.ErrEmpty) && len(g.kept) > 0 {
			w.tally.Fenced++
		}
		return
	}
	g.order, g.applied = &o, false
	if g.mood != obedient {
		return
	}
	w.tally.Obeyed++
	if o.Term < g.term {
		w.fail("%s obeys an order of term %d after one of term %d", g.name, o.Term, g.term)
	}
	g.term = o.Term
	if !w.durable[orderKey(g.name, o.Member, uint64(o.Seq), o.Exclusions)] {
		w.fail("%s obeys order %d of term %d, which is in no ledger", g.name, o.Seq, o.Term)
	}
	for _, p := range w.procs {
		for _, f := range o.Exclusions {
			if p.core != nil && p.term > o.Term && w.acted[p.term] && p.book != nil && !p.excludes(g, f) {
				w.fail("%s obeys an order of term %d that term %d does not know", g.name, o.Term, p.term)
			}
		}
	}
	for f := range g.kept {
		if !slices.Contains(o.Exclusions, f) {
			w.fail("%s is told to take a guard back within its hold (term %d, seq %d)", g.name, o.Term, o.Seq)
		}
	}
	for _, f := range o.Exclusions {
		// What answers a member that has left since then ends when the coordinator hears of it.
		if g.samples(f) && !g.copied && !g.quit[o.Answers.Incarnation] { // a guard that went with a sample and came back with another was not taken back
			g.kept[f] = true
		}
	}
}

// publish shows what the gateway's Tor is like.
func (g *gate) publish() {
	if g.mood == hostile && !g.w.calm && g.region.Attachment() != g.tor.pub.Attachment {
		return
	}
	if err := g.show(func(p *shmproto.Publication) { p.Seq++ }); err == nil {
		g.dirty = false
	}
}

// errNotNow: somebody else has the lock, or we were passed over.
var errNotNow = errors.New("not now")

// show is shore.flush: it publishes g.tor.pub, which number changes under the lock. Now
// and then its stores come true word by word.
func (g *gate) show(number func(*shmproto.Publication)) error {
	w := g.w
	var before []byte
	if !w.calm && w.rng.IntN(4) == 0 {
		before = w.rooms.before
		copy(before, g.mem)
	}
	lock := g.guest.Lock()
	held, by := lock.TryAcquire()
	if !held {
		if g.blocked++; g.blocked > 2 {
			w.tally.Revoked++
			lock.Revoke(by)
			g.blocked = 0
		}
		return errNotNow
	}
	g.blocked = 0
	p := &g.tor.pub
	number(p)
	if err := g.guest.Publish(0, p); err != nil {
		lock.Release()
		if !errors.Is(err, shmproto.ErrFenced) {
			w.fail("%s publishes: %v", g.name, err)
		}
		return errNotNow
	}
	g.shown[shownAs(p)] = fmt.Sprint(p.Guards)
	lock.Release()
	if before == nil {
		g.ring()
		return nil
	}
	w.tally.Torn++
	for off := 0; off < len(before); off += 4096 {
		if bytes.Equal(before[off:][:4096], g.mem[off:][:4096]) {
			continue
		}
		for o := off; o < off+4096; o += 8 {
			if v := binary.LittleEndian.Uint64(g.mem[o:]); v != binary.LittleEndian.Uint64(before[o:]) {
				g.late = append(g.late, word{o, v})
			}
		}
	}
	for _, x := range g.late {
		binary.LittleEndian.PutUint64(g.mem[x.off:], binary.LittleEndian.Uint64(before[x.off:]))
	}
	w.rng.Shuffle(len(g.late), func(i, j int) { g.late[i], g.late[j] = g.late[j], g.late[i] })
	// The cell's version is stored last.
	n := len(g.late) - 1
	i := slices.IndexFunc(g.late, func(x word) bool { return x.off == w.rooms.version })
	if i < 0 {
		w.fail("%s published, and the version did not change", g.name)
	}
	g.late[i], g.late[n] = g.late[n], g.late[i]
	return nil
}

// shownAs names a publication: with another receipt it is another one.
func shownAs(p *shmproto.Publication) string {
	return fmt.Sprint(p.Attachment, p.Incarnation, p.Seq, p.Receipt)
}

// commit lets the first n stores come true and returns the others.
func (g *gate) commit(all []word, n int) []word {
	for _, x := range all[:n] {
		binary.LittleEndian.PutUint64(g.mem[x.off:], x.val)
	}
	return all[n:]
}

// ring rings both hosts; each doorbell can be lost.
func (g *gate) ring() {
	for seat := range g.rung {
		g.rung[seat] = g.rung[seat] || g.w.calm || g.w.rng.IntN(3) > 0
	}
}

// verify fails the test if a record counts that nobody published.
func (g *gate) verify(p *shmproto.Publication) {
	if g.mood == hostile {
		return
	}
	key := shownAs(p)
	if g.shown[key] != fmt.Sprint(p.Guards) {
		g.w.fail("a record of %s counts that nobody published: %s", g.name, key)
	}
}
