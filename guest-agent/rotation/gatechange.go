package rotation

import (
	"fmt"
	"time"

	"guardring/internal/guardstate"
)

// closeGate brings file and option to "closed".
func (m *Machine) closeGate() {
	t, g := &m.tor, &m.gate
	if n := parseGate(t.include.Text); n.state != noteClosed || !n.since.Equal(g.since.Truncate(time.Second)) {
		m.writeGate(gateNote{state: noteClosed, since: g.since})
		return
	}
	if !g.option {
		m.change = change{id: m.id(), kind: changeGate, set: true}
		m.do(SetConf{ID: m.change.id, Settings: []Setting{{Key: optionGate, Value: "1"}}})
		return
	}
	g.phase = gateShut
}

// openGate resets the option, lets go what waits, and notes that the gate is passed. What
// the file holds is not known before it was read: it was perhaps written when the connection
// broke. Then the gate opens without a note, and the exclusions in the file stay.
func (m *Machine) openGate() {
	t, g := &m.tor, &m.gate
	switch note := parseGate(t.include.Text); {
	case g.foreign:
		m.becomePassed()
	case note.state != noteOpening && t.confRead && !g.unmarked && t.include.Exists && !m.leaving && g.why != whyStopped:
		m.writeGate(gateNote{state: noteOpening, why: g.why})
	case g.option:
		m.change = change{id: m.id(), kind: changeGate}
		m.do(ResetConf{ID: m.change.id, Keys: []string{optionGate}})
	case !g.collected:
		g.collected = true
		m.want(QueryCircuits)
	case !m.fresh(QueryCircuits) && !m.retry[QueryCircuits]: // what cannot be read is not waited for: events told, too
	case g.attaching == nil:
		g.attaching = map[CommandID]bool{}
		for _, id := range sortedKeys(t.waiting) {
			c := m.id()
			g.attaching[c] = true
			m.do(AttachStream{ID: c, Stream: id})
		}
	}
	if g.attaching != nil && len(g.attaching) == 0 {
		m.becomePassed()
	}
}

// gateDone takes the end of a command of the gate; it reports false if c is none.
func (m *Machine) gateDone(e CommandDone) bool {
	g := &m.gate
	if !g.attaching[e.ID] {
		return false
	}
	// A refusal means that the stream has gone, or that Tor attaches it already.
	delete(g.attaching, e.ID)
	if e.Err == nil {
		g.letGo++
	}
	return true
}

// gateChanged takes the end of a change of the gate's option or line.
func (m *Machine) gateChanged(c change, err error) {
	t, g := &m.tor, &m.gate
	switch {
	case c.kind == changeGateFile && err == nil:
		t.include.Text = c.text
	case c.kind == changeGateFile:
		m.notice(NoticeWarn, fmt.Sprintf("join gate: the include file cannot be written (%.300v): make room or correct the file's owner", err))
		m.writeAt = m.now.Add(m.cfg.RetryAfter)
		g.unmarked = true
		if g.phase == gateClosing {
			m.becomeOpening(whyFile) // what a killed agent could not undo is not begun
		}
	case err == nil:
		g.option = c.set
		if c.set {
			m.notice(NoticeInfo, fmt.Sprintf("join gate closed: this Tor is a new member; its streams wait until the host has answered, at most %s", m.cfg.GateLimit))
			m.want(QueryCircuits)
		}
	case isTorError(err) && c.set:
		m.notice(NoticeWarn, fmt.Sprintf("join gate: Tor refused __LeaveStreamsUnattached (%.200v): the gate stays open", err))
		m.becomeOpening(whyTor)
	case isTorError(err):
		m.notice(NoticeWarn, fmt.Sprintf("join gate: Tor refused to reset __LeaveStreamsUnattached (%.200v): streams wait until Tor is restarted", err))
		g.foreign = true // not ours to change, it seems
	default: // not answered: Tor may have done it; ask
		m.want(QueryConfig)
	}
}

// readGate takes the option's value as Tor has it.
func (m *Machine) readGate(conf guardstate.Conf) {
	g := &m.gate
	was := g.option
	g.option = conf.Value(optionGate) == "1"
	if g.phase != gateShut || g.option {
		return
	}
	g.phase = gateClosing
	if !was {
		return
	}
	if g.again++; g.again > gateClosings {
		m.notice(NoticeWarn, "join gate: another controller keeps resetting __LeaveStreamsUnattached: the gate stays open")
		m.becomeOpening(whyOther)
	}
}

// attachedByOther notices that another controller attaches streams that wait at our
// gate. It has set the option for itself, too, and would be lost without it.
func (m *Machine) attachedByOther(s guardstate.Stream) {
	g := &m.gate
	if g.phase != gateShut || s.Circuit == "" || !m.tor.waiting[s.ID] {
		return
	}
	g.foreign = true
	m.becomeOpening(whyOther)
	m.notice(NoticeWarn, "join gate: another controller attaches streams itself: the gate is left to it, and __LeaveStreamsUnattached stays set; if that controller has ended, restart Tor")
}
