package simulation

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"

	"guardring/internal/coordinator"
	"guardring/shmproto"
)

// hostile is the first gateway in the adversary's hand. There is no Tor in it:
// it publishes what serves it.
//
// Its aim is to drive the others onto the adversary's relays, so it bars as much
// of the rest as it can: it claims what is heaviest at the widest level that the
// coordinator compares, says that it uses it (so that it is never told to leave
// it for a family or a /16), and is there before everyone else. None of
// what it bars is the adversary's. And it asks: every day it changes one claim of each
// member, an unused one, and sees whether an order comes.
type hostile struct {
	w       *world
	name    string
	puppets []*puppet
	targets []target // the heaviest first
	honest  int      // how many others there are

	asked, told int     // new claims, and those that an order answered
	bits        float64 // what orders and silence told it
}

// target is a claim that it can make.
type target struct {
	relay   int
	share   float64 // of the guard weight that is barred, or asked about
	classes []class // what it bars
	addrs   []netip.AddrPort
	ids     [][32]byte
}

// puppet is one Tor that it pretends to have.
type puppet struct {
	slot    int
	seq     shmproto.Seq
	holds   []int // targets that it claims; the last one is its question
	next    int   // the first target that it has not tried
	asking  bool
	order   *shmproto.Order
	receipt shmproto.Receipt
}

// held is how many guards a puppet claims: as many as a member may.
const held = 6

func newHostile(w *world) *hostile {
	h := &hostile{w: w, name: "gateway0", honest: w.cfg.Gateways - 1, targets: aim(w.cfg)}
	for i := range w.cfg.HostileMembers {
		h.puppets = append(h.puppets, &puppet{slot: i, next: i})
	}
	return h
}

// widest is the widest level that the coordinator compares.
func widest(l coordinator.Levels) Observer {
	switch {
	case l.Has(coordinator.LevelSubnet):
		return BySubnet
	case l.Has(coordinator.LevelFamily):
		return ByFamily
	}
	return ByRelay
}

// class is a family, a /16, or a relay.
type class struct {
	observer Observer
	number   int
}

// aim lists what it can claim, the heaviest first: the heaviest relay of each
// class, or lies.
func aim(cfg *Config) []target {
	o := widest(cfg.Core.Levels)
	all := truths(cfg.Network, o)
	if !cfg.Lies || o == ByRelay {
		return all
	}
	families := truths(cfg.Network, ByFamily)
	if !cfg.Core.Levels.Has(coordinator.LevelFamily) {
		families = nil
	}
	if o == ByFamily {
		all = nil
	}
	return lies(cfg.Network, all, families)
}

// truths lists the heaviest relay of each class.
func truths(n *Network, o Observer) []target {
	shares, seen := n.shares(o), map[int]bool{}
	var all []target
	for _, i := range n.heaviest() {
		if k := n.class(o, i); !seen[k] {
			seen[k] = true
			r := &n.Relays[i]
			all = append(all, target{relay: i, share: shares[k], classes: []class{{o, k}}, addrs: []netip.AddrPort{r.Addr}, ids: [][32]byte{familyID(r.Family)}})
		}
	}
	slices.SortStableFunc(all, func(a, b target) int { return cmp.Compare(b.share, a.share) })
	return all
}

// believedIDs is how many family identities of one relay the core believes.
const believedIDs = 2

// lies lists the lightest relays, of which nobody else states anything, each
// with an address in a heavy /16 and with the identities of heavy families: as
// many as the core believes.
func lies(n *Network, subnets, families []target) []target {
	light := n.heaviest()
	slices.Reverse(light)
	var all []target
	for i := 0; i < len(light) && len(subnets)+len(families) > 0; i++ {
		r := &n.Relays[light[i]]
		l := target{relay: light[i], addrs: []netip.AddrPort{r.Addr}}
		take := func(from *[]target) target {
			t := (*from)[0]
			*from = (*from)[1:]
			l.share += t.share
			l.classes = append(l.classes, t.classes...)
			return t
		}
		if len(subnets) > 0 {
			l.addrs = take(&subnets).addrs
		}
		for len(families) > 0 && len(l.ids) < believedIDs {
			l.ids = append(l.ids, take(&families).ids[0])
		}
		slices.SortFunc(l.ids, func(a, b [32]byte) int { return slices.Compare(a[:], b[:]) })
		all = append(all, l)
	}
	return all
}

