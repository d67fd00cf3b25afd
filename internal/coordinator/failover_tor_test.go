package coordinator

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"guardring/guest-agent/rotation"
	"guardring/internal/guardstate"
)

// network is what all modelTors of a world see: its relays. No two of them ever have
// one address.
type network struct {
	relays map[guardstate.Fingerprint]guardstate.Relay
	order  []guardstate.Fingerprint // as they came
}

func (n *network) add(f guardstate.Fingerprint) guardstate.Fingerprint {
	n.relays[f] = guardstate.Relay{Fingerprint: f, Listed: true, FamilyKnown: true}
	n.order = append(n.order, f)
	n.move(f, 1)
	return f
}

// move gives a relay another address.
func (n *network) move(f guardstate.Fingerprint, host byte) {
	r := n.relays[f]
	id := number(f)
	r.Addrs = []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(id >> 8), byte(id), host}), 443)}
	n.relays[f] = r
}

// sampled is a guard of a modelTor's sample, in the order of preference.
type sampled struct {
	id        guardstate.Fingerprint
	confirmed bool // it was used
}

// modelTor is a Tor as its control port shows it, written from guard-spec and
// control-spec: options and files, a sample, primaries, circuits and streams.
type modelTor struct {
	net *network
	rng *rand.Rand

	user    []string         // the user's own ReachableORAddresses
	set     []string         // by SETCONF since the last HUP
	isSet   bool             // set counts
	loaded  []string         // by the last HUP or start
	include rotation.Include // our file, on the disk
	gated   bool             // __LeaveStreamsUnattached
	sample  []sampled
	primary []guardstate.Fingerprint
	policy  guardstate.Policy // of values
	circ    []guardstate.Circuit
	carries map[guardstate.CircuitID]string // the stream on a circuit
	waiting []string                        // streams that wait for a controller
	next    int                             // the last circuit or stream

	failWrite bool // the file cannot be written
	refuses   bool // SETCONF is refused
	stubborn  bool // another controller changes the option whenever it is set

	dropped    []guardstate.Reject // by the packet filter
	filterless bool                // the packet filter cannot be changed

	// Since the agent's connection began: something was refused; how often others
	// changed the option.
	refused bool
	meddled int

	// answers and events are on their way to the agent, each in order.
	answers, events []said
	// disturbed counts what happened to the option, and to addresses, that the agent
	// cannot know before it is told.
	disturbed, moved int
	told             map[string]bool // every line of the option that Tor has accepted
}

// said is something that the control port says, and what was true when it did.
type said struct {
	event            rotation.Event
	disturbed, moved int
	next             int
}

func (t *modelTor) say(queue *[]said, events ...rotation.Event) {
	for _, e := range events {
		*queue = append(*queue, said{e, t.disturbed, t.moved, t.next})
	}
}

// values are ReachableORAddresses as Tor has them.
func (t *modelTor) values() []string {
	if t.isSet {
		return t.set
	}
	return t.loaded
}

// load reads the files, as Tor does when it starts and with each HUP: our lines come first.
func (t *modelTor) load() {
	t.isSet, t.set, t.loaded, t.gated = false, nil, nil, false
	for line := range strings.SplitSeq(t.include.Text, "\n") {
		if v, ok := strings.CutPrefix(line, "ReachableORAddresses "); ok {
			t.loaded = append(t.loaded, v)
		}
	}
	t.loaded = append(t.loaded, t.user...)
}

// choose evaluates the filter, and the primaries: confirmed ones first, then those that were primary,
// then the others; each in the order of the sample.
func (t *modelTor) choose() {
	t.policy = policyOf(t.values())
	for _, line := range t.values() {
		t.told[line] = true
	}
	var chosen []guardstate.Fingerprint
	take := func(all []sampled, ok func(sampled) bool) {
		for _, s := range all {
			if len(chosen) < 3 && ok(s) && t.filtered(s.id) && !slices.Contains(chosen, s.id) {
				chosen = append(chosen, s.id)
			}
		}
	}
	take(t.sample, func(s sampled) bool { return s.confirmed })
	take(t.sample, func(s sampled) bool { return slices.Contains(t.primary, s.id) })
	take(t.sample, func(sampled) bool { return true })
	t.primary = chosen
}

func policyOf(lines []string) guardstate.Policy {
	if len(lines) == 0 {
		return guardstate.AcceptAll()
	}
	p, err := guardstate.ParsePolicy(lines)
	if err != nil {
		panic(err)
	}
	return p
}

func accepts(p guardstate.Policy, r guardstate.Relay) bool {
	return slices.ContainsFunc(r.Addrs, p.Accepts)
}

func (t *modelTor) filtered(f guardstate.Fingerprint) bool {
	r := t.net.relays[f]
	return r.Listed && accepts(t.policy, r)
}

func (t *modelTor) samples(f guardstate.Fingerprint) bool {
	return slices.ContainsFunc(t.sample, func(s sampled) bool { return s.id == f })
}

