package simulation

import (
	"fmt"
	"math/rand/v2"
	"time"

	"guardring/internal/coordinator"
	"guardring/shmproto"
)

// start is the host's clock at the beginning. Nothing depends on it.
var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// world is one trial.
type world struct {
	cfg      *Config
	end      time.Duration
	now      time.Duration
	q        queue
	net      *population
	relays   *rand.Rand // how relays come and go
	gateways []*gateway // nil in the place of the hostile one
	hostile  *hostile
	core     *coordinator.Coordinator // nil without guardring
	meter    meter
	epoch    shmproto.Epoch
}

// newWorld sets up trial number n. Relays, sessions and the first draws are the
// same with and without a coordinator or a hostile gateway, so that the
// differences are theirs.
func newWorld(cfg *Config, n int, guarded, evil bool) (*world, error) {
	seed := cfg.Seed + uint64(n)*0x9E3779B97F4A7C15
	w := &world{
		cfg: cfg, end: time.Duration(cfg.Months) * 30 * day,
		net:    newPopulation(cfg.Network),
		relays: rand.New(rand.NewPCG(seed, 2)),
		epoch:  shmproto.Epoch{Number: 1, Random: seed},
	}
	if guarded {
		core := cfg.Core
		core.Epoch = w.epoch
		for i := range core.Seed {
			core.Seed[i] = byte(seed >> (i % 8 * 8))
		}
		c, err := coordinator.New(core)
		if err != nil {
			return nil, err
		}
		w.core = c
		w.q.add(event{at: time.Hour, kind: tick})
	}
	for i := range cfg.Gateways {
		at := time.Duration(i) * cfg.Churn.Apart
		if evil && i == 0 {
			w.hostile = newHostile(w)
			w.gateways = append(w.gateways, nil)
			w.q.add(event{at: at, kind: probe})
			continue
		}
		w.gateways = append(w.gateways, newGateway(i, w.net, seed))
		w.q.add(event{at: at, kind: gatewayOn, who: i})
	}
	for i := range w.net.relays {
		w.q.add(event{at: w.after(cfg.Churn.RelayUp), kind: relayDown, who: i})
		w.q.add(event{at: w.after(cfg.Churn.RelayLife), kind: relayGone, who: i})
	}
	w.meter = meter{net: w.net, gateways: w.gateways}
	return w, nil
}

// after is now and a random time of a mean d.
func (w *world) after(d time.Duration) time.Duration { return w.now + exp(w.relays, d) }

func exp(r *rand.Rand, mean time.Duration) time.Duration {
	return time.Duration(r.ExpFloat64()*float64(mean)) + time.Second
}

func (w *world) time() time.Time { return start.Add(w.now) }

// next lets the next thing happen; false if there is none before the end.
func (w *world) next() bool {
	if w.q.Len() == 0 {
		return false
	}
	e := w.q.next()
	if e.at >= w.end {
		return false
	}
	w.now = e.at
	w.happen(e)
	return true
}

// run lets everything happen until the end.
func (w *world) run() {
	for w.next() {
	}
	w.now = w.end
	w.meter.advance(w.now)
}

func (w *world) happen(e event) {
	switch e.kind {
	case relayDown, relayUnlisted, relayUp, relayListed, relayGone:
		w.relay(e)
		return
	case tick:
		if e.who == 0 {
			w.q.add(event{at: w.now + time.Hour, kind: tick})
		}
		w.step(coordinator.Tick{At: w.time()})
		return
	case probe:
		w.hostile.act()
		w.q.add(event{at: w.now + day, kind: probe})
		return
	}
	if e.kind == orderComes && w.gateways[e.who] == nil {
		w.hostile.obey()
		return
	}
	g := w.gateways[e.who]
	if e.mark != g.session && e.kind != gatewayOn {
		return
	}
	switch e.kind {
	case gatewayOn:
		w.switchOn(g)
	case gatewayOff:
		w.switchOff(g)
	case guardAges:
		w.refresh(g)
	case orderComes:
		w.obey(g)
	case gateLimit:
		if g.gated {
			w.open(g)
		}
	}
}

