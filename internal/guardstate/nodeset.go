package guardstate

import (
	"net/netip"
	"slices"
	"strings"
)

// NodeSet is the value of EntryNodes or ExcludeNodes (tor(1)): fingerprints,
// nicknames, country codes and address patterns.
type NodeSet struct {
	fingerprints []Fingerprint
	nicknames    []string
	countries    []string
	prefixes     []netip.Prefix
}

// ParseNodeSet reads the option's values. It never fails: like Tor, an entry that
// is nothing else is taken for a nickname.
func ParseNodeSet(values []string) NodeSet {
	var s NodeSet
	for _, v := range values {
		for _, e := range strings.Split(v, ",") {
			e = strings.TrimSpace(e)
			if e == "" {
				continue
			}
			if strings.HasPrefix(e, "{") && strings.HasSuffix(e, "}") {
				s.countries = append(s.countries, strings.ToLower(e[1:len(e)-1]))
			} else if fp, err := ParseFingerprint(e); err == nil {
				s.fingerprints = append(s.fingerprints, fp)
			} else if pr, err := parsePattern(e); err == nil {
				s.prefixes = append(s.prefixes, pr...)
			} else {
				s.nicknames = append(s.nicknames, strings.ToLower(e))
			}
		}
	}
	return s
}

// Empty reports whether the option is not set.
func (s NodeSet) Empty() bool {
	return len(s.fingerprints)+len(s.nicknames)+len(s.countries)+len(s.prefixes) == 0
}

// Fingerprints lists the relays that the set names by fingerprint, sorted.
func (s NodeSet) Fingerprints() []Fingerprint {
	out := slices.Clone(s.fingerprints)
	slices.SortFunc(out, Fingerprint.Compare)
	return slices.Compact(out)
}

// Countries reports whether countries must be known to evaluate the set.
func (s NodeSet) Countries() bool { return len(s.countries) > 0 }

// Contains reports whether r is in the set.
func (s NodeSet) Contains(r Relay) bool {
	return slices.Contains(s.fingerprints, r.Fingerprint) ||
		slices.Contains(s.nicknames, strings.ToLower(r.Nickname)) ||
		r.Country != "" && slices.Contains(s.countries, r.Country) ||
		slices.ContainsFunc(s.prefixes, func(pr netip.Prefix) bool {
			return slices.ContainsFunc(r.Addrs, func(ap netip.AddrPort) bool { return pr.Contains(ap.Addr()) })
		})
}

// Filter is a member's guard filter (guard-spec, FILTERED_GUARDS), as far as
// it follows from options.
type Filter struct {
	Policy     Policy
	EntryNodes NodeSet
	Exclude    NodeSet
	IPv4, IPv6 bool // ClientUseIPv4, ClientUseIPv6
}

// Passes reports whether Tor may connect to r as a guard: any one address is
// enough. A relay without a known address does not pass.
func (f Filter) Passes(r Relay) bool {
	if !f.EntryNodes.Empty() && !f.EntryNodes.Contains(r) || f.Exclude.Contains(r) {
		return false
	}
	return slices.ContainsFunc(r.Addrs, func(ap netip.AddrPort) bool {
		used := f.IPv4
		if ap.Addr().Is6() {
			used = f.IPv6
		}
		return used && f.Policy.Accepts(ap)
	})
}
