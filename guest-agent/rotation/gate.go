package rotation

import (
	"fmt"
	"time"

	"guardring/shmproto"
)

// GateMode says what the join gate does with the streams of a new member.
type GateMode uint8

// The modes of the join gate.
const (
	GateOff    GateMode = iota // there is none
	GateOpen                   // streams wait for the host's answer, at most GateLimit; then they go
	GateClosed                 // streams wait for the host's answer, however long it takes
)

// optionGate makes Tor leave new streams of its users unattached. It does not touch
// Tor's own streams (directory fetches), nor those that are attached already. A HUP
// and a restart of Tor reset it; what waits then still has to be attached by us.
const optionGate = "__LeaveStreamsUnattached"

// gatePhase is how far a member is with its gate.
type gatePhase uint8

const (
	gateUnknown gatePhase = iota // nothing read yet
	gateNone                     // not gated
	gateClosing                  // the file and then the option are to be set
	gateShut                     // streams wait
	gateOpening                  // the option is to be reset, then what waits let go, then the file says so
	gatePassed                   // open for good
)

// gateClosings is how often the option is set again when it was reset while the gate
// is closed. A HUP does that; what does it again and again is another controller.
const gateClosings = 2

// gate is the join gate of a new member: its streams wait until the host has answered
// its first publication, so that nothing ever goes through a guard that it must not
// have. Order of effects: the file says closed, THEN the option is set; the file says
// opening, THEN the option is reset, THEN what waits is let go, THEN the file says
// passed. So the file tells a restarted agent whose option it is.
type gate struct {
	phase     gatePhase
	option    bool      // Tor leaves streams unattached now
	since     time.Time // when closing began
	deadline  time.Time // since and the limit
	opened    time.Time
	why       gateWhy      // why it is open, or was never closed
	first     shmproto.Seq // the first publication that says gated; 0: none yet
	again     int          // how often the option was set again
	foreign   bool         // another controller attaches streams: the option is its own now
	unmarked  bool         // the file cannot be written: open without
	collected bool         // what waits was asked for after the option was reset
	attaching map[CommandID]bool
	letGo     int // streams that were let go
}

// starting reports that Tor has no guards yet: it needs a consensus first.
func (m *Machine) starting() bool { return m.tor.entryRead && len(m.tor.entry) == 0 }

// answered reports that the present order was decided on a gated publication of ours.
func (m *Machine) answered() bool {
	g, o := &m.gate, m.order
	return o != nil && g.first != 0 && o.Order.Answers.Incarnation == m.cfg.Incarnation && o.Order.Answers.Seq >= g.first
}

// settled reports that Tor is as the answering order wants it, or cannot be.
func (m *Machine) settled() bool {
	return m.answered() && (m.receipt.Status == shmproto.ReceiptApplied || m.receipt.Status == shmproto.ReceiptRefused)
}

// closed reports that streams wait, or are about to.
func (g *gate) closed() bool { return g.phase == gateClosing || g.phase == gateShut }

// reconcileGate asks for the gate's next change, one at a time like all changes.
func (m *Machine) reconcileGate() {
	g := &m.gate
	if g.phase == gateUnknown {
		m.beginGate()
	}
	m.decideGate()
	switch g.phase {
	case gateClosing:
		m.closeGate()
	case gateOpening:
		m.openGate()
	case gatePassed:
		if n := parseGate(m.tor.include.Text); m.tor.confRead && !m.leaving && g.why != whyStopped && n.state != notePassed && (m.cfg.Gate != GateOff || n.state != noteNone) {
			m.writeGate(gateNote{state: notePassed, why: g.why})
		}
	}
}

// beginGate finds out where this Tor stands, from the include file and the option.
func (m *Machine) beginGate() {
	t, g := &m.tor, &m.gate
	note := parseGate(t.include.Text)
	ex, _ := parseInclude(t.include.Text)
	switch {
	case note.state == notePassed:
		g.phase, g.why = gatePassed, note.why
	case note.state == noteOpening:
		g.phase, g.why = gateOpening, note.why
	case note.state == noteClosed && m.cfg.Gate == GateOff:
		m.becomeOpening(whyOff)
	case note.state == noteClosed && !m.movable():
		m.becomeOpening(whyKind)
	case note.state == noteClosed && g.option && !note.since.IsZero() && !note.since.After(m.now):
		// Closed by us before. The limit goes on: who kills us again and again must not hold the streams.
		g.phase, g.since, g.deadline = gateShut, note.since, note.since.Add(m.cfg.GateLimit)
	// Closed by us, whenever that was. Also if a HUP has reset the option: what waited then waits on.
	case note.state == noteClosed && m.leaving:
		m.becomeOpening(whyLeaving)
	case note.state == noteClosed && m.stopping && m.cfg.Gate == GateOpen:
		m.becomeOpening(whyStopped)
	case m.cfg.Gate == GateOff || m.leaving || m.stopping:
		g.phase = gateNone
	case !m.movable():
		g.phase, g.why = gateNone, whyKind
	case note.state == noteNone && (len(ex) > 0 || t.split.Own != nil):
		g.phase, g.why = gatePassed, whyKnown
	case note.state == noteNone && g.option:
		g.phase, g.why = gatePassed, whyOther
		m.notice(NoticeWarn, "join gate: another controller has set __LeaveStreamsUnattached and attaches streams itself: the gate stays open; if there is none, restart Tor, or its streams wait for ever")
	case !t.include.Exists:
		g.phase, g.why = gateNone, whyFile
		m.notice(NoticeWarn, "join gate: the include file is missing, so the gate stays open: run guardring-guest join")
	default: // new; or closed before, and Tor was restarted, or the clock has jumped back
		*g = gate{phase: gateClosing, option: g.option, since: m.now, deadline: m.now.Add(m.cfg.GateLimit)}
	}
}

