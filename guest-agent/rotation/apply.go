package rotation

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// see takes an order if it is the highest so far. The same one again changes nothing.
func (m *Machine) see(e OrderSeen) {
	if m.order != nil && e.Order.Compare(&m.order.Order) <= 0 {
		return
	}
	e.Order.Exclusions = slices.Clone(e.Order.Exclusions)
	m.order = &e
	m.yielded, m.fights, m.refused = false, nil, nil
	m.answerWith(shmproto.ReceiptPending, shmproto.ReasonNone)
	m.want(QueryRelays, QueryCircuits)
}

// answerWith sets the receipt of the present order.
func (m *Machine) answerWith(s shmproto.ReceiptStatus, r shmproto.ReceiptReason) {
	if m.order == nil || m.leaving {
		return
	}
	o := &m.order.Order
	m.receipt = shmproto.Receipt{Epoch: o.Epoch, Term: o.Term, Seq: o.Seq, Digest: m.order.Digest, Status: s, Reason: r}
}

// reconcile asks for the next thing that is missing between Tor as it is and
// Tor as it must be. Order of effects: option, file, circuits, receipt.
func (m *Machine) reconcile() {
	t := &m.tor
	if m.change.id != 0 {
		return // one change at a time
	}
	if !t.confRead || m.wanted[QueryConfig] || m.asked[QueryConfig] != 0 || m.retry[QueryConfig] {
		if m.gateOverdue() {
			m.reconcileGate()
		}
		return // never on an old picture
	}
	if !t.unrestrictedUser() && !t.networkRead && !t.relay() {
		m.need(QueryNetwork)
	}
	if m.reconcileGate(); m.change.id != 0 {
		return
	}
	if m.leaving {
		if m.gate.phase == gateOpening { // what waits at the gate first
			return
		}
		if m.put(nil) {
			m.left = true
		}
		return
	}
	if m.order == nil && len(m.ex) == 0 {
		return // our lines may be in force without a file (killed in between): the order will tell what they are
	}
	target, reason, ok := m.target()
	if !ok {
		return // an answer is awaited
	}
	if reason != shmproto.ReasonNone {
		if reason == shmproto.ReasonTooFewGuards || reason == shmproto.ReasonRestrictedSelection {
			m.put(m.resolve(m.held())) // what was in force before stays so, also when a relay moves
		}
		m.answerWith(shmproto.ReceiptRefused, reason)
		return
	}
	if m.put(target) {
		m.verify(target)
	}
}

// reconcileDown is what can be done without a control port: empty the file on
// the way out. Tor reads it at its next start.
func (m *Machine) reconcileDown() {
	if (m.leaving || m.stopping && m.cfg.Gate == GateOpen) && m.gate.option && m.gate.phase != gatePassed {
		m.notice(NoticeWarn, "the join gate cannot be opened without the control port: if Tor runs, restart it, or its streams wait for ever")
	}
	switch {
	case m.leaving && m.change.id == 0 && (!m.exKnown || m.tor.include.Text != "" && m.tor.include.Text != EmptyInclude()):
		m.write(EmptyInclude())
	case m.leaving && m.change.id == 0:
		m.left = true
	case m.order != nil && m.receipt.Status == shmproto.ReceiptPending:
		m.answerWith(shmproto.ReceiptPending, shmproto.ReasonControlPort)
	}
}

// put brings option and file to the exclusions ex; it reports true when both are there.
func (m *Machine) put(ex []exclusion) bool {
	t := &m.tor
	lines := guardstate.Merge(rejects(ex), t.firewall)
	if !m.sameOption(lines) {
		m.setOption(lines, ex)
		return false
	}
	m.yielded = false
	m.ex = ex
	text := formatInclude(ex, guardstate.OwnLines(rejects(ex), t.firewall))
	if len(ex) == 0 && t.include.Text == "" {
		text = "" // as join made it
	} else if !m.leaving {
		text = withGate(text, parseGate(t.include.Text))
	}
	if t.include.Text != text {
		if !t.include.Exists {
			if m.leaving {
				return true // nothing to empty
			}
			m.includeProblem()
			return false
		}
		if m.writeAt.IsZero() {
			m.write(text)
		}
		return false
	}
	return true
}

// sameOption reports that Tor's value is lines already. Without a user list
// and without ours, what FascistFirewall put there is no difference.
func (m *Machine) sameOption(lines []string) bool {
	t := &m.tor
	if len(lines) == 0 {
		return t.split.Own == nil
	}
	return slices.Equal(lines, t.running)
}

func (m *Machine) setOption(lines []string, ex []exclusion) {
	t := &m.tor
	switch {
	case m.yielded && !m.truce():
		m.answerWith(shmproto.ReceiptFailed, shmproto.ReasonOverridden)
		return
	case m.refused != nil && slices.Equal(m.refused, lines):
		m.answerWith(shmproto.ReceiptFailed, shmproto.ReasonSetconf)
		return
	case len(ex) > 0 && (!t.include.Exists || !m.begun() && !m.includeUsable()):
		// Nothing of ours is in force: do not begin what the next HUP would undo.
		m.includeProblem()
		return
	case m.overridden(ex):
		return
	}
	m.change = change{id: m.id(), kind: changeOption, lines: lines, ex: ex}
	m.answerWith(shmproto.ReceiptPending, shmproto.ReasonNone)
	if len(lines) == 0 {
		m.do(ResetConf{ID: m.change.id, Keys: []string{optionOR}})
		return
	}
	set := make([]Setting, len(lines))
	for i, l := range lines {
		set[i] = Setting{Key: optionOR, Value: l}
	}
	m.do(SetConf{ID: m.change.id, Settings: set})
}

