package rotation

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// fakeTor is a small Tor in memory with an include file: what the scripts and
// the crash test drive the machine against. It answers as facts about C-tor
// 0.4.9 say: linelists concatenate, FascistFirewall puts *:443 into an empty OR
// list, never-connected hides the filter, servers refuse the option with 513.
type fakeTor struct {
	torrc   map[string][]string // the user's own lines
	set     map[string][]string // SETCONF since the last HUP; nil value: reset
	include Include
	sample  []guardstate.Fingerprint
	conf    map[guardstate.Fingerprint]bool // confirmed
	down    map[guardstate.Fingerprint]bool
	relays  map[guardstate.Fingerprint]guardstate.Relay
	network int // further guards of the network, all reachable with accept *:*
	live    bool
	params  guardstate.Params
	dormant bool
	circ    map[guardstate.CircuitID]guardstate.Circuit
	streams map[string]guardstate.CircuitID   // "": waits
	went    map[string]guardstate.Fingerprint // the guard that a stream was attached through

	failWrite bool
	failQuery []string  // queries that cannot be answered or read
	failRules bool      // the packet filter cannot be changed
	refuse    *TorError // answer to the next SETCONF
	hostile   bool      // another controller undoes every SETCONF
	dumb      bool      // CLOSECIRCUIT is answered but does nothing
	late      bool      // a stream comes just before the next CLOSECIRCUIT IfUnused
	probes    bool      // the first CLOSECIRCUIT of a circuit only sends a path bias probe
}

func newFakeTor(guards int) *fakeTor {
	f := &fakeTor{
		torrc: map[string][]string{}, set: map[string][]string{}, include: Include{Exists: true, Included: true, First: true},
		conf: map[guardstate.Fingerprint]bool{}, down: map[guardstate.Fingerprint]bool{},
		relays: map[guardstate.Fingerprint]guardstate.Relay{}, network: 30, live: true,
		circ: map[guardstate.CircuitID]guardstate.Circuit{}, streams: map[string]guardstate.CircuitID{},
		went: map[string]guardstate.Fingerprint{},
	}
	for i := range guards {
		g := guard(i)
		f.sample = append(f.sample, g)
		f.relays[g] = guardstate.Relay{Fingerprint: g, Listed: true, Addrs: []netip.AddrPort{
			netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 1}), 443),
		}}
	}
	return f
}

// guard is the relay that scripts call gI.
func guard(i int) guardstate.Fingerprint { return guardstate.Fingerprint{0xA0 + byte(i), 1} }

func guardNamed(s string) guardstate.Fingerprint {
	n, err := strconv.Atoi(strings.TrimPrefix(s, "g"))
	if err != nil {
		panic("no guard " + s)
	}
	return guard(n)
}

// named replaces fingerprints by the scripts' names.
func named(s string) string {
	for i := range 20 {
		s = strings.ReplaceAll(s, "$"+guard(i).String(), fmt.Sprintf("g%d", i))
		s = strings.ReplaceAll(s, guard(i).Short(), fmt.Sprintf("g%d", i))
	}
	return s
}

// included are the lines of our file, as Tor reads them.
func (f *fakeTor) included() []string {
	var out []string
	for _, l := range strings.Split(f.include.Text, "\n") {
		if v, ok := strings.CutPrefix(l, optionOR+" "); ok && f.include.Included {
			out = append(out, v)
		}
	}
	return out
}

// values are an option's values now.
func (f *fakeTor) values(key string) []string {
	v, isSet := f.set[key]
	if !isSet {
		v = f.torrc[key]
		if key == optionOR && f.include.First {
			v = slices.Concat(f.included(), f.torrc[key])
		} else if key == optionOR {
			v = slices.Concat(f.torrc[key], f.included())
		}
	}
	if key == optionOR && len(v) == 0 && slices.Equal(f.values("FascistFirewall"), []string{"1"}) && len(f.values("ReachableAddresses")) == 0 {
		return []string{"*:443"}
	}
	return v
}

func (f *fakeTor) getconf() guardstate.Conf {
	var c guardstate.Conf
	for _, k := range ConfigKeys() {
		vs := f.values(k)
		if len(vs) == 0 {
			c = append(c, guardstate.ConfLine{Key: k, Default: true})
		}
		for _, v := range vs {
			c = append(c, guardstate.ConfLine{Key: k, Value: v})
		}
	}
	return c
}

// hup reads the configuration files again: what SETCONF set is gone.
func (f *fakeTor) hup() Event {
	clear(f.set)
	return ConfChanged{Keys: []string{optionOR, optionGate}}
}

func (f *fakeTor) policy() guardstate.Policy {
	lines := f.values(optionOR)
	if len(lines) == 0 {
		lines = f.values("ReachableAddresses")
	}
	if len(lines) == 0 {
		return guardstate.AcceptAll()
	}
	p, err := guardstate.ParsePolicy(lines)
	if err != nil {
		panic(err)
	}
	return p
}

func (f *fakeTor) filtered(g guardstate.Fingerprint) bool {
	r := f.relays[g]
	return r.Listed && slices.ContainsFunc(r.Addrs, f.policy().Accepts)
}

