package coordinator

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// quickSeeds is for long runs: go test -run Quick ./internal/coordinator -quick 2000
var quickSeeds = flag.Int("quick", 16, "how many seeds TestQuickIndex runs")

// TestQuickIndex compares the incremental index with a dumb model: after every
// random event, the model compares everyone with everyone, by everything that is
// shown, and must find the same conflicts and contradictions as the core; and
// what the core noted step by step must be what is so.
func TestQuickIndex(t *testing.T) {
	for seed := range *quickSeeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			newQuick(t, uint64(seed)).run()
		})
	}
}

const quickRelays = 14

// quickNets are addresses and the networks that the model takes them for.
var quickNets = [][2]string{
	{"45.1.0.1", "45.1"}, {"45.1.200.9", "45.1"}, {"45.2.0.1", "45.2"}, {"127.1.0.1", "127.1"}, {"46.1.0.1", "46.1"}, {"::ffff:46.1.7.7", "46.1"},
	{"2a01:4f8::1", "2a01:4f8"}, {"2a01:4f8:77::1", "2a01:4f8"}, {"2a01:4f9::1", "2a01:4f9"}, {"192.0.2.1", ""}, {"10.1.0.1", ""}, {"fe80::1", ""},
}

type quick struct {
	t         *testing.T
	rng       *rand.Rand
	h         *harness
	now       time.Time
	truth     [quickRelays]shmproto.Guard // what is so of each relay
	shown     map[Member]*shmproto.Publication
	seq       shmproto.Seq
	consensus map[guardstate.Fingerprint]map[string]bool // networks; nil: no file
}

func newQuick(t *testing.T, seed uint64) *quick {
	q := &quick{t: t, rng: rand.New(rand.NewPCG(seed, 11)), now: testStart, shown: map[Member]*shmproto.Publication{}}
	levels := []Levels{RelayOnly, WithFamily, WithSubnet, WithFamily | WithSubnet, WithFamily | WithSubnet}
	cfg := Config{Policy: PolicyDisjoint, Levels: levels[q.rng.IntN(len(levels))], MaxClaims: 5, Budgets: generous}
	if q.rng.IntN(3) == 0 {
		cfg.Policy = PolicyObserve
	}
	if q.rng.IntN(3) == 0 {
		cfg.Groups = []Group{{"one", fingerprints(t, "G1+G2+G3")}, {"two", fingerprints(t, "G3+G4")}}
	}
	q.h = newHarness(t, cfg)
	q.h.deep = seed%16 == 0 // TestSimulation restores a core after every step
	for i := range q.truth {
		q.truth[i] = q.facts(i + 1)
	}
	return q
}

// facts draws something that can be said of a relay.
func (q *quick) facts(n int) shmproto.Guard {
	g := shmproto.Guard{Fingerprint: fp(n)}
	for range q.rng.IntN(3) {
		g.Addrs = append(g.Addrs, netip.AddrPortFrom(netip.MustParseAddr(quickNets[q.rng.IntN(len(quickNets))][0]), 443))
	}
	if q.rng.IntN(3) > 0 {
		g.Flags |= shmproto.GuardFamilyStated
		for id := byte(1); id <= 3; id++ {
			if q.rng.IntN(4) == 0 {
				g.FamilyIDs = append(g.FamilyIDs, [32]byte{id})
			}
		}
		for other := 1; other <= quickRelays; other++ {
			if q.rng.IntN(3) == 0 {
				g.Family = append(g.Family, fp(other))
			}
		}
	}
	return g
}

func (q *quick) run() {
	for range 120 {
		q.event()
		q.compare()
		if q.t.Failed() {
			return
		}
	}
}

func (q *quick) event() {
	m := Member{fmt.Sprintf("gw%d", q.rng.IntN(3)), fmt.Sprintf("m%d", q.rng.IntN(2))}
	switch q.rng.IntN(12) {
	default:
		q.publish(m)
	case 0:
		q.now = q.now.Add(time.Duration(q.rng.IntN(40*24)) * time.Hour)
		q.h.step(Tick{q.now})
	case 1:
		q.h.step(GatewaySeen{At: q.now, Gateway: m.Gateway, Present: false})
		for o := range q.shown {
			if o.Gateway == m.Gateway {
				delete(q.shown, o)
			}
		}
	case 2:
		q.h.start()
		clear(q.shown)
		q.readConsensus(q.consensus != nil)
	case 3:
		q.readConsensus(q.rng.IntN(2) == 0)
	}
}