// holds are the guards that are primary or have circuits.
func (t *modelTor) holds() []guardstate.Fingerprint {
	all := slices.Clone(t.primary)
	for _, c := range t.circ {
		all = append(all, c.Path[0])
	}
	slices.SortFunc(all, guardstate.Fingerprint.Compare)
	return slices.Compact(all)
}

// restart is Tor's own: options and circuits are gone, primaries are chosen anew.
func (t *modelTor) restart() {
	t.load()
	t.circ, t.waiting, t.primary, t.answers, t.events = nil, nil, nil, nil, nil
	clear(t.carries)
	t.disturbed++
	t.choose()
}

// hup has the files read again.
func (t *modelTor) hup() {
	t.load()
	t.disturbed++
	t.choose()
	t.say(&t.events, rotation.ConfChanged{Keys: []string{"ReachableORAddresses", "__LeaveStreamsUnattached"}})
}

// meddle is another controller, which puts the option back to what the user has.
func (t *modelTor) meddle() {
	t.disturbed++
	t.meddled++
	t.configure("ReachableORAddresses", slices.Clone(t.user))
}

// build makes a circuit through one of the first two primaries; now and then it
// carries a stream.
func (t *modelTor) build() {
	if len(t.primary) == 0 {
		return
	}
	t.through(t.primary[t.rng.IntN(min(2, len(t.primary)))])
	if c := t.circ[len(t.circ)-1]; t.rng.IntN(3) == 0 && !t.gated {
		t.attach(fmt.Sprint("s", t.next), c.ID)
	}
}

// through makes a circuit through a guard, which is confirmed by that.
func (t *modelTor) through(f guardstate.Fingerprint) {
	i := slices.IndexFunc(t.sample, func(s sampled) bool { return s.id == f })
	if !t.sample[i].confirmed {
		t.sample[i].confirmed = true
		t.say(&t.events, rotation.GuardChanged{Fingerprint: f, Status: "UP"})
	}
	t.next++
	c := guardstate.Circuit{ID: guardstate.CircuitID(fmt.Sprint(t.next)), Status: "BUILT", Path: []guardstate.Fingerprint{f, {0xEE}}, Purpose: "GENERAL"}
	t.circ = append(t.circ, c)
	t.say(&t.events, rotation.CircuitChanged{Circuit: c})
}

func (t *modelTor) attach(stream string, c guardstate.CircuitID) {
	t.carries[c] = stream
	t.say(&t.events, rotation.StreamChanged{Stream: guardstate.Stream{ID: stream, Status: "SUCCEEDED", Circuit: c}})
}

// occupy has Tor attach a user's stream to the circuit.
func (t *modelTor) occupy(id guardstate.CircuitID) {
	if t.carries[id] == "" && slices.ContainsFunc(t.circ, func(c guardstate.Circuit) bool { return c.ID == id }) {
		t.next++
		t.attach(fmt.Sprint("s", t.next), id)
	}
}

// open begins a user's stream, which waits if the option says so.
func (t *modelTor) open() {
	t.next++
	id := fmt.Sprint("s", t.next)
	t.say(&t.events, rotation.StreamChanged{Stream: guardstate.Stream{ID: id, Status: "NEW", Purpose: "USER"}})
	if t.gated {
		t.waiting = append(t.waiting, id)
		t.say(&t.events, rotation.StreamChanged{Stream: guardstate.Stream{ID: id, Status: "CONTROLLER_WAIT"}})
		return
	}
	t.goes(id)
}

// goes attaches a stream to a circuit of Tor's choice, be its guard excluded or not.
func (t *modelTor) goes(id string) {
	for _, c := range t.circ {
		if t.carries[c.ID] == "" {
			t.attach(id, c.ID)
			return
		}
	}
	t.say(&t.events, rotation.StreamChanged{Stream: guardstate.Stream{ID: id, Status: "CLOSED"}})
}

// end ends the stream of a circuit, or else the circuit.
func (t *modelTor) end(i int) {
	c := t.circ[i]
	if s := t.carries[c.ID]; s != "" {
		delete(t.carries, c.ID)
		t.say(&t.events, rotation.StreamChanged{Stream: guardstate.Stream{ID: s, Status: "CLOSED", Circuit: c.ID}})
		return
	}
	t.circ = slices.Delete(t.circ, i, i+1)
	c.Status = "CLOSED"
	t.say(&t.events, rotation.CircuitChanged{Circuit: c})
}

// lose closes what goes through a relay that is no more.
func (t *modelTor) lose(f guardstate.Fingerprint) {
	for i := len(t.circ) - 1; i >= 0; i-- {
		if t.circ[i].Path[0] == f {
			if t.carries[t.circ[i].ID] != "" {
				t.end(i)
			}
			t.end(i)
		}
	}
}

var errDisk = errors.New("no space left on device")

