package rotation

import (
	"maps"
	"slices"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// filtered reports whether g passes Tor's filter now, our rejects included.
// Tor's word counts where it gives one; it tests never-connected first, so for
// an unconfirmed guard the filter is evaluated here.
func (t *tor) filtered(g guardstate.EntryGuard) bool {
	switch g.Status {
	case guardstate.EntryGuardUp, guardstate.EntryGuardDown:
		return true
	case guardstate.EntryGuardUnusable:
		return false
	}
	r := t.relays[g.Fingerprint]
	return r.Listed && t.filter(t.policy).Passes(r)
}

// passesUser reports whether g would pass without our rejects.
func (t *tor) passesUser(g guardstate.EntryGuard) bool {
	if g.Status == guardstate.EntryGuardUp || g.Status == guardstate.EntryGuardDown {
		return true
	}
	r := t.relays[g.Fingerprint]
	return r.Listed && t.filter(t.userPolicy).Passes(r)
}

func (t *tor) numPrimary() int {
	n := guardstate.NumPrimary(confNumber(t.conf, "NumPrimaryGuards"), confNumber(t.conf, "NumDirectoryGuards"), confNumber(t.conf, "NumEntryGuards"), t.params)
	return min(n, shmproto.MaxGuards)
}

func confNumber(c guardstate.Conf, key string) int {
	n := 0
	for _, ch := range c.Value(key) {
		if ch < '0' || ch > '9' || n > 1000 {
			return 0
		}
		n = n*10 + int(ch-'0')
	}
	return n
}

// primaries derives the primary guards from the present picture, without
// changing what is remembered.
func (t *tor) primaries() guardstate.Primaries {
	sample := make([]guardstate.Sampled, len(t.entry))
	for i, g := range t.entry {
		sample[i] = guardstate.Sampled{
			Fingerprint: g.Fingerprint, Confirmed: g.Confirmed(), Filtered: t.filtered(g),
			Unreachable: g.Status == guardstate.EntryGuardDown || t.down[g.Fingerprint],
		}
	}
	return guardstate.DerivePrimaries(sample, t.earlier, t.seen, t.numPrimary())
}

// remember keeps the derived set as history. Once it is certain it stays so,
// as long as we watch.
func (t *tor) remember(p guardstate.Primaries) {
	t.earlier = p.Primary
	t.seen = !p.Ambiguous && len(p.Primary) > 0
}

// inUse returns the first hops of circuits that are no directory fetches.
func (t *tor) inUse() map[guardstate.Fingerprint]bool {
	used := map[guardstate.Fingerprint]bool{}
	for _, c := range t.circuits {
		if f, ok := c.First(); ok && !c.OneHop() {
			used[f] = true
		}
	}
	return used
}

// selection says which selection of the state file GETINFO entry-guards shows:
// it lists the active one only and does not name it. The file is up to 30 s late, so
// where Tor's own rule leaves no doubt (choose_guard_selection: restricted below 20 %
// of the network, with 5 % of that for hysteresis), the rule counts.
func (t *tor) selection() shmproto.Selection {
	if t.bridges() {
		return shmproto.SelectionBridges
	}
	if len(t.entry) == 0 {
		return shmproto.SelectionUnknown
	}
	pc, known := t.passPercent()
	if known && t.live && pc < restrictedBelow {
		return shmproto.SelectionRestricted
	}
	names := map[string]shmproto.Selection{
		"default": shmproto.SelectionDefault, "restricted": shmproto.SelectionRestricted, "bridges": shmproto.SelectionBridges,
	}
	best, overlap := shmproto.SelectionUnknown, 0
	bySelection := t.state.Selections()
	for _, name := range slices.Sorted(maps.Keys(bySelection)) { // default comes before restricted: it wins a tie
		n := 0
		for _, g := range t.entry {
			if slices.Contains(bySelection[name], g.Fingerprint) {
				n++
			}
		}
		if n > overlap {
			best, overlap = names[name], n
		}
	}
	if best == shmproto.SelectionUnknown && known && pc > defaultAbove { // a first sample, not in the file yet
		return shmproto.SelectionDefault
	}
	return best
}

// Shares of the network, in percent, that leave no doubt about the selection.
const (
	restrictedBelow = 19
	defaultAbove    = 21
)

// bridges reports whether this Tor's guards are bridges.
func (t *tor) bridges() bool { return t.conf.Value("UseBridges") == "1" }

// relay reports whether this Tor is a relay: any ORPort but 0.
func (t *tor) relay() bool {
	return slices.ContainsFunc(t.conf.Values("ORPort"), func(v string) bool { return v != "" && v != "0" })
}

// restricted reports that Tor draws its guards from a part of the network.
func (t *tor) restricted() bool {
	return t.selection() == shmproto.SelectionRestricted
}

// unrestrictedUser reports that the user's own settings let every guard pass.
func (t *tor) unrestrictedUser() bool {
	f := t.firewall
	return len(f.ORAddresses)+len(f.Addresses) == 0 && !f.Fascist && t.entryNodes.Empty() && t.excludeNodes.Empty() &&
		t.conf.Value("ClientUseIPv4") != "0"
}

// passPercent is the share of the network's guards that passes the user's own
// filter, and whether it is known.
func (t *tor) passPercent() (int, bool) {
	if t.unrestrictedUser() {
		return 100, true
	}
	if !t.networkRead && len(t.network) == 0 || t.policyErr != nil {
		return 0, false
	}
	return percent(t.userPass, len(t.network)), true
}

// measure counts what passes the user's own filter, once per network or configuration.
func (t *tor) measure() { t.userPass, _ = t.passing(t.userPolicy) }

// passing counts the network's guards that pass the filter under p, and all.
func (t *tor) passing(p guardstate.Policy) (pass, all int) {
	f := t.filter(p)
	for _, r := range t.network {
		if f.Passes(r) {
			pass++
		}
	}
	return pass, len(t.network)
}

func percent(part, all int) int {
	if all == 0 {
		return 0
	}
	return part * 100 / all
}