// movable reports that this Tor gives up guards, so that there is something to wait
// for. It can change while the gate is closed: who sets bridges does it in the first start.
func (m *Machine) movable() bool {
	t := &m.tor
	return !t.relay() && !t.bridges() && t.conf.Value("UseEntryGuards") != "0" && !m.cfg.Observe
}

// gateOverdue reports that the gate is closed well past the limit, or was not opened
// yet for that reason. Then it opens on an old picture of Tor, too: an answer that
// does not come must not hold anybody's streams.
func (m *Machine) gateOverdue() bool {
	g := &m.gate
	late := !g.deadline.IsZero() && m.now.After(g.deadline.Add(m.cfg.RetryAfter))
	return late && m.cfg.Gate == GateOpen && (g.closed() || g.phase == gateOpening)
}

// disconnect forgets what belongs to one control connection. The file is read again: with
// a new sample (fresh) it says no more that the gate is passed.
func (g *gate) disconnect() {
	g.again, g.collected, g.attaching = 0, false, nil
	if g.phase == gatePassed && !g.unmarked {
		g.phase = gateUnknown
	}
}

// decideGate opens a closed gate when its time has come.
func (m *Machine) decideGate() {
	g := &m.gate
	if !g.closed() {
		return
	}
	if m.starting() {
		g.deadline = m.now.Add(m.cfg.GateLimit) // nothing could go anywhere yet
	}
	switch {
	case m.leaving:
		m.becomeOpening(whyLeaving)
	case !m.movable():
		m.becomeOpening(whyKind)
	case m.stopping && m.cfg.Gate == GateClosed:
		m.notice(NoticeWarn, "join gate: the agent ends while it is closed: streams wait on (join-gate: closed) until the agent runs again; or restart Tor")
	case m.stopping && m.cfg.Gate == GateOpen:
		m.becomeOpening(whyStopped)
	case m.answered() && m.receipt.Status == shmproto.ReceiptApplied:
		m.becomeOpening(whyAnswered)
	case m.answered() && m.receipt.Status == shmproto.ReceiptRefused:
		m.becomeOpening(whyRefused)
	case m.now.Before(g.deadline):
	case m.cfg.Gate == GateClosed:
		m.notice(NoticeWarn, "join gate: the host has not answered within the limit: streams wait on (join-gate: closed); start guardring on the host, or end this with guardring-guest leave")
	default:
		m.becomeOpening(whyLimit)
	}
}

func (m *Machine) becomeOpening(why gateWhy) {
	m.gate.phase, m.gate.why = gateOpening, why
	if why == whyLimit {
		m.notice(NoticeWarn, "join gate: the host has not answered within the limit: streams go (join-gate: open), perhaps through a guard that another gateway has")
	}
}

func (m *Machine) becomePassed() {
	g := &m.gate
	g.phase, g.opened, g.attaching = gatePassed, m.now, nil
	m.notice(NoticeInfo, fmt.Sprintf("join gate opened: %s; streams that had waited: %d", g.why, g.letGo))
	m.reconcileGate() // the file
}

// Ending reports that the agent is about to end and the gate is yet to be opened.
func (m *Machine) Ending() bool {
	g := &m.gate
	if !m.stopping || !m.tor.up || m.left {
		return false
	}
	writes := m.change.id != 0 && (m.change.kind == changeGate || m.change.kind == changeGateFile)
	unread := g.phase == gateUnknown && m.cfg.Gate == GateOpen // it may be closed since before our start
	return writes || unread || g.phase == gateOpening || g.closed() && m.cfg.Gate == GateOpen
}

func (m *Machine) gateWake() time.Time {
	if g := &m.gate; g.closed() && g.deadline.After(m.now) {
		return g.deadline
	}
	return time.Time{}
}
