package simulation

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"guardring/shmproto"
)

// gateway is one honest gateway: a Tor and the agent that speaks for it.
//
// The agent is the real one's outer behaviour: it publishes when what is
// compared changed, obeys the newest order after obeyAfter, answers "applied",
// and with a join gate lets streams wait after its first start until an order
// answers that start and is applied, or the limit is over. Behind the gate
// nothing is in use (the core counts it so, too).
type gateway struct {
	number   int
	name     string
	tor      *tor
	sessions *rand.Rand // when it is on and off
	on       bool
	session  int // counts its starts
	gated    bool
	ages     time.Duration // when a guard of its sample ends next, as the queue knows

	seq     shmproto.Seq
	last    shmproto.Publication // as published
	order   *shmproto.Order      // in its seat
	receipt shmproto.Receipt
	pending bool // it has not obeyed yet

	// What it went through.
	changedUsed, changedUnused, changedOthers int
	usedGuards                                []identity
}

const (
	obeyAfter   = 10 * time.Second
	gateTimeout = 90 * time.Second
)

func newGateway(number int, net *population, seed uint64) *gateway {
	return &gateway{
		number: number, name: fmt.Sprintf("gateway%d", number),
		tor:      newTor(rand.New(rand.NewPCG(seed, 1000+uint64(number))), net),
		sessions: rand.New(rand.NewPCG(seed, 2000+uint64(number))),
	}
}

// publication is what the agent shows now.
func (g *gateway) publication(net *population) shmproto.Publication {
	p := shmproto.Publication{
		Attachment: shmproto.Attachment(g.session), Incarnation: shmproto.Incarnation(1000*g.number + g.session),
		Member: "default", State: shmproto.MemberPresent, Selection: shmproto.SelectionDefault,
		NumPrimary: numPrimary, PassPercent: 100, TorVersion: "0.4.9.11", Receipt: g.receipt,
		Guards: make([]shmproto.Guard, len(g.tor.sample)),
	}
	if g.gated {
		p.Flags |= shmproto.MemberGated
	}
	for i := range g.tor.sample {
		s := &g.tor.sample[i]
		o := &p.Guards[i]
		*o = shmproto.Guard{Fingerprint: s.fp, Addrs: net.addrs[s.id.relay], FamilyIDs: net.ids[s.id.relay], Flags: shmproto.GuardFamilyStated}
		for _, f := range [...]struct {
			cond bool
			flag shmproto.GuardFlags
		}{
			{s.isConf, shmproto.GuardConfirmed}, {s.listed, shmproto.GuardListed | shmproto.GuardFiltered},
			{s.primary, shmproto.GuardPrimary}, {s.inUse, shmproto.GuardInUse}, {s.excluded, shmproto.GuardExcluded},
			{!net.up(s.id), shmproto.GuardDown},
		} {
			if f.cond {
				o.Flags |= f.flag
			}
		}
	}
	return p
}

// publish returns the publication if it differs from the last one.
func (g *gateway) publish(net *population) (*shmproto.Publication, bool) {
	p := g.publication(net)
	same := p.Flags == g.last.Flags && p.Incarnation == g.last.Incarnation &&
		slices.EqualFunc(p.Guards, g.last.Guards, func(a, b shmproto.Guard) bool { return a.Fingerprint == b.Fingerprint && a.Flags == b.Flags })
	if same && p.Receipt == g.last.Receipt {
		return nil, false
	}
	if !same {
		g.seq++
	}
	p.Seq = g.seq
	g.last = p
	return &p, true
}

// obey applies the order in the seat and answers it.
func (g *gateway) obey(now time.Duration) {
	if !g.pending || g.order == nil {
		return
	}
	g.pending = false
	used, unused, others := g.tor.exclude(g.order.Exclusions)
	g.changedUsed += used
	g.changedUnused += unused
	g.changedOthers += others
	g.receipt = shmproto.Receipt{Epoch: g.order.Epoch, Term: g.order.Term, Seq: g.order.Seq, Digest: g.order.Digest(), Status: shmproto.ReceiptApplied}
	g.update(now)
}

// mayOpen: an order answers this start, and it is applied.
func (g *gateway) mayOpen() bool {
	o := g.order
	return g.gated && o != nil && !g.pending && uint64(o.Answers.Incarnation) == uint64(1000*g.number+g.session)
}

// update brings the Tor up to now and notes what it used.
func (g *gateway) update(now time.Duration) {
	g.tor.update(now, g.on && !g.gated)
	for i := range g.tor.sample {
		s := &g.tor.sample[i]
		if s.inUse && !slices.Contains(g.usedGuards, s.id) {
			g.usedGuards = append(g.usedGuards, s.id)
		}
	}
}
