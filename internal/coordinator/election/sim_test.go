package election

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"guardring/shmproto"
)

var simSeed = flag.Uint64("seed", 0, "run only this seed of the simulation")

// world is what two coordinators and a guest share.
type world struct {
	t       *testing.T
	seed    uint64
	rnd     *rand.Rand
	board   [2]shmproto.Lease // host-only
	region  [2]shmproto.Lease // what a guest sees
	orders  [2][4]order       // by seat and member slot, what a guest sees
	claimed map[shmproto.Term]bool
	ledgers map[shmproto.Term]map[int]bool // orders by term; there once complete
	procs   [2]*proc
	nextID  int
	blind   bool // coordinators give orders without looking at the board
	crossed int  // 1: who has one seat of the board has the other one of the region

	acted    map[shmproto.Term]map[int]bool // what each acting coordinator started from
	accepted map[int]shmproto.Term
	reading  order // between the guest's two loads
	acts     int
	late     int // orders that the fence kept from the guest
}

type order struct {
	term shmproto.Term
	id   int
}

// proc is one coordinator. Its actions are split into the smallest steps; it
// can be stopped before each of them and continue at any later time.
type proc struct {
	w       *world
	seat    int // of the board
	room    int // its seat of the region: the server gives whichever is free
	m       *Machine
	todo    []func()
	history map[int]bool
	paused  int
}

func (w *world) start(seat int) {
	p := &proc{w: w, seat: seat, room: seat ^ w.crossed}
	var high shmproto.Term
	for t := range w.claimed {
		high = max(high, t)
	}
	m, actions, err := New(Config{Seat: seat, Epoch: shmproto.Epoch{Number: 7}, Highest: high, Own: w.board[seat]})
	if err != nil {
		w.t.Fatal(err)
	}
	p.m = m
	w.procs[seat] = p
	p.do(actions)
}

func (p *proc) event(e Event) { p.do(p.m.Step(e)) }

// do queues actions before whatever else waits: they are done completely first.
func (p *proc) do(actions []Action) {
	var steps []func()
	for _, a := range actions {
		steps = append(steps, p.steps(a)...)
	}
	p.todo = append(steps, p.todo...)
}

func (p *proc) steps(a Action) []func() {
	w := p.w
	answer := func(e Event) func() { return func() { p.event(e) } }
	show := func(l shmproto.Lease) []func() {
		return []func(){func() {
			if l.Term < w.board[p.seat].Term {
				w.fail("seat %d lowers its term from %d to %d", p.seat, w.board[p.seat].Term, l.Term)
			}
			w.board[p.seat] = l
		}, func() {
			if l.Term < w.region[p.room].Term {
				w.fail("region seat %d falls from term %d to %d", p.room, w.region[p.room].Term, l.Term)
			}
			w.region[p.room] = l
		}}
	}
	switch a := a.(type) {
	case SetLease:
		return show(a.Lease)
	case ClaimTerm:
		return []func(){func() {
			if w.claimed[a.Term] {
				p.event(Taken{Highest: a.Term})
				return
			}
			w.claimed[a.Term] = true
			p.todo = append([]func(){answer(Claimed{})}, p.todo...)
		}}
	case FenceRegions:
		return append(show(a.Lease), answer(Fenced{}))
	case ReadLedger:
		return []func(){func() {
			var newest shmproto.Term
			for t := range w.ledgers {
				if t < a.Term {
					newest = max(newest, t)
				}
			}
			p.history = maps.Clone(w.ledgers[newest])
			if p.history == nil {
				p.history = map[int]bool{}
			}
		}, answer(LedgerRead{})}
	case WriteLedger:
		return []func(){func() {
			if w.ledgers[a.Term] != nil {
				w.fail("two ledgers of term %d", a.Term)
			}
			w.ledgers[a.Term] = maps.Clone(p.history)
		}, func() { p.event(LedgerWritten{Other: w.board[1-p.seat]}) }}
	case Act:
		return []func(){func() {
			if w.acted[a.Term] != nil {
				w.fail("term %d acts twice", a.Term)
			}
			w.acts++
			w.acted[a.Term] = maps.Clone(p.history)
			for id, t := range w.accepted {
				if t < a.Term && !p.history[id] {
					w.fail("term %d starts without order %d of term %d, which the guest obeys", a.Term, id, t)
				}
			}
		}}
	case StandDown:
		return []func(){func() { p.history = nil }, answer(StoodDown{})}
	}
	panic(a)
}