// perform does one command of the agent. Its answer is on its way then.
func (t *modelTor) perform(a rotation.Action) {
	done := func(id rotation.CommandID, err error) {
		t.refused = t.refused || err != nil
		t.say(&t.answers, rotation.CommandDone{ID: id, Err: err})
	}
	switch a := a.(type) {
	case rotation.Query:
		t.say(&t.answers, t.query(a))
		done(a.ID, nil)
	case rotation.SetConf:
		if t.refuses {
			t.refuses = false
			done(a.ID, &rotation.TorError{Code: 553, Text: "Unable to set option"})
			return
		}
		var lines []string
		for _, s := range a.Settings {
			lines = append(lines, s.Value)
		}
		t.configure(a.Settings[0].Key, lines)
		done(a.ID, nil)
		if t.stubborn && a.Settings[0].Key == "ReachableORAddresses" {
			t.meddle()
		}
	case rotation.ResetConf:
		t.configure(a.Keys[0], nil)
		done(a.ID, nil)
	case rotation.WriteInclude:
		if t.failWrite {
			done(a.ID, errDisk)
			return
		}
		t.include.Text = a.Text
		done(a.ID, nil)
	case rotation.Enforce:
		if t.filterless {
			done(a.ID, errors.New("operation not permitted"))
			return
		}
		t.dropped = a.Rejects
		done(a.ID, nil)
	case rotation.AttachStream:
		i := slices.Index(t.waiting, a.Stream)
		if i < 0 {
			done(a.ID, &rotation.TorError{Code: 555, Text: "Connection is not managed by controller."})
			return
		}
		t.waiting = slices.Delete(t.waiting, i, i+1)
		t.goes(a.Stream)
		done(a.ID, nil)
	case rotation.CloseCircuit:
		i := slices.IndexFunc(t.circ, func(c guardstate.Circuit) bool { return c.ID == a.Circuit })
		if i < 0 {
			done(a.ID, &rotation.TorError{Code: 552, Text: "Unknown circuit"})
			return
		}
		if t.carries[a.Circuit] == "" || !a.IfUnused {
			delete(t.carries, a.Circuit)
			t.end(i)
		}
		done(a.ID, nil)
	default:
		panic(fmt.Sprintf("nobody performs %T", a))
	}
}

// configure is SETCONF, or RESETCONF with no lines.
func (t *modelTor) configure(key string, lines []string) {
	if key == "__LeaveStreamsUnattached" {
		t.gated = slices.Equal(lines, []string{"1"})
	} else {
		t.isSet, t.set = true, lines
		t.choose()
	}
	t.say(&t.events, rotation.ConfChanged{Keys: []string{key}})
}

// query answers as the control port does.
func (t *modelTor) query(q rotation.Query) rotation.Event {
	switch q.What {
	case rotation.QueryConfig:
		e := rotation.ConfigRead{Include: t.include}
		for _, k := range rotation.ConfigKeys() {
			var vs []string
			switch {
			case k == "ReachableORAddresses":
				vs = t.values()
			case k == "__LeaveStreamsUnattached" && t.gated:
				vs = []string{"1"}
			}
			if len(vs) == 0 {
				e.Conf = append(e.Conf, guardstate.ConfLine{Key: k, Default: true})
			}
			for _, v := range vs {
				e.Conf = append(e.Conf, guardstate.ConfLine{Key: k, Value: v})
			}
		}
		return e
	case rotation.QueryEntryGuards:
		var e rotation.EntryGuards
		for _, s := range t.sample {
			g := guardstate.EntryGuard{Fingerprint: s.id, Status: guardstate.EntryGuardUp}
			if !s.confirmed {
				g.Status = guardstate.EntryGuardNeverConnected
			} else if !t.filtered(s.id) {
				g.Status = guardstate.EntryGuardUnusable
			}
			e.Guards = append(e.Guards, g)
		}
		return e
	case rotation.QueryCircuits:
		e := rotation.Circuits{Circuits: slices.Clone(t.circ)}
		for _, c := range t.circ {
			if s := t.carries[c.ID]; s != "" {
				e.Streams = append(e.Streams, guardstate.Stream{ID: s, Status: "SUCCEEDED", Circuit: c.ID})
			}
		}
		for _, s := range t.waiting {
			e.Streams = append(e.Streams, guardstate.Stream{ID: s, Status: "NEW"})
		}
		return e
	case rotation.QueryConsensus:
		return rotation.Consensus{Live: true}
	case rotation.QueryRelays:
		var e rotation.Relays
		for _, f := range q.Relays {
			r := t.net.relays[f]
			if !r.Listed {
				r = guardstate.Relay{}
			}
			r.Fingerprint = f
			e.Relays = append(e.Relays, r)
		}
		return e
	case rotation.QueryNetwork:
		var e rotation.Network
		for _, f := range t.net.order {
			if r := t.net.relays[f]; r.Listed {
				e.Guards = append(e.Guards, r)
			}
		}
		return e
	}
	panic("unknown query")
}
