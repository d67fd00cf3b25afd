package coordinator

import (
	"slices"
	"time"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// member is one Tor client, present or not.
type member struct {
	name Member

	// Durable.
	away       time.Time        // since when it is not shown; zero while it is, or was when the ledger ended
	gone       bool             // has left on purpose: kept for its seq, has neither claims nor exclusions
	claims     []*claim         // sorted by key
	seq        uint64           // of its order; 0: never had one
	answers    shmproto.Answers // the publication that its order was decided on
	exclusions []Exclusion      // sorted by key; in force by its order, or adopted
	account    *Account         // nil: was never seen, or nothing is limited
	origin                      // whose copy it is, and whether in an old state

	// Volatile.
	slot    int // -1 while it is not shown
	pub     publication
	expects []expect    // its entries in the index besides claims
	stated  []filing    // its statements in the index, in the order of its guards
	pins    []pin       // its further layers, sorted
	shared  []sharedPin // pins of which the operator was told; kept while it is away
	excess  int         // guards beyond its claims
	stuck   string      // why it is in conflict and not told to move
	would   []Key       // policy observe: what the operator was told that it would be told
	dirty   bool        // is in c.dirty

	sample    []seen // the visible guards that it showed last; stays while it is away
	sampled   bool   // it has shown a sample since the coordinator's start
	shortages [len(budgetNames)]shortage
	gatedFrom shmproto.Seq // the first of its present run of publications from a closed join gate

	answer     shmproto.ReceiptStatus // to its present order
	reason     shmproto.ReceiptReason
	tries      int // how often its order was rung for since it was first written
	nextTry    time.Time
	unanswered bool // the operator was told
}

func (m *member) shown() bool { return m.slot >= 0 }

// exclusion returns m's exclusion of k, or nil.
func (m *member) exclusion(k Key) *Exclusion {
	for i := range m.exclusions {
		if m.exclusions[i].Key == k {
			return &m.exclusions[i]
		}
	}
	return nil
}

// guard returns For's guard, in favour of which the exclusion is.
func (x *Exclusion) guard() Key {
	if x.Over.IsZero() {
		return x.Key
	}
	return x.Over
}

// yielded reports whether m was told to give up a guard in favour of k, as a guard
// of to.
func (m *member) yielded(to Member, k Key) bool {
	for i := range m.exclusions {
		if x := &m.exclusions[i]; x.For == to && x.guard() == k {
			return true
		}
	}
	return false
}

// claim returns m's claim on k, or nil.
func (m *member) claim(k Key) *claim {
	for _, cl := range m.claims {
		if cl.key == k {
			return cl
		}
	}
	return nil
}

// guard is what is kept of a shown guard.
type guard struct {
	id    guardstate.Fingerprint
	flags shmproto.GuardFlags
	facts *facts // what the publication says of it; nil: nothing
}

func (g guard) has(f shmproto.GuardFlags) bool { return g.flags&f != 0 }

// usable: Tor could make it a primary guard, were there no exclusions.
func (g guard) usable() bool {
	const need = shmproto.GuardListed | shmproto.GuardFiltered
	return g.flags&need == need && !g.has(shmproto.GuardBridge)
}

// publication is what is kept of a member's last valid publication.
type publication struct {
	attachment  shmproto.Attachment
	incarnation shmproto.Incarnation
	seq         shmproto.Seq
	state       shmproto.MemberState
	selection   shmproto.Selection
	flags       shmproto.MemberFlags
	numPrimary  int
	passPercent int
	torVersion  string
	role        string
	receipt     shmproto.Receipt
	seen        time.Time
	guards      []guard // in order of preference
	ids         sample  // of guards
	hidden      uint64  // bit i: guard i found no token; see visible
	filed       bool    // the index has what it states
}

func (p *publication) has(f shmproto.MemberFlags) bool { return p.flags&f != 0 }

// find returns the guard's place in the order of preference, or -1.
func (p *publication) find(k Key) int {
	id, ok := k.Relay()
	if !ok {
		return -1
	}
	for i := range p.guards {
		if p.guards[i].id == id {
			return i
		}
	}
	return -1
}

// partial: what the publication does not show may still be so. A dormant Tor
// has nothing in use and has not left; an unreachable one shows its last good
// guards; an empty sample is a Tor that is being started or was told DROPGUARDS.
func (p *publication) partial() bool {
	return p.has(shmproto.MemberDormant|shmproto.MemberUnreachable) ||
		p.selection == shmproto.SelectionUnknown ||
		p.state != shmproto.MemberRefused && len(p.guards) == 0
}

// wholeSample: a guard that is not shown has left the member's sample.
func (p *publication) wholeSample() bool {
	return p.state == shmproto.MemberPresent && p.selection == shmproto.SelectionDefault && len(p.guards) > 0 &&
		!p.has(shmproto.MemberTruncated|shmproto.MemberUnreachable|shmproto.MemberNoConsensus)
}

// update copies q into p and reports whether anything changed that decisions
// rest on (all but the numbers and the receipt).
func (p *publication) update(q *shmproto.Publication, at time.Time) (changed bool) {
	guards := q.Guards[:min(len(q.Guards), shmproto.MaxGuards)]
	// Behind a closed join gate Tor builds circuits of its own, and nothing of what
	// its user does goes through them: no guard is used yet, so families and networks
	// can still move it, and at once. An onion service's circuits are its own.
	idle := q.Flags&(shmproto.MemberGated|shmproto.MemberOnionService) == shmproto.MemberGated
	changed = p.updateGuards(guards, idle)
	changed = changed || p.state != q.State || p.selection != q.Selection || p.flags != q.Flags ||
		p.numPrimary != int(q.NumPrimary) || p.passPercent != int(q.PassPercent)
	p.attachment, p.incarnation, p.seq = q.Attachment, q.Incarnation, q.Seq
	p.state, p.selection, p.flags = q.State, q.Selection, q.Flags
	p.numPrimary, p.passPercent = int(q.NumPrimary), int(q.PassPercent)
	p.torVersion, p.role, p.receipt, p.seen = q.TorVersion, q.Role, q.Receipt, at
	return changed
}

// updateGuards is update for the guards. idle: none of them counts as in use.
func (p *publication) updateGuards(guards []shmproto.Guard, idle bool) (changed bool) {
	before := p.guards
	same := len(before) == len(guards)
	for i := 0; same && i < len(guards); i++ {
		same = before[i].id == guards[i].Fingerprint
	}
	if !same {
		p.guards = make([]guard, len(guards))
		p.ids = make(sample, len(guards))
		for i := range guards {
			p.ids[i] = guards[i].Fingerprint
		}
		changed, p.filed = true, false
	}
	for i := range guards {
		g := guard{id: guards[i].Fingerprint, flags: guards[i].Flags}
		if idle {
			g.flags &^= shmproto.GuardInUse
		}
		var old *facts
		if same {
			old = before[i].facts
		} else if j := slices.IndexFunc(before, func(o guard) bool { return o.id == g.id }); j >= 0 {
			old = before[j].facts
		}
		g.facts = stated(old, &guards[i])
		if p.guards[i] != g {
			p.filed = p.filed && p.guards[i].facts == g.facts
			p.guards[i] = g
			changed = true
		}
	}
	return changed
}

// addMember enters a member that is not known.
func (c *Coordinator) addMember(name Member) *member {
	m := &member{name: name, slot: -1}
	i, _ := slices.BinarySearchFunc(c.members, name, func(m *member, n Member) int { return m.name.Compare(n) })
	c.members = slices.Insert(c.members, i, m)
	c.byName[name] = m
	return m
}

// dropMember forgets a member that has neither claims nor exclusions nor slot.
func (c *Coordinator) dropMember(m *member) {
	c.raiseFloor(m.name.Gateway, m.seq)
	i, found := slices.BinarySearchFunc(c.members, m.name, func(o *member, n Member) int { return o.name.Compare(n) })
	if found {
		c.members = slices.Delete(c.members, i, i+1)
	}
	delete(c.byName, m.name)
	c.forgetOrigin(m)
}

// saveMember records what is known of m itself.
func (c *Coordinator) saveMember(m *member) { c.save(m.record()) }

func (m *member) record() Record {
	return Record{Kind: RecordMember, Gateway: m.name.Gateway, Instance: m.name.Instance, Away: m.away, Gone: m.gone,
		Joined: m.joined, CloneOf: m.cloneOf, RolledBack: m.rolledBack, Freed: m.freed, Obeyed: m.obeyed, Generation: m.generation}
}

// becomeShown: m has a publication in a slot.
func (c *Coordinator) becomeShown(m *member, g *gateway, slot int, known bool) {
	m.slot = slot
	g.slots[slot] = m
	switch {
	case !known || m.gone:
		c.takePlace(m)
		c.notify(Notice{Kind: NoticeJoined, Member: m.name})
	case !m.away.IsZero():
		c.notify(Notice{Kind: NoticeBack, Member: m.name})
	default:
		return // it only moved to another slot, or is heard for the first time since a start
	}
	m.away, m.gone = time.Time{}, false
	c.saveMember(m)
}

// becomeAway: m is in no slot any more. Its claims and exclusions stay.
func (c *Coordinator) becomeAway(m *member) {
	c.hide(m)
	if !m.away.IsZero() {
		return
	}
	m.away = c.now
	c.saveMember(m)
	c.schedule(c.now.Add(c.cfg.Retention))
	c.notify(Notice{Kind: NoticeAway, Member: m.name})
}

// becomeGone: m has left on purpose. Nothing of it stays but its seq (and with
// it the fact that it was here): whoever leaves and returns is a newcomer
// everywhere and gains nothing by it.
func (c *Coordinator) becomeGone(m *member) {
	for len(m.claims) > 0 {
		c.release(m.claims[0])
	}
	if len(m.exclusions) > 0 {
		for _, x := range m.exclusions {
			c.notify(Notice{Kind: NoticeLifted, Member: m.name, Key: x.Key, Reason: ReasonMemberLeft})
		}
		c.order(m, nil)
	}
	c.hide(m)
	c.forgetOrigin(m)
	m.gone, m.away = true, c.now
	c.saveMember(m)
	c.schedule(c.now.Add(c.cfg.Retention))
	c.notify(Notice{Kind: NoticeLeft, Member: m.name})
}

// hide takes m out of its slot and forgets what it showed.
func (c *Coordinator) hide(m *member) {
	if m.shown() {
		c.gatewayOf[m.name.Gateway].slots[m.slot] = nil
		m.slot = -1
	}
	c.expect(m, nil)
	for _, cl := range m.claims {
		cl.inUse = false
	}
	m.pub = publication{}
	c.restate(m)
	c.unpin(m)
	m.stuck, m.would, m.excess = "", nil, 0
	m.shortages = [len(budgetNames)]shortage{}
	if m.answer == shmproto.ReceiptApplied {
		m.obeyed = m.seq
	}
	m.answer, m.reason = shmproto.ReceiptNone, shmproto.ReasonNone
	m.tries, m.unanswered = 0, false
}

// forget drops m for good when nothing of it is left to remember.
func (c *Coordinator) forget(m *member) {
	c.save(Record{Kind: RecordForget, Gateway: m.name.Gateway, Instance: m.name.Instance})
	c.notify(Notice{Kind: NoticeForgotten, Member: m.name})
	c.dropMember(m)
}
