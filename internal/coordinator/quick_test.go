package coordinator

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
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

// From here on the model.

// networks are those that a guard's addresses are in; none if there are two of a
// kind.
func networks(g *shmproto.Guard) map[string]bool {
	nets := map[string]bool{}
	v4, v6 := 0, 0
	for _, a := range g.Addrs {
		for _, n := range quickNets {
			if n[0] == a.Addr().String() && n[1] != "" && !nets[n[1]] {
				nets[n[1]] = true
				if strings.Contains(n[1], ":") {
					v6++
				} else {
					v4++
				}
			}
		}
	}
	if v4 > 1 || v6 > 1 {
		return map[string]bool{}
	}
	return nets
}

// told is one statement: a nil map is not stated.
type told struct {
	by        Member
	nets      map[string]bool
	ids, list map[string]bool
}

func toldBy(by Member, g *shmproto.Guard) told {
	s := told{by: by}
	if nets := networks(g); len(nets) > 0 {
		s.nets = nets
	}
	if g.Flags&shmproto.GuardFamilyStated != 0 {
		s.ids, s.list = map[string]bool{}, map[string]bool{}
		for _, id := range g.FamilyIDs {
			if len(g.FamilyIDs) <= 2 {
				s.ids[string(id[:])] = true
			}
		}
		for _, f := range g.Family {
			s.list[f.String()] = true
		}
	}
	return s
}

// remembered is what the ledger has of a claim, in the model's terms.
func remembered(r Record) told {
	s := told{by: r.member()}
	if r.Facts == nil {
		return s
	}
	g := shmproto.Guard{FamilyIDs: nil, Family: r.Facts.Family}
	if r.Facts.FamilyStated {
		g.Flags = shmproto.GuardFamilyStated
	}
	for _, k := range r.Facts.FamilyIDs {
		g.FamilyIDs = append(g.FamilyIDs, k.ID)
	}
	for _, k := range r.Facts.Subnets {
		prefix := netip.MustParsePrefix(strings.TrimPrefix(k.String(), "subnet/"))
		for _, n := range quickNets {
			if a := netip.MustParseAddr(n[0]); n[1] != "" && a.Unmap() == a && prefix.Contains(a) {
				g.Addrs = append(g.Addrs, netip.AddrPortFrom(a, 443))
				break
			}
		}
	}
	t := toldBy(s.by, &g)
	return t
}

// model is everything that the model knows at one moment.
type model struct {
	cfg       Config
	claims    []Record
	excluded  map[Member]map[Key]Exclusion
	facts     map[Key]told
	contested []string
}

func (q *quick) model() *model {
	w := &model{cfg: q.h.core.cfg, excluded: map[Member]map[Key]Exclusion{}, facts: map[Key]told{}}
	for _, r := range q.h.core.Snapshot() {
		switch r.Kind {
		case RecordClaim:
			w.claims = append(w.claims, r)
		case RecordOrder:
			w.excluded[r.member()] = map[Key]Exclusion{}
			for _, x := range r.Exclusions {
				w.excluded[r.member()][x.Key] = x
			}
		}
	}
	slices.SortFunc(w.claims, func(a, b Record) int { return int(a.Stamp.Counter) - int(b.Stamp.Counter) })
	members := make([]Member, 0, len(q.shown))
	for m := range q.shown {
		members = append(members, m)
	}
	slices.SortFunc(members, Member.Compare)
	for n := 1; n <= quickRelays; n++ {
		var said []told
		for _, m := range members {
			for _, g := range q.shown[m].Guards {
				if g.Fingerprint == fp(n) && g.Flags&shmproto.GuardBridge == 0 {
					said = append(said, toldBy(m, &g))
				}
			}
		}
		w.believe(fp(n), said, q.consensus)
	}
	return w
}

