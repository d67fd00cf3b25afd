package coordinator

import (
	"fmt"
	"time"

	"guardring/internal/guardstate"
)

// Coordinator is the state machine. It is not safe for concurrent use: one
// goroutine owns it. Create it with New.
//
// Invariants, checked by valid in tests:
//   - a claim is in its member's list and in the index, once each; no two claims
//     have the same stamp; no stamp is above c.stamp
//   - a member has at most cfg.MaxClaims claims and cfg.MaxExclusions exclusions
//   - for no guard do two members hold exclusions in favour of each other
//   - a member is in the slot that it says it is in, or away, or gone, or not
//     heard of since the start
type Coordinator struct {
	cfg Config

	// Durable: what Save and Snapshot speak of.
	members []*member // sorted by name
	byName  map[Member]*member
	stamp   uint64  // highest stamp counter given out
	floors  []floor // of gateways with forgotten members, sorted by name

	// Volatile.
	relays         map[guardstate.Fingerprint]*relay
	levels         map[Key][]*relay                  // relays that are claimed or expected, above the relay level, each sorted
	groups         map[guardstate.Fingerprint][]Key  // cfg.Groups by relay
	consensus      map[guardstate.Fingerprint]*facts // the operator's consensus file; empty: none
	contradictions []ContradictionStatus             // as the operator was told, by relay and level
	pins           map[pin][]*member                 // shown members by what they pin in further layers, each sorted
	gateways       []*gateway                        // sorted by name
	gatewayOf      map[string]*gateway
	quarantined    []*gateway // in the order in which they were quarantined
	now            time.Time
	started        time.Time     // of the first event
	due            time.Time     // nothing that depends on time happens before it; zero: nothing at all
	dirty          []*member     // to be planned before Step returns
	gratis         *member       // is charged nothing just now, within one Step
	joins          uint64        // the highest place given out, see origin.joined
	samples        []sampleEntry // of all members that have shown one, in no order
	copies         []*member     // that are clones of others, sorted by name
	ready          Ready         // what the present Step asks for
}

// New returns an empty core, or every fault of cfg at once.
func New(cfg Config) (*Coordinator, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("coordinator: %w", err)
	}
	return &Coordinator{
		cfg:       cfg,
		byName:    make(map[Member]*member),
		relays:    make(map[guardstate.Fingerprint]*relay),
		levels:    make(map[Key][]*relay),
		pins:      make(map[pin][]*member),
		groups:    groupKeys(cfg.Groups),
		gatewayOf: make(map[string]*gateway),
	}, nil
}

// Step takes one event and returns what must be done now.
//
// Preconditions: a Published has a Publication and a Slot below
// shmproto.MaxMembers (else Step panics: that is the runner's mistake, not a
// guest's). What the last Ready asked for has been done.
func (c *Coordinator) Step(e Event) Ready {
	c.ready = Ready{}
	switch e := e.(type) {
	case Published:
		c.begin(e.At)
		c.published(e)
	case Tick:
		c.begin(e.At)
		c.tick()
	case GatewaySeen:
		c.begin(e.At)
		c.gatewaySeen(e)
	case Violated:
		c.begin(e.At)
		c.violated(e)
	case Allowed:
		c.begin(e.At)
		c.allowed(e)
	case ConsensusRead:
		c.begin(e.At)
		c.consensusRead(e)
	default:
		panic(fmt.Sprintf("coordinator: unknown event %T", e))
	}
	// Planning one member can only give others less to do, so this ends.
	for i := 0; i < len(c.dirty); i++ {
		m := c.dirty[i]
		m.dirty = false
		waits := m.atGate()
		c.plan(m)
		c.answerGate(m)
		if waits && !m.atGate() {
			c.notify(Notice{Kind: NoticeCleared, Member: m.name, Seq: m.seq})
		}
	}
	c.dirty = c.dirty[:0]
	r := c.ready
	c.ready = Ready{}
	return r
}

// begin notes the time of an event in the form in which the ledger keeps it, so
// that a restored core equals the one that wrote the ledger.
func (c *Coordinator) begin(at time.Time) {
	before := c.now
	c.now = at.UTC().Truncate(time.Millisecond)
	if c.started.IsZero() {
		c.started = c.now
		c.schedule(c.now.Add(c.cfg.AwayAfter))
		c.clockBack() // it may have been set back while nobody was here
	} else if c.now.Before(before) {
		c.clockBack()
	}
}

// schedule asks for a look at everything that depends on time, at t.
func (c *Coordinator) schedule(t time.Time) {
	if c.due.IsZero() || t.Before(c.due) {
		c.due = t
	}
}

// plan later in this Step.
func (c *Coordinator) touch(m *member) {
	if !m.dirty {
		m.dirty = true
		c.dirty = append(c.dirty, m)
	}
}

func (c *Coordinator) save(r Record) {
	r.Version = RecordVersion
	r.At = c.now
	c.ready.Save = append(c.ready.Save, r)
}

func (c *Coordinator) notify(n Notice) {
	n.At = c.now
	c.ready.Notices = append(c.ready.Notices, n)
}
