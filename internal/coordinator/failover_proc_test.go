package coordinator

import (
	"errors"
	"slices"
	"time"

	"guardring/internal/coordinator/election"
	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// proc is one coordinator. What it does is split into single effects; it can be
// stopped before each of them and continue at any later time.
type proc struct {
	w      *failover
	seat   int // of the board
	room   int // seat of the regions: the server gives whichever is free
	m      *election.Machine
	board  *shmproto.LeaseBoard
	hosts  []*shmproto.Host
	regs   []*shmproto.Region
	core   *Coordinator
	judge  *Judge // of core
	book   *book
	term   shmproto.Term
	reads  map[shmproto.Term]int
	told   []shmproto.Attachment
	seen   []uint64
	known  []bool // seen is valid
	todo   []func()
	paused int
}

func (w *failover) start(seat int) {
	board, err := shmproto.OpenLeaseBoard(w.board)
	if err != nil {
		w.t.Fatal(err)
	}
	p := &proc{w: w, seat: seat, room: seat ^ w.crossed, board: board, told: make([]shmproto.Attachment, len(w.gates)), seen: make([]uint64, len(w.gates)), known: make([]bool, len(w.gates))}
	for _, g := range w.gates {
		r, err := shmproto.Open(g.mem)
		if err != nil {
			w.t.Fatal(err)
		}
		p.regs, p.hosts = append(p.regs, r), append(p.hosts, r.Host(p.room))
	}
	var highest shmproto.Term
	for t := range w.claimed {
		highest = max(highest, t)
	}
	m, actions, err := election.New(election.Config{Seat: seat, Epoch: testEpoch, Highest: highest, Own: p.lease(seat)})
	if err != nil {
		w.t.Fatal(err)
	}
	p.m = m
	w.procs[seat] = p
	p.do(actions)
}

func (p *proc) lease(seat int) shmproto.Lease {
	l, err := p.board.Read(seat)
	if err != nil && !errors.Is(err, shmproto.ErrEmpty) {
		p.w.fail("lease board: %v", err)
	}
	return l
}

func (p *proc) event(e election.Event) { p.do(p.m.Step(e)) }

// first has the effects done before whatever else waits.
func (p *proc) first(effects ...func()) { p.todo = slices.Concat(effects, p.todo) }

func (p *proc) do(actions []election.Action) {
	var effects []func()
	for _, a := range actions {
		effects = append(effects, p.effects(a)...)
	}
	p.first(effects...)
}

// effects are those of runner.act.
func (p *proc) effects(a election.Action) (all []func()) {
	w := p.w
	add := func(f func()) { all = append(all, f) }
	answer := func(e election.Event) { add(func() { p.event(e) }) }
	show := func(l shmproto.Lease) {
		add(func() {
			if was := p.lease(p.seat); l.Term < was.Term {
				w.fail("seat %d lowers its term from %d to %d", p.seat, was.Term, l.Term)
			}
			p.board.Set(p.seat, l)
		})
		for n, h := range p.hosts {
			add(func() {
				if was := &w.gates[n].fence[p.room]; l.Term < *was {
					w.fail("%s: the fence of host seat %d falls from term %d to %d", w.gates[n].name, p.room, *was, l.Term)
				} else {
					*was = l.Term
				}
				h.SetLease(l)
			})
		}
	}
	switch a := a.(type) {
	case election.SetLease:
		show(a.Lease)
	case election.ClaimTerm:
		add(func() {
			if w.claimed[a.Term] {
				p.event(election.Taken{Highest: a.Term})
				return
			}
			w.claimed[a.Term] = true
			p.first(func() { p.event(election.Claimed{}) })
		})
	case election.FenceRegions:
		show(a.Lease)
		answer(election.Fenced{})
	case election.ReadLedger:
		add(func() { p.restore(a.Term) })
		answer(election.LedgerRead{})
	case election.WriteLedger:
		add(func() {
			p.book, p.term = &book{snapshot: p.core.Snapshot(), follows: p.reads, judge: p.judge}, a.Term
			w.books[a.Term] = p.book
			w.keep(p.book.snapshot)
		})
		add(func() { p.event(election.LedgerWritten{Other: p.lease(1 - p.seat)}) })
	case election.Act:
		add(func() { p.begun(a.Term) })
	case election.StandDown:
		add(func() { p.core, p.book = nil, nil })
		answer(election.StoodDown{})
	}
	return all
}

// restore reads what ledger.Dir.Read would.
func (p *proc) restore(before shmproto.Term) {
	w := p.w
	var newest shmproto.Term
	for t := range w.books {
		if t < before {
			newest = max(newest, t)
		}
	}
	core, err := New(w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	p.reads = map[shmproto.Term]int{}
	if b := w.books[newest]; b != nil {
		records := slices.Clone(b.snapshot)
		var late int
		for t := shmproto.Term(1); t < newest; t++ {
			if from, ok := b.follows[t]; ok {
				for _, line := range w.books[t].lines[from:] {
					records = append(records, Late(line)...)
					late += len(line)
				}
				p.reads[t] = len(w.books[t].lines)
			}
		}
		for _, line := range b.lines {
			records = append(records, line...)
		}
		p.reads[newest] = len(b.lines)
		if err := core.Restore(records); err != nil {
			w.fail("restore: %v", err)
		}
		if err := core.valid(); err != nil {
			w.fail("restored: %v", err)
		}
		if late > 0 {
			w.keeps(core, slices.Concat(records[:len(b.snapshot)], records[len(b.snapshot)+late:]))
		}
		if err := b.judge.Follows(core); err != nil {
			w.fail("term %d follows %d: %v", before, newest, err)
		}
	}
	p.core, p.judge = core, NewJudge(core)
}

// keeps fails the test if what a stopped coordinator wrote late took something away that
// its successor's own records hold.
func (w *failover) keeps(merged *Coordinator, own []Record) {
	core, err := New(w.cfg)
	if err == nil {
		err = core.Restore(own)
	}
	if err != nil {
		w.fail("restore the successor's own records: %v", err)
	}
	w.tally.Merged++
	w.agents.Merged++
	if err := merged.keeps(core, w.now); err != nil {
		w.fail("%v", err)
	}
	merged.now = time.Time{} // it has seen nothing yet
}

func (p *proc) begun(t shmproto.Term) {
	w := p.w
	w.tally.Acted++
	if w.acted[t] {
		w.fail("term %d acts twice", t)
	}
	w.acted[t] = true
	for _, g := range w.gates {
		for f := range g.kept {
			if g.mood == obedient && g.term < t && !p.excludes(g, f) {
				w.fail("term %d begins without an exclusion of term %d that %s obeys", t, g.term, g.name)
			}
		}
	}
	clear(p.told)
}

func (p *proc) excludes(g *gate, f guardstate.Fingerprint) bool {
	m := p.core.byName[g.tor.name()]
	return m != nil && m.exclusion(RelayKey(f)) != nil
}

func (p *proc) acting() bool {
	if p.m.State() == election.Acting {
		p.event(election.Looked{Other: p.lease(1 - p.seat)})
	}
	return p.m.State() == election.Acting && p.core != nil
}

// advance does the next effect, or finds something to do.
func (p *proc) advance() {
	w := p.w
	w.tally.Steps++
	switch {
	case p.paused > 0 && !w.calm:
		p.paused--
	case !w.calm && w.rng.IntN(60) == 0:
		p.paused = w.rng.IntN(60)
	case !w.calm && w.rng.IntN(70) == 0:
		w.tally.Kills++
		w.start(p.seat)
	case len(p.todo) > 0:
		next := p.todo[0]
		p.todo = p.todo[1:]
		next()
	case p.m.State() == election.Acting && w.rng.IntN(4) > 0:
		if n := w.rng.IntN(len(w.gates) + 1); n < len(w.gates) {
			p.look(n)
		} else {
			p.step(Tick{w.now})
		}
	default:
		p.event(election.Tick{Other: p.lease(1 - p.seat)})
	}
}

// look is runner.look: whatever rang, or nothing did.
func (p *proc) look(n int) {
	w, g := p.w, p.w.gates[n]
	if !w.calm && !g.rung[p.room] && w.rng.IntN(3) > 0 {
		return
	}
	g.rung[p.room] = false
	a, held := p.regs[n].GuestSeat()
	if !held {
		w.fail("%s: nobody holds the guest seat", g.name)
	}
	if p.told[n] != a {
		p.told[n], p.known[n] = a, false
		p.step(GatewaySeen{At: w.now, Gateway: g.name, Present: true})
		return
	}
	version := p.hosts[n].PublicationVersion(0)
	if p.known[n] && version == p.seen[n] {
		return
	}
	var pub shmproto.Publication
	err := p.hosts[n].ReadPublication(0, &pub)
	if errors.Is(err, shmproto.ErrTorn) {
		return
	}
	p.seen[n], p.known[n] = version, true
	var bad *shmproto.ViolationError
	switch {
	case errors.As(err, &bad):
		w.tally.Violations++
		p.step(Violated{At: w.now, Gateway: g.name, Reason: bad.Reason})
	case err == nil && pub.Attachment == a:
		g.verify(&pub)
		p.step(Published{At: w.now, Gateway: g.name, Slot: 0, Publication: &pub})
	}
}

// step is runner.step and perform, effect by effect.
func (p *proc) step(e Event) {
	w := p.w
	if !p.acting() {
		return
	}
	core, term, mine := p.core, p.term, p.book
	r := core.Step(e)
	w.log("term %d: %s -> %d records, orders %v, %v", term, e, len(r.Save), r.Orders, r.Notices)
	if err := p.judge.Step(core, e, r); err != nil {
		w.fail("after %T: %v", e, err)
	}
	if w.stops != nil && !w.calm && len(r.Save) > 0 && w.stops.IntN(2) == 0 {
		p.paused = 30 + w.stops.IntN(30)
		w.meanwhile(r.Save[0].Gateway)
	}
	var effects []func()
	still := func() bool { return p.core == core }
	if len(r.Save) > 0 {
		effects = append(effects, func() {
			if still() {
				mine.lines = append(mine.lines, r.Save)
				w.keep(r.Save)
			}
		})
	}
	for _, o := range r.Orders {
		effects = append(effects, func() {
			if !still() || !p.acting() || !still() {
				return
			}
			n := slices.IndexFunc(w.gates, func(g *gate) bool { return g.name == o.Gateway })
			p.first(func() { // stopped between look and store
				if !still() {
					return
				}
				w.tally.Orders++
				o.Order.Epoch, o.Order.Term = testEpoch, term
				if err := p.hosts[n].WriteOrder(o.Slot, &o.Order); err != nil {
					w.fail("write order: %v", err)
				}
				if w.calm || w.rng.IntN(2) == 0 {
					w.gates[n].bell = true
				}
			})
		})
	}
	p.first(effects...)
}

// meanwhile: what a coordinator has decided of a gateway it writes late; now and then the
// gateway's agent leaves before.
func (w *failover) meanwhile(gateway string) {
	n := slices.IndexFunc(w.gates, func(g *gate) bool { return g.name == gateway })
	if n < 0 || w.gates[n].agent == nil || w.stops.IntN(3) > 0 {
		return
	}
	if a := w.gates[n].agent; !a.over {
		a.wants = true
	}
}

func (p *proc) drain() {
	for len(p.todo) > 0 {
		next := p.todo[0]
		p.todo = p.todo[1:]
		next()
	}
}