// publish has m show a sample: the same with other flags, or a new one; it may
// lie about some relays.
func (q *quick) publish(m Member) {
	old := q.shown[m]
	p := &shmproto.Publication{Attachment: 1, Incarnation: 1, Seq: q.seq, Member: m.Instance, State: shmproto.MemberPresent,
		Selection: shmproto.SelectionDefault, NumPrimary: 2, PassPercent: 100}
	q.seq++
	switch {
	case q.rng.IntN(25) == 0:
		p.State = shmproto.MemberLeft
		delete(q.shown, m)
		q.step(m, p)
		return
	case old != nil && q.rng.IntN(2) == 0:
		p.Guards = append(p.Guards, old.Guards...)
	default:
		for _, i := range q.rng.Perm(quickRelays)[:3+q.rng.IntN(7)] {
			p.Guards = append(p.Guards, q.truth[i])
		}
	}
	for i := range p.Guards {
		g := &p.Guards[i]
		if q.rng.IntN(12) == 0 { // a lie, or news
			*g = q.facts(number(g.Fingerprint))
		}
		g.Flags = g.Flags&shmproto.GuardFamilyStated | shmproto.GuardListed | shmproto.GuardFiltered
		for _, flag := range []shmproto.GuardFlags{shmproto.GuardPrimary, shmproto.GuardPrimary, shmproto.GuardInUse, shmproto.GuardPossiblePrimary, shmproto.GuardExcluded} {
			if q.rng.IntN(4) == 0 {
				g.Flags |= flag
			}
		}
		if q.rng.IntN(20) == 0 {
			g.Flags |= shmproto.GuardBridge
		}
	}
	for _, flag := range []shmproto.MemberFlags{shmproto.MemberDormant, shmproto.MemberAmbiguous, shmproto.MemberTruncated} {
		if q.rng.IntN(8) == 0 {
			p.Flags |= flag
		}
	}
	q.shown[m] = p
	q.step(m, p)
}

func (q *quick) step(m Member, p *shmproto.Publication) {
	sent := *p
	sent.Guards = slices.Clone(p.Guards)
	q.h.step(Published{At: q.now, Gateway: m.Gateway, Slot: int(m.Instance[1] - '0'), Publication: &sent})
}

func (q *quick) readConsensus(present bool) {
	e := ConsensusRead{At: q.now}
	q.consensus = nil
	if present {
		q.consensus = map[guardstate.Fingerprint]map[string]bool{}
		for i, g := range q.truth {
			if i == 0 || q.rng.IntN(5) == 0 {
				continue // not a guard
			}
			if q.rng.IntN(5) == 0 {
				g = q.facts(i + 1)
			}
			q.consensus[g.Fingerprint] = networks(&g)
			f := Facts{Relay: g.Fingerprint}
			if x := stated(nil, &g).export(g.Fingerprint); x != nil {
				f.Subnets = x.Subnets
			}
			e.Guards = append(e.Guards, f)
		}
	}
	q.h.step(e)
}

// compare fails the test if core and model differ.
func (q *quick) compare() {
	q.t.Helper()
	w := q.model()
	var got, contested, noted []string
	st := q.h.core.State()
	for _, x := range st.Conflicts {
		got = append(got, conflictLine(x.Mover, x.Key, x.Later.Counter, x.Level, x.Holder, x.Over, x.Since.Counter))
	}
	for _, x := range st.Contradictions {
		contested = append(contested, fmt.Sprintf("%s %s %s %s", x.Relay, x.Level, x.One, x.Other))
	}
	slices.Sort(got)
	want := w.conflicts()
	if d := cmp.Diff(want, got); d != "" {
		q.t.Errorf("conflicts (-model +core):\n%s", d)
	}
	slices.Sort(w.contested)
	slices.Sort(contested)
	if d := cmp.Diff(w.contested, contested); d != "" {
		q.t.Errorf("contradictions (-model +core):\n%s", d)
	}
	var shown []string
	for _, x := range st.Conflicts {
		if q.h.core.byName[x.Mover].shown() {
			shown = append(shown, fmt.Sprintf("%s %s %s %s %s", x.Mover, keyName(x.Key), x.Holder, x.Level, x.Over))
		}
	}
	for m := range q.shown {
		for _, cl := range q.h.core.byName[m].claims {
			if cl.noted != (rival{}) {
				noted = append(noted, fmt.Sprintf("%s %s %s %s %s", m, keyName(cl.key), cl.noted.other, cl.noted.level, cl.noted.over))
			}
		}
	}
	slices.Sort(shown)
	slices.Sort(noted)
	if d := cmp.Diff(shown, noted); d != "" {
		q.t.Errorf("what the operator was told (-is +noted):\n%s", d)
	}
}
