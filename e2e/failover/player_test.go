//go:build e2e

package failover

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"guardring/e2e/impostor"
	"guardring/shmproto"
)

// contested is how many guards several gateways want.
const contested = 4

// patience is how long an answer may take, with all that can happen meanwhile.
const patience = 30 * time.Second

// player is a gateway whose agent is honest, and has no Tor. Each publication is from behind a closed join gate, by a new incarnation:
// exactly such a one is answered by an order that names it, also if it changes nothing.
type player struct {
	name    string
	number  int
	seat    *impostor.Impostor
	history *history
	orders  reader

	published   int // how many
	incarnation shmproto.Incarnation
	open        bool         // its join gate
	shown       []int        // the contested guards of the last publication
	held        map[int]bool // what an answer has let it keep
	barred      map[int]bool // what it may have been told not to use, and has not shown to be rid of
	unread      []pending    // publications whose answers were not waited for
	accepted    []shmproto.Order
	obeyed      int // the orders of accepted that it has answered
}

// pending is a question without an answer yet.
type pending struct {
	asked
	call int64
}

func newPlayer(name string, number int, socket string, h *history) (*player, error) {
	p := &player{name: name, number: number, history: h, orders: reader{history: h, id: number - 1}, held: map[int]bool{}, barred: map[int]bool{}}
	var err error
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) { // a server that only starts
		if p.seat, err = impostor.Take(socket); err == nil || time.Now().After(end) {
			return p, err
		}
	}
}

// guard is a contested one, -1 and less are the player's own.
func (p *player) guard(k int) impostor.Guard {
	if k >= 0 {
		return impostor.Guard{Fingerprint: fmt.Sprintf("CC%038X", k+1), Addr: fmt.Sprintf("198.10.%d.1:9001", k)}
	}
	return impostor.Guard{Fingerprint: fmt.Sprintf("%02X%038X", p.number, -k), Addr: fmt.Sprintf("198.%d.%d.1:9001", 20+p.number, -k)}
}

// publish shows the guards before its own ones, without those that an order excludes as primary ones.
func (p *player) publish(o *shmproto.Order) error {
	numbers := slices.Clone(p.shown)
	for k := range 20 - len(numbers) {
		numbers = append(numbers, -1-k)
	}
	var sample []impostor.Guard
	primary := 0
	for _, k := range numbers {
		g := p.guard(k)
		g.Excluded = o != nil && excludes(o, g)
		if g.Primary = !g.Excluded && primary < 3; g.Primary {
			primary++
		}
		sample = append(sample, g)
	}
	pub, err := impostor.Compose(sample...)
	if err != nil {
		return err
	}
	if !p.open {
		pub.Flags |= shmproto.MemberGated
	}
	if o != nil {
		pub.Receipt = shmproto.Receipt{Epoch: o.Epoch, Term: o.Term, Seq: o.Seq, Digest: o.Digest(), Status: shmproto.ReceiptApplied}
	}
	return p.seat.Show(pub)
}

func excludes(o *shmproto.Order, g impostor.Guard) bool {
	for _, fp := range o.Exclusions {
		if fp.String() == g.Fingerprint {
			return true
		}
	}
	return false
}

// ask shows these guards as its own, as a new incarnation.
func (p *player) ask(guards ...int) error {
	call := p.history.now()
	p.published++
	p.shown, p.incarnation = guards, p.seat.Restart()
	for g := range contested {
		a := asked{guard: g, gateway: p.number, number: p.published, what: gives}
		if slices.Contains(guards, g) {
			a.what = claims
		}
		p.unread = append(p.unread, pending{a, call})
	}
	return p.publish(nil)
}

// look reads the order that stands.
func (p *player) look() (*shmproto.Order, error) {
	call := p.history.now()
	o, err := p.seat.Order()
	if err != nil {
		return nil, nil // none, or one of a coordinator that is replaced just now
	}
	p.orders.look(seen{p.number, order, uint64(o.Term), uint64(o.Seq)}, call)
	for i := range p.accepted {
		if a := &p.accepted[i]; a.Seq == o.Seq && !slices.Equal(a.Exclusions, o.Exclusions) {
			return nil, fmt.Errorf("%s: order %d has other exclusions in term %d (%v) than in term %d (%v)", p.name, o.Seq, o.Term, o.Exclusions, a.Term, a.Exclusions)
		}
	}
	if n := len(p.accepted); n == 0 || p.accepted[n-1].Compare(&o) != 0 {
		p.accepted = append(p.accepted, o)
	}
	return &o, nil
}