// relay is the life of a relay: it goes down, is left out of the consensus after
// an hour, is up again and listed with the next consensus; or it is gone for good
// and another stands in its place.
func (w *world) relay(e event) {
	s := &w.net.relays[e.who]
	c := &w.cfg.Churn
	if uint32(e.mark) != s.born {
		return
	}
	again := func(at time.Duration, k kind) { w.q.add(event{at: at, kind: k, who: e.who, mark: int(s.born)}) }
	switch e.kind {
	case relayDown:
		s.down = true
		d := exp(w.relays, c.RelayDown)
		if w.relays.Float64() < c.LongOutage {
			d = exp(w.relays, c.LongDown)
		}
		if d > time.Hour {
			again(w.now+time.Hour, relayUnlisted)
		}
		again(w.now+d, relayUp)
	case relayUnlisted:
		s.listed = false
	case relayUp:
		s.down = false
		if !s.listed {
			again(w.now+time.Hour, relayListed)
		}
		again(w.after(c.RelayUp)+time.Hour, relayDown)
	case relayListed:
		s.listed = true
	case relayGone:
		s.born++
		s.down, s.listed = false, true
		again(w.after(c.RelayUp), relayDown)
		again(w.after(c.RelayLife), relayGone)
	}
	for _, g := range w.gateways {
		if g != nil && g.on && g.tor.has[e.who] {
			w.refresh(g)
		}
	}
}

// refresh brings a running gateway up to now and publishes what changed.
func (w *world) refresh(g *gateway) {
	g.update(w.now)
	w.show(g)
}

// show publishes if something changed, and has the meter look.
func (w *world) show(g *gateway) {
	w.meter.advance(w.now)
	w.meter.look()
	if !g.on {
		return
	}
	if at := max(g.tor.mayGo, w.now+time.Second); at != g.ages {
		g.ages = at
		w.q.add(event{at: at, kind: guardAges, who: g.number, mark: g.session})
	}
	if w.core == nil {
		return
	}
	if p, changed := g.publish(w.net); changed {
		w.step(coordinator.Published{At: w.time(), Gateway: g.name, Publication: p})
	}
}

func (w *world) switchOn(g *gateway) {
	g.on = true
	g.session++
	g.seq, g.ages = 0, 0
	g.last = shmproto.Publication{}
	g.tor.restart()
	w.q.add(event{at: w.now + exp(g.sessions, w.cfg.Churn.GatewayOn), kind: gatewayOff, who: g.number, mark: g.session})
	if w.core != nil {
		w.step(coordinator.GatewaySeen{At: w.time(), Gateway: g.name, Present: true})
		g.gated = w.cfg.Gate && g.session == 1
		if g.gated {
			w.q.add(event{at: w.now + gateTimeout, kind: gateLimit, who: g.number, mark: g.session})
		}
		g.obey(w.now) // its include file, or what is in the seat: before the first circuit
	}
	w.refresh(g)
}

func (w *world) switchOff(g *gateway) {
	g.on, g.gated = false, false
	g.tor.stop()
	w.q.add(event{at: w.now + exp(g.sessions, w.cfg.Churn.GatewayOff), kind: gatewayOn, who: g.number})
	w.show(g)
	if w.core != nil {
		w.step(coordinator.GatewaySeen{At: w.time(), Gateway: g.name, Present: false})
	}
}

func (w *world) obey(g *gateway) {
	g.obey(w.now)
	w.show(g)
	if g.mayOpen() {
		w.open(g)
	}
}

// open lets a gateway's streams go.
func (w *world) open(g *gateway) {
	g.gated = false
	w.refresh(g)
}

// step is what the runner does with an event, and with what comes of it. It
// returns what was recorded.
func (w *world) step(e coordinator.Event) []coordinator.Record {
	ready := w.core.Step(e)
	for _, n := range ready.Notices {
		if !n.Due.IsZero() && n.Due.After(w.time()) {
			w.q.add(event{at: n.Due.Sub(start), kind: tick, who: 1})
		}
	}
	for _, o := range ready.Orders {
		order := o.Order
		order.Epoch, order.Term = w.epoch, 1
		who := 0
		if _, err := fmt.Sscanf(o.Gateway, "gateway%d", &who); err != nil {
			panic(fmt.Sprintf("simulation: order for %q: %v", o.Gateway, err))
		}
		if g := w.gateways[who]; g != nil {
			g.order, g.pending = &order, true
			w.q.add(event{at: w.now + obeyAfter, kind: orderComes, who: who, mark: g.session})
			continue
		}
		w.hostile.ordered(o.Slot, &order)
		w.q.add(event{at: w.now + obeyAfter, kind: orderComes, who: who})
	}
	return ready.Save
}