// believe decides what is believed of a relay.
func (w *model) believe(f guardstate.Fingerprint, said []told, consensus map[guardstate.Fingerprint]map[string]bool) {
	var past []told
	for _, r := range w.claims {
		if r.Key == RelayKey(f) {
			past = append(past, remembered(r))
		}
	}
	pick := func(states func(told) bool) (all []told) {
		for _, from := range [][]told{said, past} {
			for _, s := range from {
				if states(s) {
					all = append(all, s)
				}
			}
			if len(all) > 0 {
				return all
			}
		}
		return nil
	}
	same := func(a, b map[string]bool) bool { return cmp.Equal(a, b) }
	contest := func(l Level, one, other Member) {
		if len(past) > 0 && w.cfg.Levels.Has(l) {
			w.contested = append(w.contested, fmt.Sprintf("%s %s %s %s", f, l, one, other))
		}
	}
	var b told
	if all := pick(func(s told) bool { return s.nets != nil }); len(all) > 0 {
		b.nets = all[0].nets
		for _, s := range all {
			if nets := consensus[f]; consensus != nil && len(nets) > 0 && !same(nets, s.nets) {
				contest(LevelSubnet, s.by, Member{})
				break
			}
			if consensus == nil && !same(s.nets, all[0].nets) {
				b.nets = nil
				contest(LevelSubnet, all[0].by, s.by)
				break
			}
		}
	}
	if all := pick(func(s told) bool { return s.ids != nil }); len(all) > 0 {
		b.ids, b.list = all[0].ids, map[string]bool{}
		named := false
		for _, s := range all {
			if !same(s.ids, all[0].ids) {
				b.ids = nil
			}
			if (!same(s.ids, all[0].ids) || !same(s.list, all[0].list)) && !named {
				named = true
				contest(LevelFamily, all[0].by, s.by)
			}
		}
		for id := range all[0].list {
			if !slices.ContainsFunc(all, func(s told) bool { return !s.list[id] }) {
				b.list[id] = true
			}
		}
	}
	if consensus != nil {
		nets, guard := consensus[f]
		if b.nets = nets; !guard {
			b = told{}
		}
	}
	w.facts[RelayKey(f)] = b
}

// near returns the strongest level at which two relays are the same.
func (w *model) near(a, b Key) Level {
	common := func(x, y map[string]bool) bool {
		for k := range x {
			if y[k] {
				return true
			}
		}
		return false
	}
	fa, fb := w.facts[a], w.facts[b]
	f, _ := a.Relay()
	g, _ := b.Relay()
	grouped := slices.ContainsFunc(w.cfg.Groups, func(x Group) bool { return slices.Contains(x.Relays, f) && slices.Contains(x.Relays, g) })
	switch {
	case a == b:
		return LevelRelay
	case w.cfg.Levels.Has(LevelFamily) && (grouped || common(fa.ids, fb.ids) || fa.list[g.String()] && fb.list[f.String()]):
		return LevelFamily
	case w.cfg.Levels.Has(LevelSubnet) && common(fa.nets, fb.nets):
		return LevelSubnet
	}
	return 0
}

// conflicts compares everyone with everyone.
func (w *model) conflicts() []string {
	var all []string
	for _, mine := range w.claims {
		if !mine.Left.IsZero() {
			continue
		}
		me := mine.member()
		mineOrder, told := w.excluded[me][mine.Key]
		bestRank, bestLevel, best := 0, Level(0), ""
		for _, r := range w.claims { // the earlier first
			level := w.near(mine.Key, r.Key)
			if level == 0 || r.member() == me {
				continue
			}
			x, leaving := w.excluded[r.member()][r.Key]
			spared := leaving && x.For == me || level > LevelRelay && w.yielded(r.member(), me, mine.Key)
			yields := told && mineOrder.For == r.member() || level > LevelRelay && w.yielded(me, r.member(), r.Key)
			first := mine.Stamp.Counter < r.Stamp.Counter
			if spared && (!yields || first) || first && !told && !yields {
				continue
			}
			rank := 0 // 1 tolerated, 3 retained, 4 reserved, 5 held
			switch live := r.Left.IsZero(); {
			case live && !leaving:
				rank = 5
			case live && told:
				rank = 4
			case r.Used && mine.Used:
				rank = 1
			case r.Used:
				rank = 3
			}
			if level > LevelRelay && mine.Used {
				rank = min(rank, 1)
			}
			if spared || first && !told { // and yields: neither is told
				rank = 1
			}
			if rank > bestRank || rank > 0 && rank == bestRank && level < bestLevel {
				bestRank, bestLevel = rank, level
				best = conflictLine(me, mine.Key, mine.Stamp.Counter, level, r.member(), r.Key, r.Stamp.Counter)
			}
		}
		if best != "" {
			all = append(all, best)
		}
	}
	slices.Sort(all)
	return all
}

// yielded: m gave up some guard in favour of k, which to had.
func (w *model) yielded(m, to Member, k Key) bool {
	for _, x := range w.excluded[m] {
		if x.For == to && (x.Over == k || x.Over.IsZero() && x.Key == k) {
			return true
		}
	}
	return false
}

func conflictLine(mover Member, k Key, stamp uint64, l Level, holder Member, over Key, since uint64) string {
	if over.IsZero() {
		over = k
	}
	return fmt.Sprintf("%s %s(%d) %s %s %s(%d)", mover, keyName(k), stamp, l, holder, keyName(over), since)
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