func (f *fakeTor) entryGuards() []guardstate.EntryGuard {
	var out []guardstate.EntryGuard
	for _, g := range f.sample {
		e := guardstate.EntryGuard{Fingerprint: g, Status: guardstate.EntryGuardUp}
		switch {
		case !f.conf[g]:
			e.Status = guardstate.EntryGuardNeverConnected
		case !f.filtered(g):
			e.Status = guardstate.EntryGuardUnusable
		case f.down[g]:
			e.Status = guardstate.EntryGuardDown
		}
		out = append(out, e)
	}
	return out
}

// perform does one action and returns the events that follow, ending with CommandDone.
func (f *fakeTor) perform(a Action) []Event {
	switch a := a.(type) {
	case Query:
		if slices.Contains(f.failQuery, a.What.String()) {
			return []Event{CommandDone{ID: a.ID, Err: fmt.Errorf("%s: cannot be read", a.What)}}
		}
		return []Event{f.query(a), CommandDone{ID: a.ID}}
	case SetConf:
		if err := f.refusal(); err != nil {
			return []Event{CommandDone{ID: a.ID, Err: err}}
		}
		var v []string
		for _, s := range a.Settings {
			v = append(v, s.Value)
		}
		key := a.Settings[0].Key
		f.set[key] = v
		if f.hostile {
			f.set[optionOR] = []string{"accept *:*"}
		}
		return []Event{ConfChanged{Keys: []string{key}}, CommandDone{ID: a.ID}}
	case ResetConf:
		f.set[a.Keys[0]] = nil
		return []Event{CommandDone{ID: a.ID}, ConfChanged{Keys: a.Keys}}
	case AttachStream:
		if c, there := f.streams[a.Stream]; !there || c != "" {
			return []Event{CommandDone{ID: a.ID, Err: &TorError{Code: 555, Text: "Connection is not managed by controller."}}}
		}
		return append(f.attach(a.Stream), CommandDone{ID: a.ID})
	case Enforce:
		if f.failRules {
			return []Event{CommandDone{ID: a.ID, Err: fmt.Errorf("operation not permitted")}}
		}
		return []Event{CommandDone{ID: a.ID}}
	case WriteInclude:
		if f.failWrite {
			return []Event{CommandDone{ID: a.ID, Err: fmt.Errorf("no space left on device")}}
		}
		f.include.Text = a.Text
		return []Event{CommandDone{ID: a.ID}}
	case CloseCircuit:
		c := f.circ[a.Circuit]
		carries := false
		for _, id := range f.streams {
			carries = carries || id == a.Circuit || c.ConfluxID != "" && f.circ[id].ConfluxID == c.ConfluxID
		}
		if f.late {
			f.late, f.streams["late"] = false, a.Circuit
			return []Event{StreamChanged{Stream: guardstate.Stream{ID: "late", Status: "SUCCEEDED", Circuit: a.Circuit}}, CommandDone{ID: a.ID}}
		}
		if f.dumb || a.IfUnused && carries {
			return []Event{CommandDone{ID: a.ID}}
		}
		if f.probes && c.Purpose != purposePathBias { // pathbias_check_close
			maps.DeleteFunc(f.streams, func(_ string, id guardstate.CircuitID) bool { return id == a.Circuit })
			c.Purpose = purposePathBias
			f.circ[a.Circuit] = c
			return []Event{CommandDone{ID: a.ID}}
		}
		delete(f.circ, a.Circuit)
		c.Status = "CLOSED"
		return []Event{CommandDone{ID: a.ID}, CircuitChanged{Circuit: c}}
	}
	return nil
}

// open begins a user's stream; it waits while the option says so.
func (f *fakeTor) open(id string) []Event {
	e := []Event{StreamChanged{Stream: guardstate.Stream{ID: id, Status: "NEW", Purpose: "USER"}}}
	if slices.Equal(f.values(optionGate), []string{"1"}) {
		f.streams[id] = ""
		return append(e, StreamChanged{Stream: guardstate.Stream{ID: id, Status: "CONTROLLER_WAIT"}})
	}
	return append(e, f.attach(id)...)
}

// attach gives a stream a circuit through the first guard that passes the filter.
func (f *fakeTor) attach(id string) []Event {
	i := slices.IndexFunc(f.sample, f.filtered)
	circuit := "c" + id
	f.addCircuit(circuit, f.sample[i], "GENERAL", "")
	f.streams[id], f.went[id] = guardstate.CircuitID(circuit), f.sample[i]
	return []Event{
		CircuitChanged{Circuit: f.circ[guardstate.CircuitID(circuit)]},
		StreamChanged{Stream: guardstate.Stream{ID: id, Status: "SENTCONNECT", Circuit: guardstate.CircuitID(circuit)}},
	}
}

func (f *fakeTor) refusal() error {
	if f.refuse != nil {
		return f.refuse
	}
	if len(f.values("ORPort")) > 0 {
		return &TorError{Code: 513, Text: "Unacceptable option value: Servers must be able to freely connect"}
	}
	return nil
}

