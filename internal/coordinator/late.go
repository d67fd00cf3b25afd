package coordinator

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"guardring/shmproto"
)

// Late marks records that a stopped coordinator appended after its successor had read
// its ledger, and returns them. Restore joins them with what the successor holds.
//
// The successor had fenced every region that it had before it read. So a late order never
// counted there, and the member still obeys its successor's. Only in a region that was
// attached later did the late order count, until then; and there the successor had given
// none. Nobody who replays the ledger knows which it was. So a late record takes nothing
// away, and gives nobody an advantage over what the successor holds; what is too much goes
// with what the member shows next, or with its time. Kind by kind:
//
//   - counters: numbers only grow.
//   - member: it cannot make a member leave, or be away for longer than the successor says:
//     with the next start its claims would end. A member that has left is there again only
//     if the successor has said nothing of it. A free exchange that it had, it has had.
//   - forget: nothing is forgotten but what late records alone know.
//   - claim: it adds. Claims that are live by late word alone come after all others, so
//     that nobody moves for them who was there first, as far as the successor knows; and
//     they take nobody's room.
//   - release: it takes back a late claim, and no other.
//   - order: the member keeps both exclusions, but for a late one by which both of two
//     members would move: there their coordinator had seen both, so the late order never
//     counted. What is too little would be a guard taken back within its hold. A number
//     that stands for one set gets no other one.
//   - budget: of two accounts the emptier one, budget by budget: nobody can ask more than
//     either would have let it. What a late exclusion took away is owed for.
//
// Where the successor itself has spoken of a subject since it read, its word stands, and
// of a late order only the number is left; of one that has left or was forgotten since,
// nothing else is. The join does not depend on the order in which late records are
// read, nor on how often: several coordinators may have been late.
func Late(records []Record) []Record {
	all := slices.Clone(records)
	for i := range all {
		all[i].Late = true
	}
	return all
}

// subject is what one record is about.
type subject struct {
	kind   RecordKind
	member Member
	key    Key // of claims
}

func (r *Record) subject() subject {
	s := subject{kind: r.Kind, member: r.member()}
	switch r.Kind {
	case RecordClaim, RecordRelease:
		s.kind, s.key = RecordClaim, r.Key
	}
	return s
}

// lately is what late records say, and of what their successor has spoken since.
type lately struct {
	members map[Member]*tardy
	said    map[subject]bool
	ended   map[Member]bool // has left or was forgotten since
}

// tardy is what late records say of one member.
type tardy struct {
	name   Member
	m      *member // nil: it is none of ours
	known  bool    // one says that it was known
	there  bool    // and one that it had not left
	forget bool

	away, rolledBack, freed time.Time
	left                    time.Time // when it had left last
	shown                   bool      // one says that it was not away
	joined                  uint64
	cloneOf                 Member
	generation              string

	claims   map[Key]*claim // without their member
	released map[Key]bool
	orders   []*Record
	account  *Account

	news int // live claims that it has by late records alone
	kept int // guards that late exclusions took from it
}

// hears takes in a record of the coordinator itself. In a snapshot it says nothing:
// that was read before anything was late.
func (l *lately) hears(r *Record) {
	if r.At.IsZero() {
		return
	}
	l.said[r.subject()] = true
	if r.Kind == RecordForget || r.Kind == RecordMember && r.Gone {
		l.ended[r.member()] = true
	}
}

