package coordinator

import (
	"fmt"
	"slices"
	"time"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

func (s *sim) exclusions() map[Member][]Exclusion {
	all := map[Member][]Exclusion{}
	for _, m := range s.h.core.members {
		all[m.name] = slices.Clone(m.exclusions)
	}
	return all
}

// just fails the test if the judge has found something.
func (s *sim) just(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// leastOrder fails the test if one of the guards that were added to m's order
// would not have become a primary without its exclusion.
func (s *sim) leastOrder(m Member, now map[Member][]Exclusion) {
	s.t.Helper()
	var added []guardstate.Fingerprint
	var all []guardstate.Fingerprint
	for _, x := range now[m] {
		f, _ := x.Key.Relay()
		all = append(all, f)
		if x.Why != WhyAdopted && !slices.ContainsFunc(s.held[m], func(y Exclusion) bool { return y.Key == x.Key }) {
			added = append(added, f)
		}
	}
	core := s.h.core.byName[m]
	for _, f := range added {
		// What the core was told, not what is true: a member may lie.
		tor := &fakeTor{using: 0, pub: shmproto.Publication{NumPrimary: uint8(core.pub.numPrimary)}}
		if tor.pub.NumPrimary == 0 {
			tor.pub.NumPrimary = 3
		}
		held := false
		for i, g := range core.pub.guards {
			if !core.pub.visible(i) {
				continue // no order looks at it
			}
			flags := g.flags &^ shmproto.GuardExcluded
			if core.pub.has(shmproto.MemberAmbiguous) && g.has(shmproto.GuardPossiblePrimary) {
				flags |= shmproto.GuardPrimary
			}
			if g.id == f {
				cl := core.claim(RelayKey(f))
				held = cl != nil && cl.live()
			} else if slices.Contains(all, g.id) {
				flags |= shmproto.GuardExcluded
			}
			tor.pub.Guards = append(tor.pub.Guards, shmproto.Guard{Fingerprint: g.id, Flags: flags})
		}
		tor.settleUp()
		if !held && !slices.Contains(tor.holds(), f) {
			s.t.Fatalf("%s was told not to use %s, which it would not have used", m, f)
		}
	}
}

// settle has everyone obey until nothing changes, and looks at the result.
func (s *sim) settle() {
	for i := range s.tors {
		s.mood[i], s.left[i] = obedient, false
		if s.copy[i] { // the operator has done what he was told
			s.fresh(i)
		}
		for range 12 { // the network grows: enough guards for everyone
			s.tors[i].pub.Guards = append(s.tors[i].pub.Guards, s.freshGuard())
		}
		p := &s.tors[i].pub
		p.Guards = p.Guards[max(0, len(p.Guards)-shmproto.MaxGuards):]
		s.honest(i)
		s.step(GatewaySeen{At: s.now, Gateway: s.tors[i].gateway, Present: true})
	}
	quiet := 0
	for round := 0; quiet < 3; round++ {
		if round > 60 {
			s.t.Fatalf("no rest after %d rounds:\n%s", round, s.conflicts())
		}
		orders := 0
		for range s.h.core.cfg.QuarantineTicks + 1 {
			s.tick(time.Minute)
		}
		if !s.free {
			s.tick(day) // delays, and most budgets, are over then
		}
		for i := range s.tors {
			before := s.h.seats[seatKey{s.tors[i].gateway, s.tors[i].slot}]
			s.obey(i)
			after := s.h.seats[seatKey{s.tors[i].gateway, s.tors[i].slot}]
			if before.Seq != after.Seq {
				orders++
			}
		}
		if quiet++; orders > 0 {
			quiet = 0
		}
	}
	for i, a := range s.tors {
		for _, b := range s.tors[:i] {
			for _, f := range a.holds() {
				for _, g := range b.holds() {
					level := s.related(f, g)
					if level == 0 || !s.feasible(a) || !s.feasible(b) {
						continue
					}
					if level == LevelRelay || !s.mayStay(a, f, b, g) {
						s.t.Fatalf("%s holds %s and %s holds %s at the end, the same %s:\n%s", a.name(), f, b.name(), g, level, s.conflicts())
					}
				}
			}
		}
	}
}

// mayStay: above the relay, the two guards may stay as they are, because one of
// the members has used its guard and is shown to be in conflict; or because it is
// in a stronger conflict, or facts are not agreed on.
func (s *sim) mayStay(a *fakeTor, f guardstate.Fingerprint, b *fakeTor, g guardstate.Fingerprint) bool {
	if !s.free {
		return true // budgets may keep it
	}
	for _, x := range s.h.core.State().Conflicts {
		mine := x.Mover == a.name() && x.Key == RelayKey(f) || x.Mover == b.name() && x.Key == RelayKey(g)
		if mine && x.Told.IsZero() && slices.Contains([]string{ReasonAlreadyUsed, ReasonUsed, ReasonUsedBoth, ReasonUndecided}, x.Reason) {
			return true
		}
	}
	return false
}

// feasible: the member is not short of exclusions, nor of guards, nor of what it
// may spend.
func (s *sim) feasible(t *fakeTor) bool {
	m := s.h.core.byName[t.name()]
	return m.stuck == "" && m.shortages == [len(budgetNames)]shortage{}
}

func (s *sim) conflicts() (text string) {
	for _, x := range s.h.core.State().Conflicts {
		text += fmt.Sprintf("%s: %s(%d) before %s(%d), told %v, answer %d, %s\n", keyName(x.Key), x.Holder, x.Since.Counter, x.Mover, x.Later.Counter, x.Told, x.Answer, x.Reason)
	}
	return text
}
