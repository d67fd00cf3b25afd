package guardstate

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Policy is a Reachable*Addresses policy (tor(1), "ReachableAddresses"). The first
// item that matches decides; what none matches is rejected, because Tor ends
// such a policy with reject *:*.
type Policy []PolicyItem

// PolicyItem accepts or rejects the addresses in any of its prefixes, at ports
// First to Last. The item "*" has the two prefixes of everything.
type PolicyItem struct {
	Accept      bool
	Prefixes    []netip.Prefix
	First, Last uint16
}

// AcceptAll is the policy of a Tor without any Reachable option.
func AcceptAll() Policy {
	return Policy{{Accept: true, Prefixes: allPrefixes, First: 1, Last: 65535}}
}

var (
	all4        = netip.MustParsePrefix("0.0.0.0/0")
	all6        = netip.MustParsePrefix("::/0")
	allPrefixes = []netip.Prefix{all4, all6}
	// privatePrefixes are tor's "private" (policies.c, private_nets).
	privatePrefixes = parsePrefixes("0.0.0.0/8", "169.254.0.0/16", "127.0.0.0/8", "192.168.0.0/16", "10.0.0.0/8", "172.16.0.0/12",
		"::/8", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8", "::/127")
)

func parsePrefixes(ss ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(ss))
	for i, s := range ss {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

// maxPolicyItems bounds a policy: each guard of a network is tested against all items.
const maxPolicyItems = 10000

// ParsePolicy reads the values of one Reachable option, in order. Items are
// separated by commas; one without accept or reject accepts. An item that Tor
// skips with a warning (accept6 with an IPv4 address) is skipped here too.
func ParsePolicy(values []string) (Policy, error) {
	var p Policy
	for _, v := range values {
		for _, s := range strings.Split(v, ",") {
			s = strings.TrimSpace(s)
			if s == "" {
				continue
			}
			if len(p) == maxPolicyItems {
				return nil, fmt.Errorf("policy of more than %d items", maxPolicyItems)
			}
			item, skip, err := parsePolicyItem(s)
			if err != nil {
				return nil, fmt.Errorf("policy item %.80q: %w", s, err)
			}
			if !skip {
				p = append(p, item)
			}
		}
	}
	return p, nil
}

func parsePolicyItem(s string) (item PolicyItem, skip bool, err error) {
	word, rest, two := strings.Cut(strings.ReplaceAll(s, "\t", " "), " ")
	only6 := false
	switch strings.ToLower(word) {
	case "accept", "accept6":
		item.Accept = true
		only6 = word[len(word)-1] == '6'
	case "reject", "reject6":
		only6 = word[len(word)-1] == '6'
	default:
		if two {
			return item, false, fmt.Errorf("want accept or reject before the address")
		}
		item.Accept, rest = true, s
	}
	rest = strings.TrimSpace(rest)
	addr, port, bracket := rest, "", strings.IndexByte(rest, ']')
	if i := strings.IndexByte(rest[max(bracket, 0):], ':'); i >= 0 {
		i += max(bracket, 0)
		addr, port = rest[:i], rest[i+1:]
	}
	if item.Prefixes, err = parsePattern(addr); err != nil {
		return item, false, err
	}
	if item.First, item.Last, err = parsePorts(port); err != nil {
		return item, false, err
	}
	if only6 {
		return item, !item.Prefixes[0].Addr().Is6(), nil
	}
	return item, false, nil
}

// parsePattern reads "*", "*4", "*6", "private", "IP", "IP/bits", "IP/mask", "[v6]", "[v6]/bits".
func parsePattern(s string) ([]netip.Prefix, error) {
	switch strings.ToLower(s) {
	case "*":
		return allPrefixes, nil
	case "*4":
		return []netip.Prefix{all4}, nil
	case "*6":
		return []netip.Prefix{all6}, nil
	case "private":
		return privatePrefixes, nil
	}
	host, mask, masked := strings.Cut(s, "/")
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	addr, err := netip.ParseAddr(host)
	if err != nil || addr.Zone() != "" {
		return nil, fmt.Errorf("address %.60q: want *, an IPv4 address or [an IPv6 address]", host)
	}
	bits := addr.BitLen()
	if masked {
		if bits, err = parseMask(mask); err != nil || bits > addr.BitLen() {
			return nil, fmt.Errorf("mask %.40q", mask)
		}
	}
	return []netip.Prefix{netip.PrefixFrom(addr, bits).Masked()}, nil
}

// parseMask reads a number of bits, or an IPv4 mask such as 255.255.0.0.
func parseMask(s string) (int, error) {
	if n, err := strconv.ParseUint(s, 10, 8); err == nil {
		return int(n), nil
	}
	m, err := netip.ParseAddr(s)
	if err != nil || !m.Is4() {
		return 0, fmt.Errorf("mask %.40q", s)
	}
	b := m.As4()
	v := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	bits := 0
	for ; v&(1<<31) != 0; v <<= 1 {
		bits++
	}
	if v != 0 {
		return 0, fmt.Errorf("mask %s is no prefix", s)
	}
	return bits, nil
}

func parsePorts(s string) (first, last uint16, err error) {
	if s == "" || s == "*" {
		return 1, 65535, nil
	}
	lo, hi, isRange := strings.Cut(s, "-")
	if first, err = parsePort(lo); err != nil {
		return 0, 0, err
	}
	last = first
	if isRange {
		if last, err = parsePort(hi); err != nil {
			return 0, 0, err
		}
	}
	if first > last {
		return 0, 0, fmt.Errorf("ports %s: the first is above the last", s)
	}
	return first, last, nil
}

// Accepts reports whether a connection to ap is allowed.
func (p Policy) Accepts(ap netip.AddrPort) bool {
	for i := range p {
		if p[i].matches(ap) {
			return p[i].Accept
		}
	}
	return false
}

func (it *PolicyItem) matches(ap netip.AddrPort) bool {
	if ap.Port() < it.First || ap.Port() > it.Last {
		return false
	}
	return slices.ContainsFunc(it.Prefixes, func(pr netip.Prefix) bool { return pr.Contains(ap.Addr()) })
}

// String writes the item as Tor reads it.
func (it PolicyItem) String() string {
	word := "reject"
	if it.Accept {
		word = "accept"
	}
	addr := "private"
	switch {
	case slices.Equal(it.Prefixes, allPrefixes):
		addr = "*"
	case len(it.Prefixes) == 1:
		pr := it.Prefixes[0]
		addr = pr.Addr().String()
		if pr.Addr().Is6() {
			addr = "[" + addr + "]"
		}
		if pr.Bits() != pr.Addr().BitLen() {
			addr += "/" + strconv.Itoa(pr.Bits())
		}
	}
	switch {
	case it.First == 1 && it.Last == 65535:
		return word + " " + addr + ":*"
	case it.First == it.Last:
		return fmt.Sprintf("%s %s:%d", word, addr, it.First)
	}
	return fmt.Sprintf("%s %s:%d-%d", word, addr, it.First, it.Last)
}
