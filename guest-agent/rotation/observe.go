package rotation

import (
	"maps"
	"slices"
	"strings"
	"time"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// tor is the picture of one Tor, as it answered last. It outlives a lost
// control connection as the last good state.
type tor struct {
	up      bool
	version string

	conf         guardstate.Conf
	confRead     bool     // since ControlUp
	running      []string // ReachableORAddresses as it is
	firewall     guardstate.Firewall
	split        guardstate.Split
	policy       guardstate.Policy // in force, with our rejects
	userPolicy   guardstate.Policy
	policyErr    error
	entryNodes   guardstate.NodeSet
	excludeNodes guardstate.NodeSet
	include      Include

	entry     []guardstate.EntryGuard
	entryRead bool // since ControlUp
	emptied   bool // the last snapshot was empty and was not believed yet
	dormant   bool
	down      map[guardstate.Fingerprint]bool // unconfirmed, GUARD event DOWN
	earlier   []guardstate.Fingerprint        // primaries derived before
	seen      bool                            // earlier is Tor's whole history

	circuits     map[guardstate.CircuitID]guardstate.Circuit
	streams      map[string]guardstate.CircuitID
	waiting      map[string]bool // users' streams that are attached to no circuit; true: Tor says that they wait for a controller
	circuitsRead bool            // since ControlUp

	live          bool
	consensusRead bool
	params        guardstate.Params
	relays        map[guardstate.Fingerprint]guardstate.Relay
	undescribed   bool // a listed relay had no microdescriptor when it was asked for last
	network       []guardstate.Relay
	networkRead   bool // of the present consensus
	userPass      int  // how many guards of network pass the user's own filter
	state         guardstate.State
}

func (t *tor) reset() {
	*t = tor{
		down:     map[guardstate.Fingerprint]bool{},
		circuits: map[guardstate.CircuitID]guardstate.Circuit{}, streams: map[string]guardstate.CircuitID{},
		waiting: map[string]bool{}, relays: map[guardstate.Fingerprint]guardstate.Relay{},
	}
}

// observe takes an event into the picture.
func (m *Machine) observe(e Event) {
	t := &m.tor
	switch e := e.(type) {
	case ControlUp:
		m.disconnect()
		clear(m.told)
		t.up, t.version = true, e.TorVersion
		m.want(QueryConfig, QueryConsensus, QueryEntryGuards, QueryCircuits, QueryRelays)
	case ControlDown:
		m.disconnect()
		m.notice(NoticeWarn, "control port away: "+e.Reason)
	case ConfigRead:
		m.readConfig(e)
	case EntryGuards:
		m.readEntryGuards(e)
	case GuardChanged:
		m.guardChanged(e)
	case Circuits:
		m.readCircuits(e)
	case CircuitChanged:
		m.recent.add(recentEvent{at: m.now, circuit: e.Circuit})
		m.circuit(e.Circuit)
	case StreamChanged:
		m.recent.add(recentEvent{at: m.now, stream: e.Stream})
		m.attachedByOther(e.Stream)
		m.stream(e.Stream)
	case ConsensusArrived:
		t.networkRead = false
		m.want(QueryConsensus, QueryRelays, QueryEntryGuards)
	case Consensus:
		t.live, t.params, t.consensusRead = e.Live, e.Params, true
	case Relays:
		m.readRelays(e.Relays)
	case Network:
		t.network, t.networkRead = e.Guards, true
		t.measure()
	case ConfChanged:
		if concernsUs(e.Keys) {
			m.want(QueryConfig, QueryEntryGuards)
		}
	case StateFile:
		if e.Err != nil {
			m.notice(NoticeWarn, e.Err.Error())
			break
		}
		t.state = e.State
		m.want(QueryEntryGuards)
	case OrderSeen:
		m.see(e)
	case CommandDone:
		m.done(e)
	case Leave:
		m.leaving, m.receipt = true, shmproto.Receipt{}
		m.yielded, m.fights, m.refused = false, nil, nil // our lines go whoever else changes them
		m.want(QueryConfig)
	case Stop:
		m.stopping = true
	case Tick:
	}
}

func (m *Machine) readEntryGuards(e EntryGuards) {
	t := &m.tor
	if len(e.Guards) == 0 && len(t.entry) > 0 && !t.emptied {
		// Tor shows no guards for up to a second after DROPGUARDS: look again
		// before that is taken for "all guards left".
		t.emptied = true
		m.retry[QueryEntryGuards] = true
		m.retryLater()
		return
	}
	t.entry, t.dormant, t.entryRead, t.emptied = e.Guards, e.Dormant, true, false
	m.want(QueryRelays)
}

func (m *Machine) guardChanged(e GuardChanged) {
	switch e.Status {
	case "GOOD_L2", "BAD_L2":
		return // a second hop: says nothing of the guard of that name
	case "DOWN":
		note(m.tor.down, e.Fingerprint, true)
	default:
		delete(m.tor.down, e.Fingerprint)
	}
	m.want(QueryEntryGuards)
}

// readCircuits takes the whole list in place of what events have told, but for what
// they told after it was asked for.
func (m *Machine) readCircuits(e Circuits) {
	t := &m.tor
	clear(t.circuits)
	clear(t.streams)
	t.keepWaiting(e.Streams)
	for _, c := range e.Circuits {
		m.circuit(c)
	}
	for _, s := range e.Streams {
		m.stream(s)
	}
	m.recent.amend(m)
	maps.DeleteFunc(m.closing, func(id guardstate.CircuitID, _ string) bool { _, there := t.circuits[id]; return !there })
	t.circuitsRead = true
}

// concernsUs reports whether one of the options is read by us. Tor writes their names
// as whoever changed them did.
func concernsUs(options []string) bool {
	ours := ConfigKeys()
	return slices.ContainsFunc(options, func(k string) bool {
		return slices.ContainsFunc(ours, func(o string) bool { return strings.EqualFold(k, o) })
	})
}

// disconnect forgets what belongs to one control connection.
func (m *Machine) disconnect() {
	t := &m.tor
	t.up, t.confRead, t.entryRead, t.circuitsRead, t.networkRead, t.consensusRead = false, false, false, false, false, false
	t.seen = false
	clear(t.down)
	m.recent = recent{}
	clear(m.asked)
	clear(m.closing)
	m.gate.disconnect()
	m.wanted, m.retry, m.answer, m.change = [numQueries]bool{}, [numQueries]bool{}, [numQueries]CommandID{}, change{}
	m.pollAt = m.now.Add(m.cfg.PollEvery)
	m.retryAt, m.writeAt = time.Time{}, time.Time{}
	m.fights, m.yielded, m.refused = nil, false, nil
	m.rules = enforcement{}
}

func (m *Machine) circuit(c guardstate.Circuit) {
	t := &m.tor
	if !c.Gone() {
		note(t.circuits, c.ID, c)
		return
	}
	delete(t.circuits, c.ID)
	delete(m.closing, c.ID)
}

func (m *Machine) stream(s guardstate.Stream) {
	if s.Waits() {
		note(m.tor.waiting, s.ID, m.tor.waiting[s.ID] || s.Status == "CONTROLLER_WAIT")
	} else {
		delete(m.tor.waiting, s.ID)
	}
	if s.Gone() || s.Circuit == "" || s.Status == "DETACHED" {
		m.askAgain(m.tor.streams[s.ID])
		m.askAgain(s.Circuit)
		delete(m.tor.streams, s.ID)
		return
	}
	note(m.tor.streams, s.ID, s.Circuit)
}

// maxSeen bounds what events alone may add to the picture. No Tor has as many circuits
// or streams at a time; the next snapshot puts right what was left out.
const maxSeen = 1 << 16

func note[K comparable, V any](seen map[K]V, k K, v V) {
	if _, there := seen[k]; there || len(seen) < maxSeen {
		seen[k] = v
	}
}

// keepWaiting forgets the streams that a snapshot does not show as waiting.
func (t *tor) keepWaiting(streams []guardstate.Stream) {
	waits := map[string]bool{}
	for _, s := range streams {
		waits[s.ID] = s.Waits()
	}
	maps.DeleteFunc(t.waiting, func(id string, _ bool) bool { return !waits[id] })
}

// askAgain forgets that Tor was asked to close a circuit, or another leg of its
// conflux set: it may have kept them for a stream that has ended now.
func (m *Machine) askAgain(id guardstate.CircuitID) {
	set := m.tor.circuits[id].ConfluxID
	maps.DeleteFunc(m.closing, func(other guardstate.CircuitID, _ string) bool {
		return other == id || set != "" && m.tor.circuits[other].ConfluxID == set
	})
}

func (m *Machine) readConfig(e ConfigRead) {
	t := &m.tor
	t.conf, t.include, t.confRead = e.Conf, e.Include, true
	t.running = e.Conf.Values(optionOR)
	m.readGate(e.Conf)
	t.firewall, t.split = guardstate.ReadFirewall(e.Conf)
	t.entryNodes = guardstate.ParseNodeSet(e.Conf.Values("EntryNodes"))
	t.excludeNodes = guardstate.ParseNodeSet(e.Conf.Values("ExcludeNodes"))
	t.setRunning(t.running)
	if !m.exKnown {
		var damaged int
		if m.ex, damaged = parseInclude(e.Include.Text); damaged > 0 {
			m.notice(NoticeWarn, "the include file is damaged: some exclusions are resolved anew; it is written again with the next order")
		}
		m.exKnown = true
	}
	if m.receipt.Status == shmproto.ReceiptApplied && !m.sameOption(guardstate.Merge(rejects(m.ex), t.firewall)) {
		m.answerWith(shmproto.ReceiptPending, shmproto.ReasonNone) // somebody has changed it: from now on "applied" is not so
	}
	m.want(QueryRelays)
}

// setRunning evaluates the policies after Tor's value is known to be lines.
func (t *tor) setRunning(lines []string) {
	t.running = lines
	if t.userPolicy, t.policyErr = t.firewall.Policy(); t.policyErr != nil {
		return
	}
	t.measure()
	t.policy = t.userPolicy
	if len(lines) > 0 {
		t.policy, t.policyErr = guardstate.ParsePolicy(lines)
	}
}

func (t *tor) filter(p guardstate.Policy) guardstate.Filter {
	// ClientUseIPv4 and ClientUseIPv6 are 1 by default (0.4.9).
	return guardstate.Filter{
		Policy: p, EntryNodes: t.entryNodes, Exclude: t.excludeNodes,
		IPv4: t.conf.Value("ClientUseIPv4") != "0", IPv6: t.conf.Value("ClientUseIPv6") != "0",
	}
}

func (m *Machine) readRelays(rs []guardstate.Relay) {
	t := &m.tor
	t.undescribed = false
	for _, r := range rs {
		t.undescribed = t.undescribed || r.Listed && !r.FamilyKnown
		old, ok := t.relays[r.Fingerprint]
		if ok && len(r.Addrs) == 0 && !t.live {
			r = old // no live consensus: what was known is better than nothing
		}
		r = keepFamily(r, old)
		t.relays[r.Fingerprint] = r
	}
	for _, f := range m.askedRelays {
		if _, ok := t.relays[f]; !ok {
			t.relays[f] = guardstate.Relay{Fingerprint: f} // not answered: not known to Tor
		}
	}
	ask := m.relaysToAsk()
	maps.DeleteFunc(t.relays, func(f guardstate.Fingerprint, _ guardstate.Relay) bool { return !slices.Contains(ask, f) })
}

// relaysToAsk are the sample and everything excluded or ordered, sorted.
func (m *Machine) relaysToAsk() []guardstate.Fingerprint {
	var fs []guardstate.Fingerprint
	for _, g := range m.tor.entry {
		fs = append(fs, g.Fingerprint)
	}
	for _, x := range m.ex {
		fs = append(fs, x.guard)
	}
	if m.order != nil {
		fs = append(fs, m.order.Order.Exclusions...)
	}
	slices.SortFunc(fs, guardstate.Fingerprint.Compare)
	return slices.Compact(fs)
}
