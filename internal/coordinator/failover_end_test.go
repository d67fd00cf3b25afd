package coordinator

import (
	"slices"

	"guardring/internal/coordinator/election"
	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// settle has everybody be well until nothing changes, and looks at the result.
func (w *failover) settle() {
	w.t.Helper()
	if w.stops != nil { // who comes then reads what was written late
		for _, p := range w.procs {
			p.drain()
		}
		w.start(0)
		w.start(1)
	}
	w.calm = true
	if w.net != nil {
		for f, r := range w.net.relays {
			r.Listed = true
			w.net.relays[f] = r
		}
		w.consensus()
	}
	for _, g := range w.gates {
		if g.agent != nil {
			g.agent.heal()
			continue
		}
		if g.mood == hostile { // its VM is started anew, with a Tor that is as it should be
			for j := range g.tor.pub.Guards {
				g.tor.pub.Guards[j].Flags = shmproto.GuardListed | shmproto.GuardFiltered
			}
			a := g.tor.pub.Attachment
			g.repair()
			shmproto.SetEnded(g.mem, a)
			shmproto.Renew(g.mem)
			shmproto.SetAttachment(g.mem, a+1)
			g.tor.pub.Attachment, g.ghost = a+1, nil
			g.tor.settle()
			g.start(0)
		}
		if g.copied { // the operator has done what he was told: guardring-guest fresh
			for j := range g.tor.pub.Guards {
				g.tor.pub.Guards[j] = w.freshGuard()
			}
			clear(g.kept)
			g.start(g.writer)
		}
		for j := range g.tor.pub.Guards {
			g.tor.pub.Guards[j].Flags |= shmproto.GuardListed
		}
		g.tor.settle()
		g.dirty = true
	}
	for round := range w.rounds {
		w.now = w.now.Add(w.lull)
		for _, p := range w.procs {
			p.drain()
			for range 3 {
				p.event(election.Tick{Other: p.lease(1 - p.seat)})
				p.drain()
			}
			for n := range w.gates {
				if p.m.State() == election.Acting {
					p.look(n)
					p.drain()
				}
			}
			if p.m.State() == election.Acting {
				p.step(Tick{w.now})
				p.drain()
			}
		}
		for _, g := range w.gates {
			g.bell = g.bell || round%2 == 0
			if g.agent != nil {
				g.agent.round()
				continue
			}
			for range 12 {
				g.advance()
			}
		}
	}
	var acting *proc
	for _, p := range w.procs {
		if p.m.State() == election.Acting {
			if acting != nil {
				w.fail("both coordinators act at the end")
			}
			acting = p
		}
	}
	if acting == nil {
		w.fail("nobody acts at the end")
	}
	w.disjoint(acting)
}

// disjoint looks at the end: orders in force, guards disjoint, or the operator told.
func (w *failover) disjoint(p *proc) {
	w.t.Helper()
	told := map[Key]bool{}
	for _, x := range p.core.State().Conflicts {
		told[x.Key] = true
	}
	for i, g := range w.gates {
		m := p.core.byName[g.tor.name()]
		if g.agent != nil {
			g.agent.whole(m)
			if g.agent.over {
				continue
			}
		}
		if m == nil || !m.shown() {
			w.fail("%s is not known at the end", g.name)
		}
		if want := m.fingerprints(); g.mood == obedient && m.seq > 0 && (g.order == nil || !slices.Equal(g.order.Exclusions, want)) {
			w.fail("%s does not obey its order at the end: %v, want %v", g.name, g.order, want)
		}
		for _, o := range w.gates[:i] {
			for _, f := range g.holds() {
				if slices.Contains(o.holds(), f) && !told[RelayKey(f)] {
					w.fail("%s and %s share guard %s at the end, and nobody was told\n%s\n%s", g.name, o.name, f.Short(), g.agent, o.agent)
				} else if slices.Contains(o.holds(), f) && w.free && g.mood == obedient && o.mood == obedient && m.stuck == "" && p.core.byName[o.tor.name()].stuck == "" {
					w.fail("%s and %s share a guard at the end, although both would move", g.name, o.name)
				}
			}
		}
	}
}

// holds returns the guards that are compared, by what the gateway's Tor does.
func (g *gate) holds() []guardstate.Fingerprint {
	switch {
	case g.agent == nil:
		return g.tor.holds()
	case g.agent.over:
		return nil
	}
	return g.agent.tor.holds()
}
