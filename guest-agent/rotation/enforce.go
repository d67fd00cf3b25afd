package rotation

import (
	"slices"
	"time"
)

// enforcement is what the machine's packet filter was told. Level-triggered like
// everything else: what is wanted is computed in each Step and asked for when it
// is not what was answered last.
type enforcement struct {
	id      CommandID   // outstanding; 0: none
	asked   []exclusion // by it
	known   bool        // done is what the filter has
	done    []exclusion
	retryAt time.Time // not before: it failed
}

// enforced are the exclusions that the packet filter must hold now: those that Tor
// was told, for a drop before that would only look like a dead guard to Tor. One
// that is being lifted goes first, for the same reason. ok is false while it is
// not known what Tor was told: what the filter has from before stays.
func (m *Machine) enforced() (ex []exclusion, ok bool) {
	switch {
	case m.leaving, m.tor.confRead && m.tor.relay(): // a relay must reach all others
		return nil, true
	case !m.exKnown, len(m.ex) == 0 && m.order == nil && m.tor.split.Own != nil:
		// Killed between option and file: the order will tell what they are.
		return nil, false
	case m.change.kind != changeOption || m.change.id == 0:
		return m.ex, true
	}
	for _, x := range m.ex {
		if slices.ContainsFunc(m.change.ex, func(y exclusion) bool { return y.guard == x.guard }) {
			ex = append(ex, x)
		}
	}
	return ex, true
}

// enforce asks for the packet filter's part, before anything else of this Step.
func (m *Machine) enforce() {
	e := &m.rules
	want, ok := m.enforced()
	if !m.cfg.Enforce || !ok || e.id != 0 || m.now.Before(e.retryAt) || e.known && sameExclusions(want, e.done) {
		return
	}
	e.id, e.asked, e.retryAt = m.id(), want, time.Time{}
	m.out = slices.Insert(m.out, 0, Action(Enforce{ID: e.id, Rejects: rejects(want)}))
}

// enforceDone takes the end of an Enforce.
func (m *Machine) enforceDone(err error) {
	e := &m.rules
	e.id = 0
	if e.known = err == nil; e.known {
		e.done = e.asked
		return
	}
	e.retryAt = m.now.Add(m.cfg.PollEvery)
	m.notice(NoticeWarn, "the exclusions are not enforced by the packet filter: "+err.Error())
}
