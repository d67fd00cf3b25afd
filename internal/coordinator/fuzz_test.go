package coordinator

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// FuzzEvents feeds the core any stream of events, as hostile gateways and a
// confused runner could make it, kills it now and then, and checks every
// invariant after each. It must neither panic nor lose what it saved.
func FuzzEvents(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19})
	// Two members with the same guards, a tick, a restart, both again.
	same := []byte{0, 0, 0, 1, 1, 0, 3, 100, 4, 1, 0x2e, 2, 0x0e, 3, 0x0e, 4, 0x06, 1}
	other := []byte{0, 1, 0, 1, 1, 0, 3, 100, 4, 1, 0x2e, 5, 0x0e, 6, 0x0e, 7, 0x06, 1}
	seed := append(append([]byte{}, same...), other...)
	f.Add(append(append(append(seed, 1, 9), 4), other...))
	// A copy of a sample that is large enough to be known by, a fresh one, a restart.
	sample := func(gateway, first byte) []byte {
		b := []byte{0, gateway, 0, 1, 1, 0, 1, 1, 0, 3, 100, 0, 9}
		for i := range byte(9) {
			b = append(b, first+i, 0x2e, 0)
		}
		return append(b, 0, 0, 0)
	}
	f.Add(slices.Concat(sample(0, 0), sample(1, 0), []byte{5}, sample(1, 0), sample(1, 5), sample(0, 0), sample(1, 0)))
	f.Fuzz(func(t *testing.T, data []byte) {
		in := &stream{data: data}
		policy := PolicyDisjoint
		if len(data)%5 == 0 {
			policy = PolicyObserve
		}
		cfg := Config{Policy: policy, MaxClaims: 4, MaxExclusions: 5, ViolationLimit: 3}
		if len(data)%3 == 0 {
			cfg = atWill(cfg)
		}
		h := newHarness(t, cfg)
		now := testStart
		for range 40 {
			if in.empty() {
				return
			}
			gateway := string(rune('a' + in.below(3)))
			switch in.below(7) {
			case 0, 1:
				h.step(Published{At: now, Gateway: gateway, Slot: in.below(3), Publication: in.publication(h, gateway)})
			case 2:
				// Also backwards: the host's clock is set.
				now = now.Add(time.Duration(in.below(256)-20) * time.Duration(in.below(256)) * time.Hour)
				h.step(Tick{now})
			case 3:
				h.step(GatewaySeen{At: now, Gateway: gateway, Present: in.below(2) == 0})
			case 4:
				h.step(Violated{At: now, Gateway: gateway, Reason: "fuzz"})
			case 5:
				h.start()
				if in.below(2) == 1 {
					h.step(ConsensusRead{At: now, Guards: in.consensus()})
				}
			case 6:
				h.step(Allowed{At: now, Gateway: gateway, Instance: [...]string{"", "default", "apps"}[in.below(3)]})
			}
		}
	})
}

// stream turns bytes into choices.
type stream struct{ data []byte }

func (s *stream) empty() bool { return len(s.data) == 0 }

func (s *stream) byte() byte {
	if s.empty() {
		return 0
	}
	b := s.data[0]
	s.data = s.data[1:]
	return b
}

func (s *stream) below(n int) int { return int(s.byte()) % n }

// publication makes one that shmproto could have let through, and some that it
// would not (repeated guards): the core does not rely on it.
func (s *stream) publication(h *harness, gateway string) *shmproto.Publication {
	p := &shmproto.Publication{
		Attachment:  shmproto.Attachment(s.below(3)),
		Incarnation: shmproto.Incarnation(s.below(2)),
		Seq:         shmproto.Seq(s.below(4)),
		Member:      [...]string{"default", "apps", "", "x", "y"}[s.below(5)],
		State:       shmproto.MemberState(s.below(5)),
		Selection:   shmproto.Selection(s.below(4)),
		Flags:       shmproto.MemberFlags(s.byte()),
		NumPrimary:  uint8(s.below(8)),
		PassPercent: uint8(s.below(101)),
	}
	if s.below(2) == 0 { // mostly ordinary, or nothing is ever ordered
		p.State, p.Selection, p.Flags, p.PassPercent = shmproto.MemberPresent, shmproto.SelectionDefault, 0, 100
	}
	for range s.below(12) {
		g := shmproto.Guard{Fingerprint: fp(1 + s.below(16)), Flags: shmproto.GuardFlags(s.byte())}
		more := s.byte()
		g.Flags |= shmproto.GuardFlags(more&1) << 8
		if more&2 != 0 {
			s.facts(&g)
		}
		p.Guards = append(p.Guards, g)
	}
	if s.below(8) == 1 {
		p.Layer2 = []guardstate.Fingerprint{fp(1 + s.below(4)), fp(1 + s.below(4))}
	}
	o := h.seats[seatKey{gateway, s.below(3)}]
	p.Receipt = shmproto.Receipt{Epoch: o.Epoch, Term: o.Term, Seq: o.Seq, Digest: o.Digest(), Status: shmproto.ReceiptStatus(s.below(5)), Reason: shmproto.ReceiptReason(s.byte())}
	return p
}

// facts has the guard state something, also what no codec would let through: out
// of order and repeated.
func (s *stream) facts(g *shmproto.Guard) {
	for range s.below(5) {
		a := netip.MustParseAddr(quickNets[s.below(len(quickNets))][0])
		g.Addrs = append(g.Addrs, netip.AddrPortFrom(a, 443))
	}
	if s.below(3) > 0 {
		g.Flags |= shmproto.GuardFamilyStated
	}
	for range s.below(4) {
		g.FamilyIDs = append(g.FamilyIDs, [32]byte{byte(s.below(3))})
	}
	for range s.below(6) {
		g.Family = append(g.Family, fp(1+s.below(16)))
	}
}

// consensus is what a runner reads from a file that somebody else wrote.
func (s *stream) consensus() (all []Facts) {
	for range s.below(6) {
		g := shmproto.Guard{Fingerprint: fp(1 + s.below(16))}
		s.facts(&g)
		x := Facts{Relay: g.Fingerprint}
		for _, a := range g.Addrs {
			if k, ok := SubnetKey(a.Addr()); ok {
				x.Subnets = append(x.Subnets, k)
			}
		}
		all = append(all, x)
	}
	return all
}
