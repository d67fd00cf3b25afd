package rotation

import (
	"slices"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// target is the set of exclusions that must be in force, with the addresses as
// they are known now, or the reason to refuse the order. ok is false while an
// answer of Tor is awaited.
func (m *Machine) target() (ex []exclusion, reason shmproto.ReceiptReason, ok bool) {
	t := &m.tor
	if m.order == nil {
		return m.resolve(m.held()), shmproto.ReasonNone, true // hold what the file says
	}
	want := m.order.Order.Exclusions
	fresh := slices.ContainsFunc(want, func(f guardstate.Fingerprint) bool { return !m.excluded(f) })
	switch {
	case t.relay():
		return nil, shmproto.ReasonRelay, true
	case m.cfg.Observe:
		return nil, shmproto.ReasonObserve, true
	case t.bridges():
		return nil, shmproto.ReasonBridges, true
	case len(want) > maxExclusions:
		return nil, shmproto.ReasonTooFewGuards, true
	}
	for _, f := range want {
		if _, known := t.relays[f]; !known {
			m.need(QueryRelays)
			return nil, 0, false
		}
	}
	ex = m.resolve(want)
	if !fresh {
		return ex, shmproto.ReasonNone, true // nothing new is taken away: lifting never harms
	}
	switch {
	case !t.entryRead || !t.consensusRead:
		return nil, 0, false
	case t.restricted():
		return nil, shmproto.ReasonRestrictedSelection, true
	case !t.live:
		// Hold what is in force and wait for a consensus: pending, not refused.
		m.answerWith(shmproto.ReceiptPending, shmproto.ReasonUnknownAddress)
		return nil, 0, false
	case !t.networkRead:
		m.need(QueryNetwork)
		return nil, 0, false
	}
	return ex, m.tooFew(ex), true
}

// tooFew tests the network with the new rejects: under MinPassPercent Tor could
// change to the restricted selection, which replaces all guards.
func (m *Machine) tooFew(ex []exclusion) shmproto.ReceiptReason {
	t := &m.tor
	policy, err := guardstate.ParsePolicy(guardstate.Merge(rejects(ex), t.firewall))
	if err != nil {
		m.notice(NoticeWarn, "the Reachable options cannot be evaluated, so no guard can be excluded safely: "+err.Error())
		return shmproto.ReasonTooFewGuards
	}
	if len(ex) == 0 {
		return shmproto.ReasonNone
	}
	pass, all := t.passing(policy)
	if percent(pass, all) < m.cfg.MinPassPercent || pass < t.numPrimary() {
		m.notice(NoticeWarn, "too few guards are left for this member to give one up: everyone stays connected, the duplicate stays; see EntryNodes, ExcludeNodes and the Reachable options")
		return shmproto.ReasonTooFewGuards
	}
	return shmproto.ReasonNone
}

// held are the guards whose exclusion is in force.
func (m *Machine) held() []guardstate.Fingerprint {
	fs := make([]guardstate.Fingerprint, len(m.ex))
	for i, x := range m.ex {
		fs[i] = x.guard
	}
	return fs
}

// resolve returns the exclusions of want with what the consensus says now. A
// relay without a known address keeps its last one.
func (m *Machine) resolve(want []guardstate.Fingerprint) []exclusion {
	ex := make([]exclusion, 0, len(want))
	for _, f := range want {
		x := exclusion{guard: f}
		if i := slices.IndexFunc(m.ex, func(y exclusion) bool { return y.guard == f }); i >= 0 {
			x = m.ex[i]
		}
		ex = append(ex, x.seenAt(m.tor.relays[f].Addrs, m.now))
	}
	return ex
}