func (f *fakeTor) query(q Query) Event {
	switch q.What {
	case QueryConfig:
		return ConfigRead{Conf: f.getconf(), Include: f.include}
	case QueryEntryGuards:
		return EntryGuards{Guards: f.entryGuards(), Dormant: f.dormant}
	case QueryCircuits:
		var e Circuits
		for _, c := range f.circ {
			e.Circuits = append(e.Circuits, c)
		}
		for id, c := range f.streams {
			status := "SUCCEEDED"
			if c == "" {
				status = "NEW"
			}
			e.Streams = append(e.Streams, guardstate.Stream{ID: id, Status: status, Circuit: c})
		}
		return e
	case QueryConsensus:
		return Consensus{Live: f.live, Params: f.params}
	case QueryRelays:
		var e Relays
		for _, fp := range q.Relays {
			r := f.relays[fp]
			if !f.live {
				r = guardstate.Relay{}
			}
			r.Fingerprint = fp
			e.Relays = append(e.Relays, r)
		}
		return e
	case QueryNetwork:
		var e Network
		for _, g := range f.sample {
			e.Guards = append(e.Guards, f.relays[g])
		}
		for i := range f.network {
			e.Guards = append(e.Guards, guardstate.Relay{Fingerprint: guardstate.Fingerprint{1, byte(i)}, Listed: true,
				Addrs: []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{11, byte(i), 0, 1}), 9001)}})
		}
		return e
	}
	panic("unknown query")
}

// incarnations counts the agents that were made.
var incarnations shmproto.Incarnation

// agent is a machine with its fakeTor and the loop between them.
type agent struct {
	m     *Machine
	tor   *fakeTor
	now   time.Time
	cfg   Config
	last  *shmproto.Publication
	ready Ready
	// stop is asked before each action with an effect; true kills the agent there.
	stop func(Action) bool
	dead bool
	log  []string // effects, in order
}

func newAgent(f *fakeTor, cfg Config) *agent {
	incarnations++
	cfg.Member, cfg.Incarnation = "default", incarnations
	m, err := New(cfg)
	if err != nil {
		panic(err)
	}
	return &agent{m: m, tor: f, cfg: cfg, now: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}
}

// step feeds events until nothing is left to do. Answers come in order, as on
// one control connection.
func (a *agent) step(events ...Event) {
	for n := 0; len(events) > 0; n++ {
		if n > 5000 {
			panic("the machine does not come to rest")
		}
		e := events[0]
		events = events[1:]
		if a.dead {
			return
		}
		a.ready = a.m.Step(a.now, e)
		for _, act := range a.ready.Actions {
			switch act := act.(type) {
			case Publish:
				a.last = act.Publication
				a.log = append(a.log, act.String())
				continue
			case Notice:
				a.log = append(a.log, act.String())
				continue
			case Query:
			default:
				if a.stop != nil && a.stop(act) {
					a.dead = true
					return
				}
				a.log = append(a.log, act.String())
			}
			events = append(events, a.tor.perform(act)...)
		}
	}
	if a.m.tor.up && !a.m.left && a.m.gate.closed() && a.m.settled() {
		panic("streams wait although the host has answered, and nothing is under way that would end it")
	}
}

// sleep lets time pass, with the Ticks that the machine asks for.
func (a *agent) sleep(d time.Duration) {
	end := a.now.Add(d)
	for !a.ready.Wake.IsZero() && !a.ready.Wake.After(end) {
		if a.ready.Wake.After(a.now) {
			a.now = a.ready.Wake
		}
		a.step(Tick{})
		if a.dead {
			return
		}
	}
	a.now = end
	a.step(Tick{})
}

func (a *agent) up() { a.step(ControlUp{TorVersion: "0.4.9.11"}); a.sleep(2 * time.Second) }

func orderOf(seq int, guards ...guardstate.Fingerprint) OrderSeen {
	slices.SortFunc(guards, guardstate.Fingerprint.Compare)
	o := shmproto.Order{Epoch: shmproto.Epoch{Number: 1}, Term: 1, Seq: shmproto.Seq(seq), Member: "default", Exclusions: guards}
	return OrderSeen{Order: o, Digest: [16]byte{byte(seq)}}
}

func (a *agent) order(seq int, guards ...guardstate.Fingerprint) {
	a.step(orderOf(seq, guards...))
	a.sleep(3 * time.Second)
}

// answer is order, decided on what the agent published last.
func (a *agent) answer(seq int, guards ...guardstate.Fingerprint) {
	e := orderOf(seq, guards...)
	e.Order.Answers = shmproto.Answers{Incarnation: a.cfg.Incarnation, Seq: a.last.Seq}
	a.step(e)
	a.sleep(3 * time.Second)
}

// addCircuit adds a built circuit: first hop, purpose, conflux set, extra flags.
func (f *fakeTor) addCircuit(id string, first guardstate.Fingerprint, purpose, conflux string, flags ...string) {
	f.circ[guardstate.CircuitID(id)] = guardstate.Circuit{ID: guardstate.CircuitID(id), Status: "BUILT",
		Path: []guardstate.Fingerprint{first, {0xEE}}, Purpose: purpose, ConfluxID: conflux, BuildFlags: flags}
}
