package rotation

import (
	"time"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// CommandID names one command until its CommandDone. IDs are never reused by a
// machine; 0 is none.
type CommandID uint64

// Action is a command to the runner. Actions of one Ready are done in order.
type Action interface {
	action()
	String() string
}

// Ready is what must be done now.
type Ready struct {
	// Actions: do in this order; a failed one does not stop those after it,
	// because whatever depends on success waits in the machine for its CommandDone.
	Actions []Action
	// Wake: send a Tick at this time, or sooner; zero: only events matter. It
	// replaces the Wake of the Ready before.
	Wake time.Time
	// Left: the member has left and Tor is as it was before; the machine is over.
	Left bool
}

// Publish: write this publication into the member's cell, append to the ring,
// ring the doorbell. Attachment and Incarnation are the writer's to fill in. A
// newer one replaces one that could not be written yet. Seq counts from 1; a
// changed receipt is published under the same Seq.
type Publish struct{ Publication *shmproto.Publication }

// SetConf: send one SETCONF with these settings, several for one key being its
// lines in order. Its 250 OK comes BEFORE any WriteInclude of the same change is
// asked for, and a refusal means that Tor changed nothing. Nothing else may be
// sent to apply: never SIGNAL RELOAD, never SAVECONF, never +SETCONF.
type SetConf struct {
	ID       CommandID
	Settings []Setting
}

// ResetConf: send one RESETCONF of these keys (their default).
type ResetConf struct {
	ID   CommandID
	Keys []string
}

// Setting is one Key=Value; the adapter quotes Value (control-spec, QuotedString).
type Setting struct{ Key, Value string }

// WriteInclude: replace the include file's content (temporary file in the same
// directory, sync, rename; owner and mode kept). Asked for AFTER the SetConf or
// ResetConf with the same meaning was answered 250 OK, and done BEFORE any circuit
// of this change is closed. Tor is not told: it reads the file at its next start or HUP.
type WriteInclude struct {
	ID   CommandID
	Text string
}

// Enforce: have the packet filter drop what this Tor sends to open a connection to
// these addresses, and to no others any more. Asked for only if Config.Enforce.
// It comes AFTER the SetConf that gives a guard up was answered 250 OK, and BEFORE
// the SetConf that lifts an exclusion. Done also while the control port is away.
type Enforce struct {
	ID      CommandID
	Rejects []guardstate.Reject
}

// CloseCircuit: CLOSECIRCUIT. IfUnused is given when no stream may be cut: Tor
// then leaves the circuit alone if one was attached meanwhile.
type CloseCircuit struct {
	ID       CommandID
	Circuit  guardstate.CircuitID
	IfUnused bool
}

// AttachStream: ATTACHSTREAM of a stream that waits, to circuit 0: Tor chooses the
// circuit, as it does without a controller.
type AttachStream struct {
	ID     CommandID
	Stream string
}

// Query: ask Tor, and Step the answering event, then CommandDone.
type Query struct {
	ID        CommandID
	What      What
	Relays    []guardstate.Fingerprint // QueryRelays: whom
	Countries bool                     // QueryNetwork: fill in Country (GETINFO ip-to-country)
}

// What a Query asks for.
type What uint8

// The queries. Each is answered by the event of the same name.
const (
	QueryConfig What = iota
	QueryEntryGuards
	QueryCircuits
	QueryConsensus
	QueryRelays
	QueryNetwork
	numQueries = iota
)

// Notice: tell the user, in the log. Fingerprints are kept apart from the text:
// the log shows them only if the user asked for that.
type Notice struct {
	Level  NoticeLevel
	Text   string // one sentence, and what to do
	Guards []guardstate.Fingerprint
}

// NoticeLevel is how loud a Notice is.
type NoticeLevel uint8

// The levels of a Notice.
const (
	NoticeInfo NoticeLevel = iota
	NoticeWarn             // the user should do something
)

func (Publish) action()      {}
func (SetConf) action()      {}
func (ResetConf) action()    {}
func (WriteInclude) action() {}
func (Enforce) action()      {}
func (CloseCircuit) action() {}
func (AttachStream) action() {}
func (Query) action()        {}
func (Notice) action()       {}
