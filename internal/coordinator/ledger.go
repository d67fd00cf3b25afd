package coordinator

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"guardring/shmproto"
)

// Restore replays a ledger into an empty core. An error names the first record
// that is malformed; the core must then be thrown away.
//
// For each subject the last record wins, except that numbers never go back. What a
// coordinator wrote that was stopped, replaced and continued is joined with that (Late).
// Earlier builds did not tell it apart: in what they left, two claims may have the same
// stamp; they are given different ones in an order that is the same for every reader.
func (c *Coordinator) Restore(records []Record) error {
	if len(c.members) != 0 || !c.started.IsZero() {
		panic("coordinator: Restore on a core that is not empty")
	}
	late := lately{members: map[Member]*tardy{}, said: map[subject]bool{}, ended: map[Member]bool{}}
	for i := range records {
		r := &records[i]
		if !r.Late {
			late.hears(r)
		}
		if err := c.apply(r, &late); err != nil {
			return fmt.Errorf("ledger record %d (%s): %w", i+1, r.Kind, err)
		}
	}
	c.capClaims()
	c.distinctPlaces()
	c.distinctStamps()
	late.join(c)
	c.knownOriginals()
	// The index is built at the end, so that it need not follow each change.
	for _, m := range c.members {
		for _, cl := range m.claims {
			c.file(cl)
		}
	}
	// Nobody is shown yet, so there is nothing to plan.
	for _, m := range c.dirty {
		m.dirty = false
	}
	c.dirty = c.dirty[:0]
	return nil
}

// capClaims drops the claims that members have beyond what they may have: the operator
// may have cut that down. First goes what was left
// longest ago, then what came last; what is still shown comes back as a newcomer's.
func (c *Coordinator) capClaims() {
	sooner := func(a, b *claim) int {
		if a.live() || b.live() {
			return cmp.Or(first(!a.live(), !b.live()), cmp.Compare(b.stamp.Counter, a.stamp.Counter))
		}
		return cmp.Or(a.left.Compare(b.left), cmp.Compare(a.stamp.Counter, b.stamp.Counter))
	}
	for _, m := range c.members {
		for len(m.claims) > c.cfg.MaxClaims {
			drop := slices.MinFunc(m.claims, sooner)
			m.claims = slices.DeleteFunc(m.claims, func(cl *claim) bool { return cl == drop })
		}
	}
}

// distinctStamps gives all claims new counters, in the order of their stamps, if two
// have the same one. Were they left alike, each of two members could be told to move
// for the other.
func (c *Coordinator) distinctStamps() {
	var all []*claim
	for _, m := range c.members {
		all = append(all, m.claims...)
	}
	slices.SortFunc(all, func(a, b *claim) int {
		return cmp.Or(cmp.Compare(a.stamp.Counter, b.stamp.Counter), a.stamp.At.Compare(b.stamp.At),
			a.m.name.Compare(b.m.name), a.key.Compare(b.key))
	})
	alike := false
	for i := 1; i < len(all); i++ {
		alike = alike || all[i-1].stamp.Counter == all[i].stamp.Counter
	}
	if alike {
		for i, cl := range all {
			cl.stamp.Counter = uint64(i + 1)
		}
		c.stamp = max(c.stamp, uint64(len(all)))
	}
}

// apply takes in one record.
func (c *Coordinator) apply(r *Record, late *lately) error {
	if r.Version != RecordVersion {
		return fmt.Errorf("version %d: this build reads version %d", r.Version, RecordVersion)
	}
	if r.Kind == RecordCounters {
		c.stamp = max(c.stamp, r.Stamp.Counter)
		c.raiseFloor(r.Gateway, r.Seq)
		return nil
	}
	name := r.member()
	if name.Gateway == "" || name.Instance == "" || len(name.Instance) > shmproto.MaxNameLen {
		return fmt.Errorf("member %q: want GATEWAY/INSTANCE", name)
	}
	if r.Late {
		return late.add(c, r)
	}
	m := c.byName[name]
	if m == nil {
		m = c.addMember(name)
	}
	switch r.Kind {
	case RecordMember:
		m.away, m.gone = r.Away, r.Gone
		c.applyOrigin(m, r)
	case RecordForget:
		c.dropMember(m)
	case RecordClaim:
		return c.applyClaim(m, r)
	case RecordRelease:
		m.claims = slices.DeleteFunc(m.claims, func(o *claim) bool { return o.key == r.Key })
	case RecordOrder:
		return c.applyOrder(m, r)
	case RecordBudget:
		return m.applyAccount(r)
	default:
		return errUnknownKind
	}
	return nil
}

