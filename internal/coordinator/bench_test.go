package coordinator

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// crowd makes n gateways of one member with 60 guards each, out of as many
// relays as leave a guard's share of conflicts the same for every n.
func crowd(b testing.TB, n int) (*Coordinator, []*fakeTor) {
	b.Helper()
	cfg := Config{Policy: PolicyDisjoint, Epoch: testEpoch}
	if _, ok := b.(*testing.B); ok {
		cfg = atWill(cfg) // or the same few members would soon have spent everything
	}
	return crowdOf(b, n, cfg)
}

// crowdOf is crowd with a configuration of the caller's.
func crowdOf(b testing.TB, n int, cfg Config) (*Coordinator, []*fakeTor) {
	b.Helper()
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	c, err := New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	tors := make([]*fakeTor, n)
	for i := range tors {
		t := randomTor(rng, fmt.Sprintf("gw%05d", i), 60, 60*n)
		tors[i] = t
		for j := range t.pub.Guards {
			describeLike(&t.pub.Guards[j], j < 6)
		}
		p := t.pub
		c.Step(Published{At: testStart, Gateway: t.gateway, Publication: &p})
	}
	return c, tors
}

// randomTor makes a Tor with a sample of size guards out of relays.
func randomTor(rng *rand.Rand, gateway string, size, relays int) *fakeTor {
	t := &fakeTor{gateway: gateway, using: 1 + rng.IntN(2), pub: shmproto.Publication{Attachment: 1, Incarnation: shmproto.Incarnation(rng.Uint64()), Member: "default",
		State: shmproto.MemberPresent, Selection: shmproto.SelectionDefault, NumPrimary: 3, PassPercent: 100}}
	seen := map[int]bool{}
	for len(t.pub.Guards) < size {
		n := 1 + rng.IntN(relays)
		if seen[n] {
			continue
		}
		seen[n] = true
		t.pub.Guards = append(t.pub.Guards, shmproto.Guard{Fingerprint: fp(n), Flags: shmproto.GuardListed | shmproto.GuardFiltered})
	}
	t.settle()
	return t
}

// BenchmarkStep measures one changed publication of 60 guards: a member's second
// primary goes and comes, each time another member's.
func BenchmarkStep(b *testing.B) { benchmarkStep(b, atWill(Config{})) }

// BenchmarkStepBudgets is BenchmarkStep with budgets, so large that nobody spends
// them: the claim that comes is charged, and the account saved.
func BenchmarkStepBudgets(b *testing.B) {
	much := Budget{Join: maxTokens, Every: time.Minute, Burst: maxTokens}
	benchmarkStep(b, Config{Budgets: Budgets{NewClaims: much, SampleChanges: much, ForcedUnused: much, ForcedUsed: much}})
}

func benchmarkStep(b *testing.B, cfg Config) {
	cfg.Policy, cfg.Epoch = PolicyDisjoint, testEpoch
	for _, n := range []int{64, 10_000} {
		b.Run(fmt.Sprintf("gateways=%d", n), func(b *testing.B) {
			c, tors := crowdOf(b, n, cfg)
			order := rand.New(rand.NewPCG(2, 2)).Perm(n)
			b.ReportAllocs()
			i := 0
			var p shmproto.Publication // as the runner's: one buffer, filled by the reader of the region
			for b.Loop() {
				b.StopTimer()
				t := tors[order[i%n]]
				i++
				t.pub.Seq++
				for j := range t.pub.Guards { // the unused primaries change places with their successors
					f := &t.pub.Guards[j].Flags
					if *f&shmproto.GuardInUse == 0 {
						*f ^= shmproto.GuardPrimary
						break
					}
				}
				refill(&p, &t.pub)
				b.StartTimer()
				c.Step(Published{At: testStart, Gateway: t.gateway, Publication: &p})
			}
		})
	}
}