// effect is one order: look, ledger, look, seat.
func (p *proc) effect() {
	w, term := p.w, p.m.Lease().Term
	acting := func() bool {
		if w.blind && p.m.State() == Acting && p.m.Lease().Term == term {
			return true
		}
		p.event(Looked{Other: w.board[1-p.seat]})
		return p.m.State() == Acting
	}
	p.todo = append(p.todo, func() {
		if !acting() {
			return
		}
		w.nextID++
		id := w.nextID
		p.todo = append(p.todo, func() { w.ledgers[term][id] = true }, func() {
			if acting() {
				p.todo = append(p.todo, func() { w.orders[p.room][id%4] = order{term, id} })
			}
		})
	})
}

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("seed %d: %s", w.seed, fmt.Sprintf(format, args...))
}

// guest reads an order, and at a later step the leases, as Guest.ReadOrder does.
func (w *world) guest() {
	if w.reading.id == 0 {
		slot := w.rnd.IntN(4)
		w.reading = w.orders[0][slot]
		if w.orders[1][slot].term > w.reading.term {
			w.reading = w.orders[1][slot]
		}
		return
	}
	o := w.reading
	w.reading = order{}
	for _, l := range w.region {
		if l.Term > o.term {
			w.late++
			return
		}
	}
	w.accepted[o.id] = o.term
	for t, start := range w.acted {
		if t > o.term && !start[o.id] {
			w.fail("the guest obeys order %d of term %d although term %d acts without it", o.id, o.term, t)
		}
	}
}

func (w *world) step() {
	if w.rnd.IntN(3) == 0 {
		w.guest()
	}
	p := w.procs[w.rnd.IntN(2)]
	switch {
	case p.paused > 0:
		p.paused--
	case w.rnd.IntN(60) == 0:
		p.paused = w.rnd.IntN(300)
	case w.rnd.IntN(60) == 0:
		w.start(p.seat) // killed and started again
	case w.rnd.IntN(300) == 0:
		// Both are killed, and those who come after them meet the seats in another order.
		w.crossed = 1 - w.crossed
		w.start(0)
		w.start(1)
	case len(p.todo) > 0:
		next := p.todo[0]
		p.todo = p.todo[1:]
		next()
	case p.m.State() == Acting && w.rnd.IntN(2) == 0:
		p.effect()
	case w.rnd.IntN(500) == 0 && p.m.State() == Acting:
		p.event(Failed{})
	case w.rnd.IntN(800) == 0:
		p.event(Stop{})
		p.todo = append(p.todo, func() { w.start(p.seat) })
	default:
		p.event(Tick{Other: w.board[1-p.seat]})
	}
}

// TestSimulation runs two coordinators that are stopped, continued, killed and
// started at any step. No term acts twice, and no guest ever obeys an order that
// a higher acting term does not know. With every other seed the coordinators do
// not look at the board before their effects: the fence alone must do.
func TestSimulation(t *testing.T) {
	seeds := []uint64{*simSeed}
	if *simSeed == 0 {
		seeds = seeds[:0]
		for s := uint64(1); s <= 400; s++ {
			seeds = append(seeds, s)
		}
	}
	acts, late, accepted := 0, 0, 0
	for _, seed := range seeds {
		w := &world{
			t: t, seed: seed, blind: seed%2 == 0, rnd: rand.New(rand.NewPCG(seed, 1)), claimed: map[shmproto.Term]bool{},
			ledgers: map[shmproto.Term]map[int]bool{}, acted: map[shmproto.Term]map[int]bool{}, accepted: map[int]shmproto.Term{},
		}
		w.start(0)
		w.start(1)
		for range 5000 {
			w.step()
		}
		acts, late, accepted = acts+w.acts, late+w.late, accepted+len(w.accepted)
	}
	t.Logf("%d terms acted, %d orders obeyed, %d orders fenced", acts, accepted, late)
	if *simSeed == 0 && (acts < 1000 || late < 100 || accepted < 1000) {
		t.Errorf("the simulation hardly did anything: %d terms, %d obeyed, %d fenced", acts, accepted, late)
	}
}
