package coordinator

import (
	"net/netip"
	"slices"
	"time"

	"guardring/guest-agent/rotation"
	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// soon is what an agent may still wait for of its own accord and count as at rest:
// more than the pause after a failure, less than the time between two polls.
const soon = 10 * time.Second

// resting: the agent has heard and done all that there was, and waits for an event.
func (a *agent) resting() bool {
	g, t := a.g, a.tor
	return a.up && !a.over && !a.leaving && len(a.todo)+len(t.answers)+len(t.events)+len(g.late) == 0 &&
		a.pending == nil && !g.bell && (a.wake.IsZero() || a.wake.Sub(g.w.now) > soon)
}

// rests fails the test if an agent at rest has left anything undone, or says what is not
// so. It knows all that happened, so that there are no excuses, but for what was refused.
func (a *agent) rests() {
	if !a.resting() {
		return
	}
	g, t, o := a.g, a.tor, a.latest()
	g.w.agents.Rested++
	a.shows()
	for _, f := range t.net.order {
		if r := t.net.relays[f]; t.drops(r) && t.filtered(f) && !a.excused() {
			g.w.fail("%s at rest: the packet filter drops a guard that Tor may use\n%s", g.name, a)
		}
	}
	if o == nil {
		return
	}
	missing := a.missing(o)
	switch r := g.tor.pub.Receipt; {
	case r.Seq != o.Seq || r.Term != o.Term:
		g.w.fail("%s at rest: it has not answered its order: %+v\n%s", g.name, r, a)
	case r.Status == shmproto.ReceiptApplied && missing != "":
		g.w.fail("%s at rest: it says applied, and %s\n%s", g.name, missing, a)
	case r.Status == shmproto.ReceiptApplied, r.Status == shmproto.ReceiptRefused:
	case a.excused():
	case r.Status == shmproto.ReceiptPending && r.Reason == shmproto.ReasonStillInUse && a.lingers(o):
	default:
		g.w.fail("%s at rest: it has not done its order: %+v; missing: %q\n%s", g.name, r, missing, a)
	}
}

// missing says what is not as the order has it, or "".
func (a *agent) missing(o *shmproto.Order) string {
	t := a.tor
	inFile := excludes(t.include.Text)
	for _, f := range o.Exclusions {
		switch {
		case !slices.Contains(inFile, f):
			return "the file does not name a guard"
		case t.filtered(f):
			return "a guard may be used"
		case slices.ContainsFunc(t.circ, func(c guardstate.Circuit) bool { return c.Path[0] == f }):
			return "a circuit goes through a guard"
		case a.cfg.Enforce && !a.excused() && t.net.relays[f].Listed && !t.drops(t.net.relays[f]):
			return "the packet filter does not drop a guard"
		}
	}
	return ""
}

// lingers: every circuit through an excluded guard carries a stream, which must not be cut.
func (a *agent) lingers(o *shmproto.Order) bool {
	t := a.tor
	return !a.cfg.Cut && !slices.ContainsFunc(t.circ, func(c guardstate.Circuit) bool {
		return slices.Contains(o.Exclusions, c.Path[0]) && t.carries[c.ID] == ""
	})
}

// excused: Tor, the disk or the packet filter has refused something since the agent's
// connection began, or others changed the option as often as it may be put back.
func (a *agent) excused() bool { return a.tor.refused || a.tor.meddled > 4 }

// shows fails the test unless the publication says what Tor is like.
func (a *agent) shows() {
	g, t, p := a.g, a.tor, &a.g.tor.pub
	if a.shown == nil {
		return
	}
	used := map[guardstate.Fingerprint]bool{}
	for _, c := range t.circ {
		used[c.Path[0]] = true
	}
	for _, x := range p.Guards {
		if primary := slices.Contains(t.primary, x.Fingerprint); p.Flags&shmproto.MemberAmbiguous == 0 && primary != (x.Flags&shmproto.GuardPrimary != 0) {
			g.w.fail("%s: guard %s is primary: %t, and published as %b\n%s", g.name, x.Fingerprint.Short(), primary, x.Flags, a)
		}
		if used[x.Fingerprint] != (x.Flags&shmproto.GuardInUse != 0) {
			g.w.fail("%s: guard %s is in use: %t, and published as %b\n%s", g.name, x.Fingerprint.Short(), used[x.Fingerprint], x.Flags, a)
		}
	}
}

// gone fails the test unless Tor and file of a member that has left are the user's own.
func (a *agent) gone() {
	g, t := a.g, a.tor
	if a.unable {
		return
	}
	if len(t.waiting) > 0 {
		g.w.fail("%s has left, and %d streams wait at a gate", g.name, len(t.waiting))
	}
	if !slices.Equal(t.values(), t.user) || len(excludes(t.include.Text)) > 0 {
		g.w.fail("%s has left, and Tor has %q, the file %q", g.name, t.values(), t.include.Text)
	}
}

// drops: the packet filter lets Tor open no connection to the relay.
func (t *modelTor) drops(r guardstate.Relay) bool { return dropped(t.dropped, r) }

func dropped(by []guardstate.Reject, r guardstate.Relay) bool {
	return slices.ContainsFunc(r.Addrs, func(a netip.AddrPort) bool {
		return slices.ContainsFunc(by, func(x guardstate.Reject) bool {
			return slices.ContainsFunc(x.Addrs, func(b netip.AddrPort) bool { return a == b || x.Whole && a.Addr() == b.Addr() })
		})
	})
}

// enforces judges what the packet filter is to be told: what Tor may choose is
// dropped only if the file names it, which Tor or the agent will read.
func (a *agent) enforces(rejects []guardstate.Reject) {
	g, t := a.g, a.tor
	inFile := excludes(t.include.Text)
	for _, f := range t.net.order {
		if t.filtered(f) && dropped(rejects, t.net.relays[f]) && !slices.Contains(inFile, f) && a.caught[rotation.QueryConfig].disturbed == t.disturbed && !a.excused() {
			g.w.fail("%s has the packet filter drop a guard that Tor may use\n%s", g.name, a)
		}
	}
}
