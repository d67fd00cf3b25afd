package coordinator

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// TestSimulation lets gateways live for months of virtual time: they draw guards
// from a small network, obey late or not at all, restart, go away, leave, lie;
// the coordinator is killed between any two effects and restored from what was
// durable by then. After every step the invariants must hold; at the end, when
// everyone obeys, all guards in use or primary must be disjoint.
func TestSimulation(t *testing.T) {
	seeds := 40
	if *soak > 0 {
		seeds = *soak
	}
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			newSim(t, uint64(seed)).run()
		})
	}
}

// soak is for long runs: go test -run Simulation ./internal/coordinator -soak 5000
var soak = flag.Int("soak", 0, "how many seeds TestSimulation runs (0: a few)")

type sim struct {
	t    *testing.T
	rng  *rand.Rand
	h    *harness
	now  time.Time
	tors []*fakeTor
	mood []mood
	left []bool
	copy []bool                 // its state is, or was once, copied from another's
	held map[Member][]Exclusion // the exclusions before the present step
	next int                    // the next relay that is nobody's
	free bool                   // nothing is limited or delayed

	pardons bool // the operator allows more now and then
	judge   *Judge
}

type mood int

const (
	obedient mood = iota
	deaf          // never answers
	hostile       // publishes anything
)

func newSim(t *testing.T, seed uint64) *sim {
	rng := rand.New(rand.NewPCG(seed, 7))
	s := &sim{t: t, rng: rng, now: testStart, held: map[Member][]Exclusion{}, next: 10_000}
	cfg := Config{Policy: PolicyDisjoint, Hold: 120 * day, Retention: 60 * day}
	if s.free = seed%2 == 0; s.free {
		cfg = atWill(cfg)
	}
	cfg.Levels = [...]Levels{RelayOnly, WithFamily, WithFamily | WithSubnet}[seed/2%3]
	cfg.Groups = []Group{{Name: "one", Relays: []guardstate.Fingerprint{fp(1), fp(5), fp(9)}}}
	s.pardons = seed%4 == 3
	s.h = newHarness(t, cfg)
	s.judge = NewJudge(s.h.core)
	n := 2 + rng.IntN(7)
	relays := 30 + rng.IntN(60)
	for i := range n {
		gateway := fmt.Sprintf("gw%d", i/2) // two members in a gateway
		tor := randomTor(rng, gateway, min(20, relays-1), relays)
		tor.slot = i % 2
		for j := range tor.pub.Guards {
			describe(&tor.pub.Guards[j])
		}
		tor.pub.Member = fmt.Sprintf("m%d", i)
		s.tors = append(s.tors, tor)
		m := obedient
		switch rng.IntN(6) {
		case 0:
			m = deaf
		case 1:
			m = hostile
		}
		s.mood = append(s.mood, m)
		s.left = append(s.left, false)
		s.copy = append(s.copy, false)
	}
	return s
}

func (s *sim) run() {
	for range 150 {
		s.random()
	}
	s.settle()
}

