package election

import (
	"fmt"

	"guardring/shmproto"
)

// Event is a fact that happened: time passed, the board was read, or the action
// that the machine waits for was done.
type Event interface {
	event()
	String() string
}

// Tick: a quarter of a heartbeat passed on our own clock. Other is the lease
// that the other seat of the board shows, zero if it never held one.
type Tick struct{ Other shmproto.Lease }

// Looked: the board was read between ticks, as the runner does before each
// effect.
type Looked struct{ Other shmproto.Lease }

// Claimed: ClaimTerm made the term durable; it is ours.
type Claimed struct{}

// Taken: the term of ClaimTerm exists already; Highest is the highest that does.
type Taken struct{ Highest shmproto.Term }

// Fenced: FenceRegions is done.
type Fenced struct{}

// LedgerRead: ReadLedger is done, the core holds the ledger's state.
type LedgerRead struct{}

// LedgerWritten: WriteLedger is done, our ledger is complete and durable.
type LedgerWritten struct{ Other shmproto.Lease }

// StoodDown: StandDown is done.
type StoodDown struct{}

// Failed: the action that the machine waits for, or an effect while acting,
// failed for good (not a full disk, which the runner waits out).
type Failed struct{}

// Stop: the process is asked to end. The machine gives the lease up, so that
// the standby need not wait, and does nothing more.
type Stop struct{}

func (Tick) event()          {}
func (Looked) event()        {}
func (Claimed) event()       {}
func (Taken) event()         {}
func (Fenced) event()        {}
func (LedgerRead) event()    {}
func (LedgerWritten) event() {}
func (StoodDown) event()     {}
func (Failed) event()        {}
func (Stop) event()          {}

func (e Tick) String() string          { return "tick " + leaseString(e.Other) }
func (e Looked) String() string        { return "looked " + leaseString(e.Other) }
func (Claimed) String() string         { return "claimed" }
func (e Taken) String() string         { return fmt.Sprintf("taken highest=%d", e.Highest) }
func (Fenced) String() string          { return "fenced" }
func (LedgerRead) String() string      { return "ledger-read" }
func (e LedgerWritten) String() string { return "ledger-written " + leaseString(e.Other) }
func (StoodDown) String() string       { return "stood-down" }
func (Failed) String() string          { return "failed" }
func (Stop) String() string            { return "stop" }

// Action is a command. The actions of one Step are done in their order, each
// completely before the next. The last one may be answered by an event.
type Action interface {
	action()
	String() string
}

// SetLease: show Lease on the board and in our seat of every region. No answer.
type SetLease struct{ Lease shmproto.Lease }

// ClaimTerm: make the term durable if it does not exist. Answer: Claimed, Taken
// or Failed.
type ClaimTerm struct{ Term shmproto.Term }

// FenceRegions: show Lease on the board and in our seat of every region, then
// order these stores before all later loads. Answer: Fenced.
type FenceRegions struct{ Lease shmproto.Lease }

// ReadLedger: restore the core from the ledgers of the terms before Term.
// Answer: LedgerRead or Failed.
type ReadLedger struct{ Term shmproto.Term }

// WriteLedger: write our own ledger whole and durably. Answer: LedgerWritten or
// Failed.
type WriteLedger struct{ Term shmproto.Term }

// Act: write the core's orders into our seats and begin to step it. No answer.
type Act struct{ Term shmproto.Term }

// StandDown: forget the core's state, give no more orders. Answer: StoodDown.
type StandDown struct{}

func (SetLease) action()     {}
func (ClaimTerm) action()    {}
func (FenceRegions) action() {}
func (ReadLedger) action()   {}
func (WriteLedger) action()  {}
func (Act) action()          {}
func (StandDown) action()    {}

func (a SetLease) String() string     { return "SetLease " + leaseString(a.Lease) }
func (a ClaimTerm) String() string    { return fmt.Sprintf("ClaimTerm %d", a.Term) }
func (a FenceRegions) String() string { return "FenceRegions " + leaseString(a.Lease) }
func (a ReadLedger) String() string   { return fmt.Sprintf("ReadLedger before %d", a.Term) }
func (a WriteLedger) String() string  { return fmt.Sprintf("WriteLedger %d", a.Term) }
func (a Act) String() string          { return fmt.Sprintf("Act %d", a.Term) }
func (StandDown) String() string      { return "StandDown" }

func leaseString(l shmproto.Lease) string {
	if l == (shmproto.Lease{}) {
		return "(none)"
	}
	s := fmt.Sprintf("(epoch=%d term=%d beat=%d", l.Epoch.Number, l.Term, l.Heartbeat)
	if l.Acting {
		s += " acting"
	}
	return s + ")"
}
