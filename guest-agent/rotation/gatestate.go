package rotation

import "time"

// gateWhy is why a gate is open. The word stands in the include file.
type gateWhy string

const (
	whyAnswered gateWhy = "answered"
	whyRefused  gateWhy = "order-refused"
	whyLimit    gateWhy = "limit"
	whyLeaving  gateWhy = "leaving"
	whyOff      gateWhy = "switched-off"
	whyKnown    gateWhy = "not-new"
	whyOther    gateWhy = "other-controller"
	whyTor      gateWhy = "tor-refused"
	whyFile     gateWhy = "include-file"
	whyKind     gateWhy = "cannot-move"
	whyStopped  gateWhy = "agent-stopped"
)

// String explains w in plain words.
func (w gateWhy) String() string {
	switch w {
	case whyAnswered:
		return "the host has answered: the guards are as clear as they can be"
	case whyRefused:
		return "the host's order was refused, so nothing better will come; see the receipt"
	case whyLimit:
		return "the limit passed without the host's answer"
	case whyLeaving:
		return "the member leaves"
	case whyOff:
		return "the join gate is switched off"
	case whyKnown:
		return "this Tor was a member before"
	case whyOther:
		return "another controller decides about streams (__LeaveStreamsUnattached)"
	case whyTor:
		return "Tor refused __LeaveStreamsUnattached"
	case whyFile:
		return "the include file cannot be written"
	case whyKind:
		return "this Tor gives up no guards (a relay, bridges, no entry guards, or policy observe), so there is nothing to wait for"
	case whyStopped:
		return "the agent was stopped, and nobody else would open it; its next start closes it again"
	}
	return "not known"
}

// GateState is the join gate as status shows it.
type GateState struct {
	State    string    // "": no gate; closed, opening, open
	Since    time.Time // closed since
	Deadline time.Time // the limit, until it is open; zero if an earlier start had begun to open it
	Holds    bool      // it stays closed past the limit
	Waiting  int       // streams that wait
	Opened   time.Time // when it opened; zero if that was before this start
	LetGo    int       // streams that waited and were let go
	Why      string    // why it is open; while it is closed, what it waits for
}

// Gate returns the state of the join gate.
func (m *Machine) Gate() GateState {
	g := &m.gate
	s := GateState{Since: g.since, Opened: g.opened, LetGo: g.letGo}
	switch g.phase {
	case gateUnknown, gateNone:
		if g.why == "" {
			return GateState{}
		}
		s.State, s.Why = "open", g.why.String()
	case gateClosing, gateShut:
		s.State, s.Waiting = "closed", len(m.tor.waiting)
		s.Deadline, s.Holds, s.Why = g.deadline, m.cfg.Gate == GateClosed, m.awaited()
	case gateOpening:
		s.State, s.Waiting, s.Deadline, s.Why = "opening", len(m.tor.waiting), g.deadline, g.why.String()
	case gatePassed:
		s.State, s.Why = "open", g.why.String()
		if g.foreign {
			s.Waiting = len(m.tor.waiting) // for whoever attaches them
		}
	}
	return s
}

// awaited says what a closed gate waits for.
func (m *Machine) awaited() string {
	switch {
	case !m.tor.up:
		return "the control port is away"
	case m.starting():
		return "Tor has not chosen its guards yet"
	case m.gate.first == 0:
		return "the guards are not published yet"
	case !m.answered():
		return "the host has not answered yet"
	}
	return "the host's order is not applied yet; see the receipt"
}
