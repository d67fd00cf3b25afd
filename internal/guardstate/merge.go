package guardstate

import (
	"net/netip"
	"slices"
	"strings"
)

// Reject is one excluded guard's part of the policy.
type Reject struct {
	Addrs []netip.AddrPort // every known ORPort address, both families
	Whole bool             // reject the addresses at every port: the relay keeps moving
}

// Firewall is what the user says about reachable addresses, without our lines.
type Firewall struct {
	ORAddresses []string // ReachableORAddresses, nil if the user did not set it
	Addresses   []string // ReachableAddresses
	Fascist     bool     // FascistFirewall
	Ports       []string // FirewallPorts
}

// Our lines in ReachableORAddresses are between two marks: rejected addresses
// that no relay can have (RFC 5737, TEST-NET-1). So they are told from the
// user's lines by GETCONF alone, whatever was written to a file or not before
// the agent was killed. After the end mark come the user's own lines again, in
// their own words: never reached, because what is between the marks ends with
// a copy of them, but read back at the next merge.
const (
	BeginMark = "reject 192.0.2.71:82"
	EndMark   = "reject 192.0.2.71:83"
)

// Lines returns the user's effective policy for ORPorts: their OR list, else
// ReachableAddresses, else FirewallPorts, else what FascistFirewall means for
// ORPorts (Tor 0.4.9: *:443 alone, whatever the manual says), else everything.
func (f Firewall) Lines() []string {
	switch {
	case len(f.ORAddresses) > 0:
		return f.ORAddresses
	case len(f.Addresses) > 0:
		return f.Addresses
	case f.Fascist && len(f.Ports) > 0:
		items := make([]string, len(f.Ports))
		for i, p := range f.Ports {
			items[i] = "*:" + p
		}
		return []string{strings.Join(items, ",")}
	case f.Fascist:
		return []string{fascistOR}
	}
	return []string{"accept *:*"}
}

// fascistOR is what Tor itself puts into ReachableORAddresses for FascistFirewall.
const fascistOR = "*:443"

// Policy returns the parsed effective policy.
func (f Firewall) Policy() (Policy, error) { return ParsePolicy(f.Lines()) }

// OwnLines returns our lines: begin mark, one line per excluded guard, a copy
// of the user's effective policy, end mark. nil if nothing is rejected. The
// include file holds exactly these.
func OwnLines(rejects []Reject, f Firewall) []string {
	var lines []string
	for _, r := range rejects {
		if l := r.String(); l != "" {
			lines = append(lines, l)
		}
	}
	if len(lines) == 0 {
		return nil
	}
	lines = slices.Insert(lines, 0, BeginMark)
	lines = append(lines, f.Lines()...)
	return append(lines, EndMark)
}

// Merge returns the value of ReachableORAddresses, line by line: our lines and
// then the user's own OR list, as Tor reads them from the include file and torrc.
// nil means: reset the option.
func Merge(rejects []Reject, f Firewall) []string {
	return slices.Concat(OwnLines(rejects, f), f.ORAddresses)
}

// String returns the policy items, "reject 1.2.3.4:443, reject [2001:db8::1]:443".
// reject6 is not used: with a bare IPv6 address it is a fatal parse error.
func (r Reject) String() string {
	var items []string
	for _, ap := range SortAddrs(slices.Clone(r.Addrs)) {
		addr := ap.Addr()
		if !addr.IsValid() {
			continue
		}
		it := PolicyItem{Prefixes: []netip.Prefix{netip.PrefixFrom(addr, addr.BitLen())}, First: ap.Port(), Last: ap.Port()}
		if r.Whole {
			it.First, it.Last = 1, 65535
		}
		if s := it.String(); !slices.Contains(items, s) {
			items = append(items, s)
		}
	}
	return strings.Join(items, ", ")
}

// Split takes a value of ReachableORAddresses apart.
type Split struct {
	Own   []string // from begin mark to end mark; nil if we have none in force
	User  []string // all other lines
	First bool     // no user line comes before ours, and our part is whole
}

// SplitReachable tells our lines from the user's in GETCONF's answer. Several
// parts of ours (two includes) are all ours; only the first counts as Own.
func SplitReachable(lines []string) Split {
	s := Split{First: true}
	for i := 0; i < len(lines); i++ {
		if lines[i] != BeginMark {
			s.User = append(s.User, lines[i])
			if s.Own == nil && slices.Contains(lines[i:], BeginMark) {
				s.First = false
			}
			continue
		}
		end := slices.Index(lines[i:], EndMark)
		if end < 0 { // somebody cut our part off: what follows cannot be told apart
			s.First = false
			s.Own = append(s.Own, lines[i:]...)
			return s
		}
		if s.Own == nil {
			s.Own = slices.Clone(lines[i : i+end+1])
		}
		i += end
	}
	return s
}

// ReadFirewall reads the user's options from GETCONF, without our lines, and
// without what Tor itself put into the OR list for FascistFirewall: kept there
// it would be taken for the user's and missing after the next HUP.
func ReadFirewall(c Conf) (Firewall, Split) {
	s := SplitReachable(c.Values("ReachableORAddresses"))
	f := Firewall{ORAddresses: s.User, Addresses: c.Values("ReachableAddresses"), Fascist: c.Value("FascistFirewall") == "1"}
	for _, v := range c.Values("FirewallPorts") {
		for _, p := range strings.Split(v, ",") {
			if p = strings.TrimSpace(p); p != "" {
				f.Ports = append(f.Ports, p)
			}
		}
	}
	if s.Own == nil && f.Fascist && len(f.Addresses) == 0 && slices.Equal(f.ORAddresses, []string{fascistOR}) {
		f.ORAddresses = nil
	}
	return f, s
}
