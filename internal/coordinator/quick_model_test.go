package coordinator

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// The dumb model that TestQuickIndex compares the core with.

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
		for _, s := range said {
			if states(s) {
				all = append(all, s)
			}
		}
		for _, s := range past {
			if states(s) && !slices.ContainsFunc(all, func(o told) bool { return o.by == s.by }) {
				all = append(all, s)
			}
		}
		return all
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
