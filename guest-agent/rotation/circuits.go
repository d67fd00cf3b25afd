package rotation

import (
	"maps"
	"slices"
	"time"

	"guardring/internal/guardstate"
)

// closeCircuits closes circuits whose first hop is excluded: those without
// streams at once; with streams only with Cut. A conflux set goes as one: closing
// one leg with data in flight tears it down anyway. Introduction circuits go one
// by one, so that an onion service stays reachable.
func (m *Machine) closeCircuits(ex []exclusion) {
	t := &m.tor
	ids := slices.Sorted(maps.Keys(t.circuits))
	out := map[string]bool{} // conflux sets with an excluded first hop
	var close []guardstate.CircuitID
	for _, id := range ids {
		if c := t.circuits[id]; c.ConfluxID != "" && m.through(c, ex) {
			out[c.ConfluxID] = true
		}
	}
	for _, id := range ids {
		c := t.circuits[id]
		switch {
		case m.askedToClose(c) || !out[c.ConfluxID] && !m.through(c, ex):
		case c.Purpose == purposePathBias:
			m.askClose(id, false)
		case c.Purpose == "HS_SERVICE_INTRO":
			m.closeIntro(id)
		case m.cfg.Cut || !m.busy(c):
			close = append(close, id)
		}
	}
	// Of a set, the legs through excluded guards last: an agent that is killed in
	// between finds the rest of the set by them.
	for _, excluded := range []bool{false, true} {
		for _, id := range close {
			if m.through(t.circuits[id], ex) == excluded {
				m.closeOne(id)
			}
		}
	}
}

// closeIntro closes one introduction circuit and none for IntroGap.
func (m *Machine) closeIntro(id guardstate.CircuitID) {
	if !m.introAt.IsZero() && m.now.Before(m.introAt) {
		return
	}
	m.introAt = m.now.Add(m.cfg.IntroGap)
	m.closeOne(id)
}

func (m *Machine) introWake() time.Time {
	if m.introAt.After(m.now) {
		return m.introAt
	}
	return time.Time{}
}

// closeOne asks Tor to leave the circuit alone if a stream came meanwhile,
// unless streams may be cut. Whether it is gone is seen, not assumed: the next
// snapshot or CIRC event tells.
func (m *Machine) closeOne(id guardstate.CircuitID) {
	m.askClose(id, !m.cfg.Cut)
}

func (m *Machine) askClose(id guardstate.CircuitID, ifUnused bool) {
	m.closing[id] = m.tor.circuits[id].Purpose
	m.do(CloseCircuit{ID: m.id(), Circuit: id, IfUnused: ifUnused})
	m.want(QueryCircuits)
}

// purposePathBias: Tor does not close a circuit whose streams it has not seen
// succeed. It keeps the circuit to send one probe through it, and closes it when
// the answer comes, which is the relays' choice (circpathbias.c,
// pathbias_check_close). Asked once more, it closes it. No stream can be on it.
const purposePathBias = "PATH_BIAS_TESTING"

// askedToClose reports that Tor was asked to close c, for what c is now.
func (m *Machine) askedToClose(c guardstate.Circuit) bool {
	asked, ok := m.closing[c.ID]
	return ok && (asked == c.Purpose || c.Purpose != purposePathBias)
}

// through reports that c's first hop is excluded, and that c is no directory fetch.
func (m *Machine) through(c guardstate.Circuit, ex []exclusion) bool {
	f, ok := c.First()
	return ok && !c.OneHop() && slices.ContainsFunc(ex, func(x exclusion) bool { return x.guard == f })
}

// busy reports that c, or another leg of its set, carries streams. An onion
// service's streams are not in stream-status, so its rendezvous circuits count
// as busy.
func (m *Machine) busy(c guardstate.Circuit) bool {
	if c.Purpose == "HS_SERVICE_REND" {
		return true
	}
	for _, id := range m.tor.streams {
		if id == c.ID || c.ConfluxID != "" && m.tor.circuits[id].ConfluxID == c.ConfluxID {
			return true
		}
	}
	return false
}
