package rotation

import (
	"slices"
	"time"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// Machine is the state machine of one member. Not safe for concurrent use.
//
// It is level-triggered: each Step takes the event into the picture of Tor,
// compares the picture with what the order wants, and asks for the next one
// thing that is missing. So a restart at any point goes on where Tor, the
// include file and the order stand.
//
// Invariants: at most one changing command (SetConf, ResetConf, WriteInclude)
// is outstanding; no WriteInclude is asked for while Tor's value differs from
// what we want (but for the join gate's line in it); no circuit is closed while the
// file does.
type Machine struct {
	cfg  Config
	now  time.Time
	next CommandID // last given out
	out  []Action  // of this Step

	tor     tor // what is known of Tor
	order   *OrderSeen
	change  change      // the one changing command
	ex      []exclusion // what Tor was told or the include file says, by fingerprint
	exKnown bool        // ex was read from the include file
	receipt shmproto.Receipt
	rules   enforcement
	fights  []time.Time     // when we set the option again against somebody else
	yielded bool            // we lost: somebody else keeps changing the option
	refused []string        // the value that Tor refused; not sent again
	told    map[string]bool // notices given, until their cause has gone

	askedRelays []guardstate.Fingerprint // of the last QueryRelays

	asked   map[What]CommandID    // queries outstanding
	wanted  [numQueries]bool      // queries to be asked
	answer  [numQueries]CommandID // the query whose answer was taken last
	retryAt time.Time             // not before: queries that failed
	retry   [numQueries]bool
	writeAt time.Time // not before: a file that could not be written
	pollAt  time.Time

	gate    gate
	recent  recent
	pub     publisher
	introAt time.Time                       // not before: next introduction circuit
	closing map[guardstate.CircuitID]string // asked to be closed, not seen gone; their purpose then
	leaving bool
	left    bool
	// stopping: the agent is about to end, and nobody would open a closed gate.
	stopping bool
}

// change is the outstanding changing command; id 0: none.
type change struct {
	id    CommandID
	kind  changeKind
	lines []string    // the option's value that was sent
	ex    []exclusion // which it stands for
	text  string      // the file's content
	set   bool        // changeGate: the option is set, not reset
}

type changeKind uint8

const (
	changeNone changeKind = iota
	changeOption
	changeFile
	changeGate     // the join gate's option
	changeGateFile // its line in the file
)

// New returns a machine that has seen nothing. It asks for nothing before ControlUp.
func New(cfg Config) (*Machine, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	m := &Machine{cfg: cfg, asked: map[What]CommandID{}, told: map[string]bool{}, closing: map[guardstate.CircuitID]string{}}
	m.tor.reset()
	return m, nil
}

// Step takes an event that happened at now and returns what must be done. now
// should carry Go's monotonic reading: gateways randomise their wall clocks.
func (m *Machine) Step(now time.Time, e Event) Ready {
	m.now, m.out = now, nil
	if m.left {
		return Ready{Left: true}
	}
	m.observe(e)
	if m.tor.up {
		m.poll()
		m.reconcile()
		if m.gate.closed() && m.settled() {
			m.reconcile() // the receipt that opens the gate came last, and no event may follow for a minute
		}
		m.ask()
	} else {
		m.reconcileDown()
	}
	m.enforce()
	m.publish()
	return Ready{Actions: m.out, Wake: m.wake(), Left: m.left}
}

func (m *Machine) do(a Action) { m.out = append(m.out, a) }

func (m *Machine) id() CommandID {
	m.next++
	return m.next
}

// notice tells the user once, until forget.
func (m *Machine) notice(level NoticeLevel, text string, guards ...guardstate.Fingerprint) {
	if m.told[text] {
		return
	}
	if len(m.told) > 100 { // texts hold Tor's words, which we do not bound otherwise
		clear(m.told)
	}
	m.told[text] = true
	m.do(Notice{Level: level, Text: text, Guards: guards})
}

// want asks for a query at the end of this Step, or when the same one that is
// outstanding has ended.
func (m *Machine) want(qs ...What) {
	for _, q := range qs {
		if !m.retry[q] { // it failed: not before retryAt
			m.wanted[q] = true
		}
	}
}

// need asks for a query unless it is on its way: for an answer that is missing,
// where want is for one that has become old.
func (m *Machine) need(q What) {
	if m.asked[q] == 0 {
		m.want(q)
	}
}

// ask gives out the wanted queries.
func (m *Machine) ask() {
	for q := range What(numQueries) {
		if !m.wanted[q] || m.asked[q] != 0 {
			continue
		}
		a := Query{What: q}
		switch q {
		case QueryRelays:
			if a.Relays = m.relaysToAsk(); len(a.Relays) == 0 {
				m.wanted[q] = false
				continue
			}
			m.askedRelays = a.Relays
		case QueryNetwork:
			a.Countries = m.tor.entryNodes.Countries() || m.tor.excludeNodes.Countries()
		}
		a.ID = m.id()
		m.wanted[q] = false
		m.asked[q] = a.ID
		m.do(a)
	}
}

// poll wants what a lost event would have told, and retries what failed.
func (m *Machine) poll() {
	if m.pollAt.IsZero() || !m.now.Before(m.pollAt) {
		m.pollAt = m.now.Add(m.cfg.PollEvery)
		m.want(QueryEntryGuards, QueryCircuits)
		if m.tor.undescribed { // no event tells when Tor has fetched a microdescriptor
			m.want(QueryRelays)
		}
		clear(m.closing) // what Tor has not closed by now, because a stream had come, is tried again
	}
	if !m.now.Before(m.writeAt) {
		m.writeAt = time.Time{}
	}
	if !m.retryAt.IsZero() && !m.now.Before(m.retryAt) {
		m.retryAt = time.Time{}
		for q := range What(numQueries) {
			if m.retry[q] {
				m.retry[q] = false
				m.want(q)
			}
		}
	}
}

func (m *Machine) wake() time.Time {
	var w time.Time
	for _, t := range []time.Time{m.pollAt, m.retryAt, m.writeAt, m.introWake(), m.gateWake(), m.rules.retryAt, m.pub.due} {
		if !t.IsZero() && (w.IsZero() || t.Before(w)) {
			w = t
		}
	}
	if !m.tor.up {
		w = m.pub.due
		if t := m.rules.retryAt; !t.IsZero() && (w.IsZero() || t.Before(w)) {
			w = t
		}
	}
	return w
}

// done takes the end of a command.
func (m *Machine) done(e CommandDone) {
	if e.ID == m.rules.id && e.ID != 0 {
		m.enforceDone(e.Err)
		return
	}
	if e.ID == m.change.id && e.ID != 0 {
		c := m.change
		m.change = change{}
		m.changed(c, e.Err)
		return
	}
	if m.gateDone(e) {
		return
	}
	for q := range What(numQueries) {
		if m.asked[q] != e.ID || e.ID == 0 {
			continue
		}
		delete(m.asked, q)
		if e.Err == nil {
			m.answer[q] = e.ID
			return
		}
		m.retry[q] = true
		m.retryLater()
	}
}

func (m *Machine) retryLater() {
	if m.retryAt.IsZero() {
		m.retryAt = m.now.Add(m.cfg.RetryAfter)
	}
}

// excluded reports whether f is among the exclusions in force.
func (m *Machine) excluded(f guardstate.Fingerprint) bool {
	return slices.ContainsFunc(m.ex, func(x exclusion) bool { return x.guard == f })
}
