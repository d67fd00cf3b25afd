package guardstate

import "slices"

// NumPrimary returns how many guards count as primary: the most that this Tor
// keeps or uses, from the user's NumPrimaryGuards, NumDirectoryGuards and
// NumEntryGuards (0: not set, the consensus decides) and the parameters.
func NumPrimary(numPrimary, numDirectory, numEntry int, p Params) int {
	pick := func(configured, param, deflt int) int {
		switch {
		case configured > 0:
			return configured
		case param > 0:
			return param
		}
		return deflt
	}
	return max(
		pick(numPrimary, p.NPrimaryGuards, 3),
		pick(numDirectory, p.NPrimaryDirGuardsToUse, 3),
		pick(numEntry, p.NPrimaryGuardsToUse, 1),
	)
}

// Sampled is one guard of the sample, as primaries are derived from it.
type Sampled struct {
	Fingerprint Fingerprint
	Confirmed   bool
	Filtered    bool // listed and passing the member's filter (guard-spec)
	Unreachable bool // Tor is known to believe that it is down; known for confirmed guards, and where a GUARD event said so
}

// Primaries is a derived set. Tor does not show its primary guards.
type Primaries struct {
	Primary   []Fingerprint // in Tor's order
	Possible  []Fingerprint // may be primary instead: the next two, if Ambiguous
	Ambiguous bool          // history that we have not seen could decide otherwise
}

// DerivePrimaries repeats entry_guards_update_primary (entrynodes.c): the first
// n confirmed and filtered guards (a down guard stays primary), then earlier
// primaries that are still filtered, then the next unconfirmed ones that are
// filtered and not unreachable. sample is in sampled order. earlier is the set
// derived before, in order; seen says that it is Tor's whole history since it
// started, which an agent knows only if it was there.
func DerivePrimaries(sample []Sampled, earlier []Fingerprint, seen bool, n int) Primaries {
	var p Primaries
	has := func(f Fingerprint) bool { return slices.Contains(p.Primary, f) }
	for _, g := range sample {
		if len(p.Primary) < n && g.Confirmed && g.Filtered {
			p.Primary = append(p.Primary, g.Fingerprint)
		}
	}
	confirmed := len(p.Primary)
	for _, f := range earlier {
		i := slices.IndexFunc(sample, func(g Sampled) bool { return g.Fingerprint == f })
		if len(p.Primary) < n && i >= 0 && sample[i].Filtered && !has(f) {
			p.Primary = append(p.Primary, f)
		}
	}
	for _, g := range sample {
		if len(p.Primary) < n && !g.Confirmed && g.Filtered && !g.Unreachable && !has(g.Fingerprint) {
			p.Primary = append(p.Primary, g.Fingerprint)
		}
	}
	if seen || confirmed >= n {
		return p
	}
	p.Ambiguous = true
	for _, g := range sample {
		if len(p.Possible) < 2 && g.Filtered && !has(g.Fingerprint) {
			p.Possible = append(p.Possible, g.Fingerprint)
		}
	}
	return p
}