// random does one thing that can happen.
func (s *sim) random() {
	i := s.rng.IntN(len(s.tors))
	tor := s.tors[i]
	switch s.rng.IntN(17) {
	case 0, 1, 2, 3:
		s.obey(i)
	case 4:
		s.tick(time.Duration(1+s.rng.IntN(300)) * time.Second)
	case 5:
		s.tick(time.Duration(s.rng.IntN(20)) * day)
	case 6: // circuits come and go
		tor.using = s.rng.IntN(4)
		s.settleTor(i)
		s.publish(i)
	case 7: // a guard is unlisted or listed again, or leaves the sample for a new one
		j := s.rng.IntN(len(tor.pub.Guards))
		if s.rng.IntN(3) == 0 {
			tor.pub.Guards = slices.Delete(tor.pub.Guards, j, j+1)
			tor.pub.Guards = append(tor.pub.Guards, s.freshGuard())
		} else {
			tor.pub.Guards[j].Flags ^= shmproto.GuardListed
		}
		s.settleTor(i)
		s.publish(i)
	case 8: // the agent restarts and does not know the primaries
		tor.pub.Incarnation++
		tor.pub.Seq = 0
		tor.pub.Receipt = shmproto.Receipt{}
		before := slices.Clone(tor.pub.Guards)
		tor.pub.Flags |= shmproto.MemberAmbiguous
		for j := range tor.pub.Guards {
			if f := &tor.pub.Guards[j].Flags; *f&shmproto.GuardPrimary != 0 {
				*f = *f&^(shmproto.GuardPrimary|shmproto.GuardInUse) | shmproto.GuardPossiblePrimary
			}
		}
		s.publish(i)
		tor.pub.Flags &^= shmproto.MemberAmbiguous
		tor.pub.Guards = before
		s.publish(i)
	case 9:
		s.step(GatewaySeen{At: s.now, Gateway: tor.gateway, Present: s.rng.IntN(2) == 0})
	case 10:
		s.left[i] = !s.left[i]
		s.publish(i)
	case 11:
		s.kill(s.rng.IntN(4))
	case 12:
		for range s.rng.IntN(15) {
			s.step(Violated{At: s.now, Gateway: tor.gateway, Reason: "checksum"})
		}
	case 14:
		if s.pardons {
			s.step(Allowed{At: s.now, Gateway: tor.gateway})
		}
	case 13:
		if s.mood[i] == hostile {
			for j := range tor.pub.Guards {
				g := &tor.pub.Guards[j]
				g.Flags = shmproto.GuardFlags(s.rng.IntN(1 << 8))
				if s.rng.IntN(4) == 0 { // the family and the network of another
					lie := shmproto.Guard{Fingerprint: fp(1 + s.rng.IntN(60))}
					describe(&lie)
					g.Addrs, g.Family, g.FamilyIDs = lie.Addrs, lie.Family, lie.FamilyIDs
					g.Flags |= shmproto.GuardFamilyStated
				}
			}
			tor.pub.NumPrimary = uint8(s.rng.IntN(10))
			tor.pub.Flags = shmproto.MemberFlags(s.rng.IntN(1 << 7))
			s.publish(i)
			s.honest(i)
		}
	case 15: // its data directory is restored, from its own copy or another's
		s.copy[i] = true
		s.anew(i, slices.Clone(s.tors[s.rng.IntN(len(s.tors))].pub.Guards))
	case 16: // guardring-guest fresh
		s.fresh(i)
	}
}

// anew starts member i with another state.
func (s *sim) anew(i int, guards []shmproto.Guard) {
	p := &s.tors[i].pub
	p.Guards = guards
	p.Incarnation++
	p.Seq, p.Receipt = 0, shmproto.Receipt{}
	s.settleTor(i)
	s.publish(i)
}

func (s *sim) fresh(i int) {
	var guards []shmproto.Guard
	for range 20 {
		guards = append(guards, s.freshGuard())
	}
	s.anew(i, guards)
}

// honest makes a member that has lied show its true state again.
func (s *sim) honest(i int) {
	p := &s.tors[i].pub
	p.NumPrimary, p.Flags = 3, 0
	for j := range p.Guards {
		p.Guards[j].Flags = p.Guards[j].Flags&shmproto.GuardExcluded | shmproto.GuardListed | shmproto.GuardFiltered
		describe(&p.Guards[j])
	}
	s.settleTor(i)
}

func (s *sim) settleTor(i int) { s.tors[i].settle() }

func (s *sim) freshGuard() shmproto.Guard {
	s.next++
	g := shmproto.Guard{Fingerprint: fp(s.next), Flags: shmproto.GuardListed | shmproto.GuardFiltered}
	describe(&g)
	return g
}

