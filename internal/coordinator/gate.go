package coordinator

import "guardring/shmproto"

// atGate: the member's streams wait at its join gate, and no order of ours has
// answered a publication that says so.
func (m *member) atGate() bool {
	p := &m.pub
	if !m.shown() || !p.has(shmproto.MemberGated) {
		return false
	}
	return m.seq == 0 || m.answers.Incarnation != p.incarnation || m.answers.Seq < m.gatedFrom
}

// answerGate gives m an order that says no more than the last one, if it waits
// for one and nothing more is to come: its conflicts are resolved, or cannot be,
// or are to be only after their delay. An order that moves it is an answer too.
// Under quarantine there is none, and a Tor that is only starting waits until it
// shows its guards.
func (c *Coordinator) answerGate(m *member) {
	p := &m.pub
	if !m.atGate() || c.gatewayOf[m.name.Gateway].inQuarantine() {
		return
	}
	if p.state == shmproto.MemberPresent && (p.selection == shmproto.SelectionUnknown || len(p.guards) == 0) {
		return
	}
	c.order(m, m.exclusions)
}