// add takes in a late record that check has let through.
func (l *lately) add(c *Coordinator, r *Record) error {
	t := l.members[r.member()]
	if t == nil {
		t = &tardy{name: r.member(), claims: map[Key]*claim{}, released: map[Key]bool{}}
		l.members[t.name] = t
	}
	switch r.Kind {
	case RecordMember:
		t.addMember(r)
		c.joins = max(c.joins, r.Joined)
	case RecordForget:
		t.forget = true
	case RecordClaim:
		f, err := r.claimed()
		if err != nil {
			return err
		}
		t.addClaim(r, f)
		c.stamp = max(c.stamp, r.Stamp.Counter)
	case RecordRelease:
		t.released[r.Key] = true
	case RecordOrder:
		if err := r.ordered(); err != nil {
			return err
		}
		t.orders = append(t.orders, r)
	case RecordBudget:
		if err := r.accounted(); err != nil {
			return err
		}
		t.account = t.account.emptier(r.Account, &c.cfg.Budgets)
	default:
		return errUnknownKind
	}
	return nil
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

func (t *tardy) addMember(r *Record) {
	t.known = true
	t.freed = latest(t.freed, r.Freed)
	if r.Gone {
		t.left = latest(t.left, r.Away)
		return
	}
	if !t.there || r.Joined < t.joined {
		t.joined = r.Joined
	}
	t.there = true
	t.shown, t.away = t.shown || r.Away.IsZero(), latest(t.away, r.Away)
	t.rolledBack = latest(t.rolledBack, r.RolledBack)
	t.generation = max(t.generation, r.Generation)
	if !r.CloneOf.IsZero() && (t.cloneOf.IsZero() || r.CloneOf.Compare(t.cloneOf) < 0) {
		t.cloneOf = r.CloneOf
	}
}

func (t *tardy) addClaim(r *Record, f *facts) {
	now := &claim{key: r.Key, stamp: r.Stamp, used: r.Used, left: r.Left, facts: f, due: r.Due, allowed: r.Allowed}
	cl := t.claims[r.Key]
	if cl == nil {
		t.claims[r.Key] = now
		return
	}
	if now.compareLate(cl) < 0 {
		cl, now = now, cl
		t.claims[r.Key] = cl
	}
	cl.used = cl.used || now.used
}

// compareLate orders late claims: of two on one guard the first is taken, and the first
// ones find room. Of what came first and what is live, nobody loses by the choice.
func (cl *claim) compareLate(o *claim) int {
	return cmp.Or(first(cl.live(), o.live()), o.left.Compare(cl.left), cmp.Compare(cl.stamp.Counter, o.stamp.Counter), cl.stamp.At.Compare(o.stamp.At),
		cl.key.Compare(o.key), o.due.Compare(cl.due), o.allowed.Compare(cl.allowed), cl.facts.compare(o.facts))
}

// join joins what was late with what c has of the successor.
func (l *lately) join(c *Coordinator) {
	all := slices.SortedFunc(maps.Values(l.members), func(a, b *tardy) int {
		return cmp.Or(cmp.Compare(a.joined, b.joined), a.name.Compare(b.name))
	})
	for _, t := range all {
		l.joinMember(c, t)
	}
	var late []*claim
	for _, t := range all {
		late = append(late, l.joinClaims(c, t)...)
	}
	slices.SortFunc(late, func(a, b *claim) int {
		return cmp.Or(cmp.Compare(a.stamp.Counter, b.stamp.Counter), a.stamp.At.Compare(b.stamp.At), a.m.name.Compare(b.m.name), a.key.Compare(b.key))
	})
	for _, cl := range late {
		c.stamp++
		cl.stamp.Counter = c.stamp
	}
	l.joinOrders(c, all)
	for _, t := range all {
		if t.m != nil {
			t.joinAccount(c, l.said[subject{kind: RecordForget, member: t.name}])
		}
	}
}

// joinMember finds or enters the member. More names than a gateway may show are none of
// ours: whoever shows one is a newcomer.
func (l *lately) joinMember(c *Coordinator, t *tardy) {
	m := c.byName[t.name]
	if m == nil && t.known && !t.forget && !l.ended[t.name] && len(c.membersOf(t.name.Gateway)) < shmproto.MaxMembers {
		m = c.addMember(t.name)
		m.gone, m.away = true, t.left // until it is found below that it is there
	}
	if t.m = m; m == nil {
		return
	}
	m.freed = latest(m.freed, t.freed)
	if l.said[subject{kind: RecordMember, member: t.name}] || !t.there {
		return
	}
	away := latest(m.away, t.away)
	if m.gone {
		m.gone, m.away, away = false, t.away, t.away
		c.takePlace(m)
	}
	if m.away.IsZero() || t.shown {
		away = time.Time{}
	}
	m.away = away
	m.rolledBack = latest(m.rolledBack, t.rolledBack)
	if m.cloneOf.IsZero() {
		c.setOriginal(m, t.cloneOf)
	}
	m.generation = cmp.Or(m.generation, t.generation)
}

// joinClaims adds to the claims of a member, and returns those that are live, or there,
// by late records alone.
func (l *lately) joinClaims(c *Coordinator, t *tardy) (late []*claim) {
	m := t.m
	if m == nil || m.gone || l.ended[t.name] {
		return nil
	}
	for _, cl := range slices.SortedFunc(maps.Values(t.claims), (*claim).compareLate) {
		own := m.claim(cl.key)
		switch {
		case l.said[subject{RecordClaim, t.name, cl.key}]:
		case own != nil:
			own.facts = own.facts.over(cl.facts)
			own.used = own.used || cl.used
			if !own.live() && cl.live() {
				own.stamp, own.left, own.due, own.allowed = cl.stamp, time.Time{}, cl.due, cl.allowed
				late = append(late, own)
				t.news++
			} else if !own.live() {
				own.left = latest(own.left, cl.left)
			}
		case !t.released[cl.key] && len(m.claims) < c.cfg.MaxClaims && !c.gatewayFull(t.name.Gateway):
			cl.m = m
			i, _ := slices.BinarySearchFunc(m.claims, cl.key, func(o *claim, k Key) int { return o.key.Compare(k) })
			m.claims = slices.Insert(m.claims, i, cl)
			late = append(late, cl)
			if cl.live() {
				t.news++
			}
		}
	}
	return late
}
