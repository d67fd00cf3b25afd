package rotation

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"guardring/internal/guardstate"
)

// exclusion is one guard that must not be used, and where it can be met. It is
// kept in the include file, as a comment, because it is all that must survive
// the agent: a relay that is unlisted for a while has no address to ask for.
type exclusion struct {
	guard guardstate.Fingerprint
	addrs []netip.AddrPort // known ORPort addresses, sorted; nil while none was ever known
	moved time.Time        // when it was last seen at a new address, zero: never; whole seconds, UTC
	whole bool             // it moved again within moveWindow: rejected at every port, at all addresses
}

// moveWindow: a relay that changes its address twice within it is rejected by
// whole address, because its operator chooses when it comes back.
const moveWindow = 30 * 24 * time.Hour

// maxAddrs bounds what is remembered of a relay that keeps moving.
const maxAddrs = 16

const includeHead = `# Written by the guardring guest agent. Do not edit: it is replaced. To undo everything: guardring-guest leave
# Before you make this Tor a relay (ORPort), run "guardring-guest leave": Tor does not start with ORPort and the lines below.
# The first and the last reject are marks (addresses that no relay has). What is between them and your own
# ReachableORAddresses has the same effect as your own settings, less the guards that this member must not use.
`

const exclusionWord = "# guardring exclusion "

// EmptyInclude is the include file of a member without exclusions.
func EmptyInclude() string { return includeHead }

// formatInclude writes the include file: exclusions as comments, then our lines
// of ReachableORAddresses (guardstate.OwnLines).
func formatInclude(ex []exclusion, own []string) string {
	var b strings.Builder
	b.WriteString(includeHead)
	for _, x := range ex {
		fmt.Fprintf(&b, "%s$%s", exclusionWord, x.guard)
		if len(x.addrs) > 0 {
			b.WriteString(" addrs=")
			for i, a := range x.addrs {
				if i > 0 {
					b.WriteByte(',')
				}
				b.WriteString(a.String())
			}
		}
		if !x.moved.IsZero() {
			b.WriteString(" moved=" + x.moved.UTC().Format(time.RFC3339))
		}
		if x.whole {
			b.WriteString(" whole=1")
		}
		b.WriteByte('\n')
	}
	for _, l := range own {
		b.WriteString("ReachableORAddresses " + l + "\n")
	}
	return b.String()
}

// parseInclude reads the exclusions back. Lines that are damaged are left out and
// counted: what they excluded is then resolved anew from the order.
func parseInclude(text string) (ex []exclusion, damaged int) {
	for _, line := range strings.Split(text, "\n") {
		rest, ok := strings.CutPrefix(strings.TrimSuffix(line, "\r"), exclusionWord)
		if !ok {
			continue
		}
		x, err := parseExclusion(rest)
		if err != nil || len(ex) >= maxExclusions ||
			slices.ContainsFunc(ex, func(y exclusion) bool { return y.guard == x.guard }) {
			damaged++
			continue
		}
		ex = append(ex, x)
	}
	slices.SortFunc(ex, func(a, b exclusion) int { return a.guard.Compare(b.guard) })
	return ex, damaged
}

func parseExclusion(s string) (exclusion, error) {
	var x exclusion
	for i, w := range strings.Fields(s) {
		key, value, _ := strings.Cut(w, "=")
		var err error
		switch {
		case i == 0:
			x.guard, err = guardstate.ParseFingerprint(w)
		case key == "addrs":
			x.addrs, err = parseAddrs(value)
		case key == "moved":
			x.moved, err = time.Parse(time.RFC3339, value)
		case key == "whole":
			x.whole = value == "1"
		}
		if err != nil {
			return exclusion{}, err
		}
	}
	if x.guard.IsZero() {
		return exclusion{}, fmt.Errorf("exclusion without a fingerprint")
	}
	return x, nil
}

func parseAddrs(s string) ([]netip.AddrPort, error) {
	var out []netip.AddrPort
	for _, a := range strings.Split(s, ",") {
		ap, err := netip.ParseAddrPort(a)
		if err != nil {
			return nil, err
		}
		if len(out) == maxAddrs {
			return nil, fmt.Errorf("more than %d addresses", maxAddrs)
		}
		out = append(out, ap)
	}
	return guardstate.SortAddrs(out), nil
}

// seenAt returns the exclusion after its relay was seen at addrs at the time now.
// Addresses are only ever added by a move that is noticed: one that vanished may
// come back, and rejecting it meanwhile costs nothing.
func (x exclusion) seenAt(addrs []netip.AddrPort, now time.Time) exclusion {
	covered := func(a netip.AddrPort) bool {
		return slices.ContainsFunc(x.addrs, func(b netip.AddrPort) bool { return a == b || x.whole && a.Addr() == b.Addr() })
	}
	if !slices.ContainsFunc(addrs, func(a netip.AddrPort) bool { return !covered(a) }) {
		return x
	}
	fresh := slices.Clone(addrs)
	if len(x.addrs) == 0 {
		x.addrs = guardstate.SortAddrs(fresh)
		return x
	}
	x.whole = x.whole || !x.moved.IsZero() && now.Sub(x.moved) < moveWindow
	// The addresses of now first, then the ones before, so that the bound drops the oldest.
	all := fresh
	for _, a := range x.addrs {
		if !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	x.addrs = guardstate.SortAddrs(slices.Clone(all[:min(len(all), maxAddrs)]))
	x.moved = now.UTC().Truncate(time.Second)
	return x
}

func (x exclusion) reject() guardstate.Reject {
	return guardstate.Reject{Addrs: x.addrs, Whole: x.whole}
}

func rejects(ex []exclusion) []guardstate.Reject {
	out := make([]guardstate.Reject, len(ex))
	for i, x := range ex {
		out[i] = x.reject()
	}
	return out
}