// describe gives a guard its addresses and family: relays share networks by
// number, every second one has a partner in a mutual list, some an identity.
func describe(g *shmproto.Guard) {
	n := number(g.Fingerprint)
	g.Flags |= shmproto.GuardFamilyStated
	g.Addrs = []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{11, byte(n % 47), 0, byte(n)}), 443)}
	g.Family, g.FamilyIDs = nil, nil
	if n%4 < 2 {
		g.Family = []guardstate.Fingerprint{fp(n ^ 1)}
	}
	if n%5 == 0 {
		g.FamilyIDs = [][32]byte{{byte(n % 35)}}
	}
}

// related returns the strongest of the levels that are compared at which two
// relays are the same.
func (s *sim) related(f, g guardstate.Fingerprint) Level {
	levels := s.h.core.cfg.Levels
	a, b := number(f), number(g)
	inGroup := func(f guardstate.Fingerprint) bool { return slices.Contains(s.h.cfg.Groups[0].Relays, f) }
	switch {
	case a == b:
		return LevelRelay
	case levels.Has(LevelFamily) && (a^1 == b && a%4 < 2 || a%5 == 0 && b%5 == 0 && a%35 == b%35 || inGroup(f) && inGroup(g)):
		return LevelFamily
	case levels.Has(LevelSubnet) && a%47 == b%47:
		return LevelSubnet
	}
	return 0
}

// event returns what member i shows now.
func (s *sim) event(i int) Published {
	tor := s.tors[i]
	tor.pub.Seq++
	p := tor.pub
	p.Guards = slices.Clone(p.Guards)
	if s.left[i] {
		p.State, p.Guards = shmproto.MemberLeft, nil
		for j := range tor.pub.Guards { // leaving restores everything
			tor.pub.Guards[j].Flags &^= shmproto.GuardExcluded
		}
		s.settleTor(i)
	}
	return Published{At: s.now, Gateway: tor.gateway, Slot: tor.slot, Publication: &p}
}

func (s *sim) publish(i int) { s.step(s.event(i)) }

// obey lets member i do what its order says, if it is of that mind.
func (s *sim) obey(i int) {
	tor := s.tors[i]
	o, ok := s.h.seats[seatKey{tor.gateway, tor.slot}]
	if ok && o.Member == tor.pub.Member && s.mood[i] != deaf && !s.left[i] {
		tor.obey(o)
	}
	s.publish(i)
}

func (s *sim) tick(d time.Duration) {
	s.now = s.now.Add(d)
	s.step(Tick{s.now})
}

// kill ends the coordinator at an effect boundary of a step and starts another
// one: 0 before anything is durable, 1 with a part of the records durable, 2
// before the orders are written, 3 after the first order.
func (s *sim) kill(boundary int) {
	i := s.rng.IntN(len(s.tors))
	var e Event
	switch n := s.rng.IntN(6); {
	case n == 0: // what is due after a delay, a refill, a hold
		s.now = s.now.Add(time.Duration(s.rng.IntN(60)) * time.Hour)
		e = Tick{s.now}
	case n == 1 && s.pardons:
		e = Allowed{At: s.now, Gateway: s.tors[i].gateway}
	default:
		e = s.event(i)
	}
	r := s.h.stepCore(e)
	switch boundary {
	case 0:
		r.Save = nil
	case 1:
		r.Save = r.Save[:s.rng.IntN(len(r.Save)+1)]
	}
	s.h.keep(r.Save)
	if boundary == 3 && len(r.Orders) > 0 {
		s.h.write(r.Orders[:1])
	}
	if s.rng.IntN(3) == 0 { // the next one compacts the ledger
		s.h.saved = s.h.restored(s.h.saved).Snapshot()
	}
	s.h.start()
	s.just(s.judge.Restored(s.h.core, e, r.Notices))
	s.held = s.exclusions()
	for i := range s.tors { // it reads every slot
		s.publish(i)
	}
}

// step does one event and checks the decisions.
func (s *sim) step(e Event) Ready {
	s.t.Helper()
	r := s.h.step(e)
	s.just(s.judge.Step(s.h.core, e, r))
	now := s.exclusions()
	for _, o := range r.Orders {
		s.leastOrder(Member{o.Gateway, o.Order.Member}, now)
	}
	s.held = now
	return r
}
