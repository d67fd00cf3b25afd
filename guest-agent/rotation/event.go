package rotation

import (
	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// Event is a fact that happened. Step gets the time beside it.
type Event interface {
	event()
	String() string
}

// ControlUp: the control port answers, is authenticated, and SETEVENTS CIRC
// STREAM GUARD NEWCONSENSUS CONF_CHANGED has succeeded. Sent again after each
// reconnection. Everything else is asked for by Query.
type ControlUp struct {
	TorVersion string // GETINFO version
}

// ControlDown: the control port is away, refuses or hangs. Outstanding commands
// are void: no CommandDone comes for them any more.
type ControlDown struct {
	Reason string // for the log
}

// ConfigRead answers QueryConfig: GETCONF of all ConfigKeys, and the include file.
type ConfigRead struct {
	Conf    guardstate.Conf
	Include Include
}

// Include is what is known of our include file.
type Include struct {
	Text     string // its content; "" if empty or missing
	Exists   bool   // a regular file that we may replace
	Included bool   // the torrc names it (%include, or a glob that matches it)
	First    bool   // no Reachable*Addresses line is read before it
	Problem  string // why Exists, Included or First is false, with the remedy; for a Notice
}

// EntryGuards answers QueryEntryGuards: GETINFO entry-guards, in sampled order,
// and GETINFO dormant.
type EntryGuards struct {
	Guards  []guardstate.EntryGuard
	Dormant bool
}

// GuardChanged: a GUARD event.
type GuardChanged struct {
	Fingerprint guardstate.Fingerprint
	Status      string // NEW, DROPPED, UP, DOWN, BAD, GOOD, GOOD_L2, BAD_L2
}

// Circuits answers QueryCircuits: GETINFO circuit-status and stream-status, asked
// one right after the other.
type Circuits struct {
	Circuits []guardstate.Circuit
	Streams  []guardstate.Stream
}

// CircuitChanged: a CIRC event.
type CircuitChanged struct{ Circuit guardstate.Circuit }

// StreamChanged: a STREAM event.
type StreamChanged struct{ Stream guardstate.Stream }

// ConsensusArrived: a NEWCONSENSUS event.
type ConsensusArrived struct{}

// Consensus answers QueryConsensus.
type Consensus struct {
	Live   bool // Tor has a live consensus (GETINFO consensus/valid-until has not passed, ns/id answers)
	Params guardstate.Params
}

// Relays answers QueryRelays: one entry per relay asked for, from ns/id and
// md/id. A relay that Tor does not know comes with Listed false and no Addrs.
type Relays struct{ Relays []guardstate.Relay }

// Network answers QueryNetwork: every relay of the consensus with the flags
// Guard, Running and Valid, from ns/all; families are not needed.
type Network struct{ Guards []guardstate.Relay }

// ConfChanged: a CONF_CHANGED event: a SETCONF (also our own) or a HUP.
type ConfChanged struct{ Keys []string }

// StateFile: the state file was read (at start, and after each change). It is
// late; only its selections and dates are used. Err set: the file is damaged or
// half-written, State is not used, the last good one stays.
type StateFile struct {
	State guardstate.State
	Err   error
}

// OrderSeen: the order cell shows an order. The machine keeps the highest.
type OrderSeen struct {
	Order  shmproto.Order
	Digest [16]byte // Order.Digest(), echoed in receipts
}

// CommandDone: the action with this ID has ended. For a Query, its answer came
// before, as an event of its own.
type CommandDone struct {
	ID  CommandID
	Err error // nil: done; *TorError: Tor said no; else the adapter's error
}

// Tick: time passed. The runner sends one at Ready.Wake.
type Tick struct{}

// Leave: lift every exclusion, empty the include file, and publish MemberLeft.
// The machine is over when Ready.Left is set.
type Leave struct{}

// Stop: the agent is about to end, and the member stays one: nothing is lifted. Only a
// join gate that holds streams is opened (GateOpen), because nobody else would; the
// note in the include file stays, and the next start closes it again. It is done when
// Machine.Ending is false.
type Stop struct{}

// TorError is an answer of the control port other than 250.
type TorError struct {
	Code int // 513, 553, ...
	Text string
}

func (ControlUp) event()        {}
func (ControlDown) event()      {}
func (ConfigRead) event()       {}
func (EntryGuards) event()      {}
func (GuardChanged) event()     {}
func (Circuits) event()         {}
func (CircuitChanged) event()   {}
func (StreamChanged) event()    {}
func (ConsensusArrived) event() {}
func (Consensus) event()        {}
func (Relays) event()           {}
func (Network) event()          {}
func (ConfChanged) event()      {}
func (StateFile) event()        {}
func (OrderSeen) event()        {}
func (CommandDone) event()      {}
func (Tick) event()             {}
func (Leave) event()            {}
func (Stop) event()             {}
