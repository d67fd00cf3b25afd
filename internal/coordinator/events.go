package coordinator

import (
	"fmt"
	"time"
)

func (Published) event()     {}
func (Tick) event()          {}
func (GatewaySeen) event()   {}
func (Violated) event()      {}
func (Allowed) event()       {}
func (ConsensusRead) event() {}

// String names the event without guards.
func (e Published) String() string {
	return fmt.Sprintf("published %s slot=%d member=%q seq=%d", e.Gateway, e.Slot, e.Publication.Member, e.Publication.Seq)
}

// String names the event.
func (e Tick) String() string { return "tick" }

// String names the event.
func (e GatewaySeen) String() string {
	return fmt.Sprintf("gateway %s present=%t", e.Gateway, e.Present)
}

// String names the event.
func (e Violated) String() string {
	return fmt.Sprintf("violated %s slot=%d: %s", e.Gateway, e.Slot, e.Reason)
}

// String names the event.
func (e Allowed) String() string {
	if e.Instance == "" {
		return "allowed " + e.Gateway
	}
	return fmt.Sprintf("allowed %s/%s", e.Gateway, e.Instance)
}

// String names the event.
func (e ConsensusRead) String() string { return fmt.Sprintf("consensus guards=%d", len(e.Guards)) }

// atOf returns when the event happened.
func atOf(e Event) time.Time {
	switch e := e.(type) {
	case Published:
		return e.At
	case Tick:
		return e.At
	case GatewaySeen:
		return e.At
	case Violated:
		return e.At
	case Allowed:
		return e.At
	case ConsensusRead:
		return e.At
	}
	panic(fmt.Sprintf("coordinator: unknown event %T", e))
}