// refill copies a publication into a buffer, as decoding does: nothing of it is
// anywhere else.
func refill(p, from *shmproto.Publication) {
	guards := p.Guards
	*p = *from
	p.Guards = slices.Grow(guards[:0], len(from.Guards))[:len(from.Guards)]
	for i := range p.Guards {
		g := &p.Guards[i]
		addrs, family := append(g.Addrs[:0], from.Guards[i].Addrs...), append(g.Family[:0], from.Guards[i].Family...)
		*g = from.Guards[i]
		g.Addrs, g.Family = addrs, family
	}
}

// BenchmarkStepConflict measures one publication that makes a conflict, and its
// order.
func BenchmarkStepConflict(b *testing.B) {
	for _, n := range []int{64, 10_000} {
		b.Run(fmt.Sprintf("gateways=%d", n), func(b *testing.B) {
			c, tors := crowd(b, n)
			i := 0
			orders := 0
			for b.Loop() {
				// A newcomer comes with the first guard of another, and leaves.
				t := tors[i%n]
				i++
				p := tors[(i+7)%n].pub
				p.Member, p.Seq = "newcomer", shmproto.Seq(i)
				p.Guards = append([]shmproto.Guard{t.pub.Guards[0]}, p.Guards[10:]...)
				p.Guards[0].Flags |= shmproto.GuardPrimary
				p.State = shmproto.MemberPresent
				orders += len(c.Step(Published{At: testStart, Gateway: t.gateway, Slot: 1, Publication: &p}).Orders)
				p.State = shmproto.MemberLeft
				c.Step(Published{At: testStart, Gateway: t.gateway, Slot: 1, Publication: &p})
			}
			b.ReportMetric(float64(orders)/float64(i), "orders/op")
		})
	}
}

// TestBytesPerMember holds the promise of 16 KiB per member.
func TestBytesPerMember(t *testing.T) {
	const n = 10_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	c, tors := crowd(t, n)
	for i := range tors {
		tors[i] = nil // the test's own
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	per := (after.HeapAlloc - before.HeapAlloc) / n
	t.Logf("%d bytes per member", per)
	if per > 16<<10 {
		t.Errorf("%d bytes per member, promised are at most 16 KiB", per)
	}
	runtime.KeepAlive(c)
}

// describeLike gives a guard what agents state: an address of each kind, and for
// those that can matter next a family, here of two.
func describeLike(g *shmproto.Guard, matters bool) {
	n := number(g.Fingerprint)
	g.Addrs = []netip.AddrPort{
		netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(11 + n%79), byte(n / 79), 0, 1}), 443),
		netip.AddrPortFrom(netip.AddrFrom16([16]byte{0x2a, 1, byte(n >> 8), byte(n)}), 443),
	}
	if matters {
		g.Flags |= shmproto.GuardFamilyStated
		g.Family = []guardstate.Fingerprint{fp(n &^ 1), fp(n | 1)}
	}
}

// BenchmarkStepHostile measures what a gateway can make of one publication: 60
// guards, all facts changed, as much family as there is room for, and all the
// claims that it may have in the networks of others.
func BenchmarkStepHostile(b *testing.B) {
	for _, n := range []int{64, 10_000} {
		b.Run(fmt.Sprintf("gateways=%d", n), func(b *testing.B) {
			c, tors := crowd(b, n)
			rng := rand.New(rand.NewPCG(3, 3))
			t := tors[0]
			i := 0
			for b.Loop() {
				b.StopTimer()
				i++
				p := t.pub
				p.Seq += shmproto.Seq(i)
				p.Guards = slices.Clone(p.Guards)
				for j := range p.Guards {
					g := &p.Guards[j]
					g.Flags |= shmproto.GuardPrimary | shmproto.GuardFamilyStated
					g.Addrs, g.Family = nil, nil
					for k := range 2 {
						g.Addrs = append(g.Addrs, netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(11 + i%79), byte(rng.IntN(40)), byte(k), 1}), 443))
					}
					g.Addrs[1] = g.Addrs[0]
					from := rng.IntN(1 << 20)
					for k := range 26 { // 60 times that is all the room
						g.Family = append(g.Family, fp(from+k))
					}
				}
				b.StartTimer()
				c.Step(Published{At: testStart, Gateway: t.gateway, Publication: &p})
			}
		})
	}
}