var errUnknownKind = errors.New("unknown kind")

// claimed checks a claim, and returns the facts in it.
func (r *Record) claimed() (*facts, error) {
	if _, ok := r.Key.Relay(); !ok {
		return nil, errors.New("claim on nothing")
	}
	if r.Stamp.Counter == 0 {
		return nil, errors.New("claim without stamp")
	}
	if !r.Left.IsZero() && !r.Used {
		return nil, errors.New("a guard that was never used is retained")
	}
	return imported(r.Facts)
}

func (c *Coordinator) applyClaim(m *member, r *Record) error {
	f, err := r.claimed()
	if err != nil {
		return err
	}
	cl := m.claim(r.Key)
	if cl == nil {
		if len(m.claims) >= shmproto.MaxGuards {
			return fmt.Errorf("member %s has more claims than a sample has guards", m.name)
		}
		cl = &claim{m: m, key: r.Key}
		i, _ := slices.BinarySearchFunc(m.claims, cl.key, func(o *claim, k Key) int { return o.key.Compare(k) })
		m.claims = slices.Insert(m.claims, i, cl)
	}
	cl.stamp, cl.used, cl.left, cl.facts = r.Stamp, r.Used, r.Left, f
	cl.due, cl.allowed = r.Due, r.Allowed
	c.stamp = max(c.stamp, r.Stamp.Counter)
	return nil
}

// ordered checks an order.
func (r *Record) ordered() error {
	if len(r.Exclusions) > shmproto.MaxExclusions {
		return fmt.Errorf("%d exclusions, at most %d", len(r.Exclusions), shmproto.MaxExclusions)
	}
	for i, x := range r.Exclusions {
		if _, ok := x.Key.Relay(); !ok || i > 0 && r.Exclusions[i-1].Key.Compare(x.Key) >= 0 {
			return fmt.Errorf("exclusion %d names no relay, is repeated or out of order", i+1)
		}
		if _, ok := x.Over.Relay(); ok != (x.Level > LevelRelay) || !ok && !x.Over.IsZero() {
			return fmt.Errorf("exclusion %d: at level %q over %q", i+1, x.Level, x.Over)
		}
	}
	return nil
}

func (c *Coordinator) applyOrder(m *member, r *Record) error {
	if err := r.ordered(); err != nil {
		return err
	}
	m.seq, m.answers, m.exclusions = max(m.seq, r.Seq), r.Answers, slices.Clone(r.Exclusions)
	return nil
}

// Snapshot returns the durable state as the fewest records, sorted.
// Restore(Snapshot()) gives an equal core.
func (c *Coordinator) Snapshot() []Record {
	var all []Record
	add := func(m Member, r Record) {
		r.Version, r.Gateway, r.Instance = RecordVersion, m.Gateway, m.Instance
		all = append(all, r)
	}
	add(Member{}, Record{Kind: RecordCounters, Stamp: Stamp{Counter: c.stamp}})
	for _, f := range c.floors {
		add(Member{Gateway: f.gateway}, Record{Kind: RecordCounters, Seq: f.seq})
	}
	for _, m := range c.members {
		add(m.name, m.record())
		if m.account != nil {
			add(m.name, Record{Kind: RecordBudget, Account: m.account.clone()})
		}
		for _, cl := range m.claims {
			add(m.name, Record{Kind: RecordClaim, Key: cl.key, Stamp: cl.stamp, Used: cl.used, Left: cl.left,
				Facts: cl.facts.export(cl.relay()), Due: cl.due, Allowed: cl.allowed})
		}
		if m.seq > 0 || len(m.exclusions) > 0 {
			add(m.name, Record{Kind: RecordOrder, Seq: m.seq, Answers: m.answers, Exclusions: slices.Clone(m.exclusions)})
		}
	}
	return all
}