// begun reports that something of ours is in force, or was before Tor lost it.
func (m *Machine) begun() bool {
	ex, _ := parseInclude(m.tor.include.Text)
	return m.tor.split.Own != nil || len(ex) > 0
}

// truce reports that the others had the option for long enough to try again.
func (m *Machine) truce() bool {
	if n := len(m.fights); n > 0 && m.now.Sub(m.fights[n-1]) <= fightWindow {
		return false
	}
	m.yielded = false
	return true
}

// overridden counts how often the option is set again although what we want did
// not change: then somebody else changed it. Past MaxRounds within an hour they have it.
func (m *Machine) overridden(ex []exclusion) bool {
	if len(ex) == 0 || !sameExclusions(ex, m.ex) {
		return false
	}
	m.fights = slices.DeleteFunc(m.fights, func(t time.Time) bool { return m.now.Sub(t) > fightWindow })
	if len(m.fights) >= m.cfg.MaxRounds {
		m.yielded = true
		m.answerWith(shmproto.ReceiptFailed, shmproto.ReasonOverridden)
		m.notice(NoticeWarn, "another controller keeps changing ReachableORAddresses: the exclusions are not in force; stop that controller, or end this member with guardring-guest leave")
		return true
	}
	m.fights = append(m.fights, m.now)
	return false
}

func sameExclusions(a, b []exclusion) bool {
	return slices.EqualFunc(a, b, func(x, y exclusion) bool {
		return x.guard == y.guard && x.whole == y.whole && slices.Equal(x.addrs, y.addrs)
	})
}

func (m *Machine) write(text string) {
	m.change = change{id: m.id(), kind: changeFile, text: text}
	m.do(WriteInclude{ID: m.change.id, Text: text})
}

// changed takes the end of the changing command.
func (m *Machine) changed(c change, err error) {
	t := &m.tor
	if c.kind == changeGate || c.kind == changeGateFile {
		m.gateChanged(c, err)
		return
	}
	var refusal *TorError
	switch {
	case c.kind == changeOption && err == nil:
		m.ex = c.ex
		t.split = guardstate.SplitReachable(c.lines)
		t.setRunning(c.lines)
		m.want(QueryEntryGuards, QueryCircuits, QueryRelays)
	case c.kind == changeOption && errors.As(err, &refusal):
		m.refused = c.lines
		m.answerWith(shmproto.ReceiptFailed, shmproto.ReasonSetconf)
		m.notice(NoticeWarn, fmt.Sprintf("tor refused ReachableORAddresses (%d %.200q): nothing was changed; see Tor's log", refusal.Code, refusal.Text))
		if m.leaving {
			m.left = true
		}
	case c.kind == changeOption: // not answered: Tor may have done it; ask
		m.want(QueryConfig)
	case err == nil:
		t.include.Text, m.exKnown = c.text, true
	default:
		m.answerWith(shmproto.ReceiptFailed, shmproto.ReasonIncludeFile)
		m.notice(NoticeWarn, fmt.Sprintf("the include file cannot be written (%.300v): the exclusion ends at Tor's next HUP or start; make room or correct the file's owner", err))
		m.writeAt = m.now.Add(m.cfg.RetryAfter)
		if m.leaving {
			m.left = true
		}
	}
}

func (m *Machine) includeUsable() bool {
	i := m.tor.include
	return i.Exists && i.Included && i.First && m.tor.split.First
}

func (m *Machine) includeProblem() {
	m.answerWith(shmproto.ReceiptFailed, shmproto.ReasonIncludeFile)
	text := m.tor.include.Problem
	if text == "" {
		text = "the include file is not read by Tor before the user's Reachable options: run guardring-guest join"
	}
	m.notice(NoticeWarn, text)
}

// verify closes what is left of the excluded guards and says applied when Tor,
// asked after the option was set, shows nothing of them any more.
func (m *Machine) verify(ex []exclusion) {
	t := &m.tor
	if !m.fresh(QueryEntryGuards) || !m.fresh(QueryCircuits) || !m.relaysKnown() || m.wanted[QueryRelays] || m.asked[QueryRelays] != 0 {
		return
	}
	m.closeCircuits(ex)
	used, prim := t.inUse(), t.primaries()
	for _, x := range ex {
		f := x.guard
		i := slices.IndexFunc(t.entry, func(g guardstate.EntryGuard) bool { return g.Fingerprint == f })
		switch {
		case i >= 0 && t.filtered(t.entry[i]), slices.Contains(prim.Primary, f):
			// It passes the filter all the same: it is at an address that we do not know yet.
			m.retry[QueryRelays], m.retry[QueryEntryGuards] = true, true
			m.retryLater()
			m.answerWith(shmproto.ReceiptPending, shmproto.ReasonUnknownAddress)
			return
		case used[f]:
			m.answerWith(shmproto.ReceiptPending, shmproto.ReasonStillInUse)
			return
		case len(x.addrs) == 0 && !t.live:
			m.answerWith(shmproto.ReceiptPending, shmproto.ReasonUnknownAddress)
			return
		}
	}
	if !m.includeUsable() && len(ex) > 0 {
		m.includeProblem() // in force now, but not after the next HUP
		return
	}
	m.answerWith(shmproto.ReceiptApplied, shmproto.ReasonNone)
}

// fresh reports that the last answer to q is as new as all that happened: whatever
// makes it old, a change of the option above all, wants it again at once.
func (m *Machine) fresh(q What) bool {
	return m.asked[q] == 0 && !m.wanted[q] && !m.retry[q] && m.answer[q] != 0
}