// barred returns which relays its lasting claims bar, and their share of the
// weight: the adversary's own relays are none of them.
func barred(cfg *Config) (relays []bool, share float64) {
	relays = make([]bool, len(cfg.Network.Relays))
	if !cfg.Hostile {
		return relays, 0
	}
	all := aim(cfg)
	for _, t := range all[:min(len(all), cfg.HostileMembers*(held-1))] {
		for _, c := range t.classes {
			for i := range relays {
				relays[i] = relays[i] || cfg.Network.class(c.observer, i) == c.number
			}
		}
	}
	for i, yes := range relays {
		if yes {
			share += cfg.Network.Relays[i].Weight
		}
	}
	return relays, share
}

// act is what it does once a day.
func (h *hostile) act() {
	if h.w.core == nil {
		return
	}
	h.w.step(coordinator.GatewaySeen{At: h.w.time(), Gateway: h.name, Present: true})
	for _, p := range h.puppets {
		h.answered(p)
		if len(p.holds) == held {
			p.holds = p.holds[:held-1]
		}
		for len(p.holds) < held {
			p.holds = append(p.holds, p.next)
			p.next += len(h.puppets)
			if p.next >= min(len(h.targets), 400) {
				p.next = p.slot + held*len(h.puppets) // once round: it asks again
			}
		}
		question := coordinator.RelayKey(h.w.net.current(h.targets[p.holds[held-1]].relay).fingerprint())
		for _, r := range h.publish(p) {
			if r.Kind == coordinator.RecordClaim && r.Gateway == h.name && r.Key == question {
				p.asking = true // it has become a claim: budgets let it be asked
				h.asked++
			}
		}
	}
}

// answered notes what the silence since its last question told it.
func (h *hostile) answered(p *puppet) {
	if p.asking {
		p.asking = false
		h.bits += -math.Log2(1 - h.chance(p.holds[len(p.holds)-1]))
	}
}

// chance is the probability, by the weights alone, that one of the others has a
// primary guard that its claim on target i would meet.
func (h *hostile) chance(i int) float64 {
	return 1 - math.Pow(1-h.targets[i].share, float64(numPrimary*h.honest))
}

// ordered: an order is in the seat of slot.
func (h *hostile) ordered(slot int, o *shmproto.Order) { h.puppets[slot].order = o }

// obey answers orders as if it obeyed. An order that names its question is the
// answer to it; a claim that it must leave is not worth to fight for.
func (h *hostile) obey() {
	for _, p := range h.puppets {
		if p.order == nil {
			continue
		}
		o := p.order
		p.order = nil
		p.receipt = shmproto.Receipt{Epoch: o.Epoch, Term: o.Term, Seq: o.Seq, Digest: o.Digest(), Status: shmproto.ReceiptApplied}
		for i := len(p.holds) - 1; i >= 0; i-- {
			if !slices.Contains(o.Exclusions, h.w.net.current(h.targets[p.holds[i]].relay).fingerprint()) {
				continue
			}
			if i == held-1 && p.asking {
				p.asking = false
				h.told++
				h.bits += -math.Log2(h.chance(p.holds[i]))
			}
			p.holds = slices.Delete(p.holds, i, i+1)
		}
		h.publish(p)
	}
}

// publish shows what p claims, and returns what was recorded.
func (h *hostile) publish(p *puppet) []coordinator.Record {
	const always = shmproto.GuardListed | shmproto.GuardFiltered | shmproto.GuardFamilyStated
	p.seq++
	pub := shmproto.Publication{
		Attachment: 1, Incarnation: 1, Seq: p.seq, Member: fmt.Sprintf("m%d", p.slot), State: shmproto.MemberPresent,
		Selection: shmproto.SelectionDefault, NumPrimary: held, PassPercent: 100, TorVersion: "0.4.9.11", Receipt: p.receipt,
	}
	show := func(i int, flags shmproto.GuardFlags) {
		t := &h.targets[i]
		pub.Guards = append(pub.Guards, shmproto.Guard{Fingerprint: h.w.net.current(t.relay).fingerprint(), Addrs: t.addrs, FamilyIDs: t.ids, Flags: always | flags})
	}
	for n, i := range p.holds {
		if n == held-1 {
			show(i, shmproto.GuardPrimary)
			continue
		}
		show(i, shmproto.GuardConfirmed|shmproto.GuardPrimary|shmproto.GuardInUse)
	}
	for i := range 20 { // where it can be sent
		at := len(h.targets) - 1 - i*len(h.puppets) - p.slot
		if at > p.next && !slices.Contains(p.holds, at) {
			show(at, 0)
		}
	}
	return h.w.step(coordinator.Published{At: h.w.time(), Gateway: h.name, Slot: p.slot, Publication: &pub})
}