// await waits until the order that stands is what is wanted.
func (p *player) await(what string, ok func(*shmproto.Order) bool) (*shmproto.Order, error) {
	for end := time.Now().Add(patience); ; {
		o, err := p.look()
		if err != nil || o != nil && ok(o) {
			return o, err
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("%s, incarnation %d: no order %s within %v; the last of %d is %+v", p.name, p.incarnation, what, patience, len(p.accepted), o)
		}
		if err := p.seat.AwaitDoorbell(2 * time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// answered waits for the answer to the last question, writes it down, and obeys.
func (p *player) answered() error {
	o, err := p.await("that answers it", func(o *shmproto.Order) bool { return o.Answers.Incarnation == p.incarnation })
	if err != nil {
		return err
	}
	if excluded := p.settle(o); excluded != len(o.Exclusions) {
		return fmt.Errorf("%s: order %d of term %d excludes %v, which is more than what it showed: %v", p.name, o.Seq, o.Term, o.Exclusions, p.shown)
	}
	return p.obey(o)
}

// settle writes down what the order answers, nil: that there is none, and says how many of the guards that were asked for it excludes.
func (p *player) settle(o *shmproto.Order) (excluded int) {
	now := p.history.now()
	clear(p.held)
	clear(p.barred)
	for _, q := range p.unread {
		out := unknown
		if q.number == p.published {
			switch {
			case q.what == gives:
				out = nothing
			case o != nil && excludes(o, p.guard(q.guard)):
				out, p.barred[q.guard] = moves, true
				excluded++
			default:
				out, p.held[q.guard] = keeps, true
			}
		}
		p.history.asked(q.asked, q.call, out, now)
	}
	p.unread = p.unread[:0]
	return excluded
}

// obey answers an order once.
func (p *player) obey(o *shmproto.Order) error {
	if p.obeyed == len(p.accepted) {
		return nil
	}
	p.obeyed = len(p.accepted)
	return p.publish(o)
}

// abandon leaves the last question without waiting for its answer, as an agent does that is killed and started again.
func (p *player) abandon() {
	for _, g := range p.shown {
		if !p.held[g] {
			p.barred[g] = true
		}
	}
}

// hold does nothing for a while but obey; it must not be told to give up what it holds.
func (p *player) hold(d time.Duration) error {
	for end := time.Now().Add(d); time.Now().Before(end); {
		call := p.history.now()
		o, err := p.look()
		if err != nil {
			return err
		}
		if o != nil {
			for _, g := range slices.Collect(maps.Keys(p.held)) {
				if excludes(o, p.guard(g)) {
					delete(p.held, g)
					p.history.asked(asked{g, p.number, p.published, revoked}, call, nothing, p.history.now())
				}
			}
			if err := p.obey(o); err != nil {
				return err
			}
		}
		if err := p.seat.AwaitDoorbell(2 * time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// play asks for other guards again and again, until it is told to end.
func (p *player) play(random *rand.Rand, end <-chan struct{}) error {
	for {
		var want []int
		for _, g := range random.Perm(contested)[:1+random.IntN(3)] {
			if !p.barred[g] {
				want = append(want, g)
			}
		}
		if err := p.ask(want...); err != nil {
			return err
		}
		last := false
		select {
		case <-end:
			last = true
		default:
		}
		if !last && random.IntN(8) == 0 {
			p.abandon()
			time.Sleep(time.Duration(random.IntN(3000)) * time.Microsecond)
			continue
		}
		if err := errors.Join(p.answered(), p.hold(time.Duration(random.IntN(40))*time.Millisecond)); err != nil || last {
			p.orders.end()
			return err
		}
	}
}

// operations are what was asked, and what was seen, of a history that is over.
func (h *history) operations() (claims, seen []porcupine.Operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.claims, h.seen
}
