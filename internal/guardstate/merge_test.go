package guardstate

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestPolicyFirstMatchWins(t *testing.T) {
	for _, c := range []struct{ policy, addr, want string }{
		{"reject 1.2.3.4:443, accept *:*", "1.2.3.4:443", "reject"},
		{"reject 1.2.3.4:443, accept *:*", "1.2.3.4:444", "accept"},
		{"accept *:443, reject 1.2.3.4:443", "1.2.3.4:443", "accept"}, // the trap of a user list before ours
		{"*:443", "1.2.3.4:80", "reject"},                             // Tor ends it with reject *:*
		{"reject [2001:db8::1]:443, accept *:*", "[2001:db8::1]:443", "reject"},
		{"reject *4:*, accept *:*", "1.2.3.4:1", "reject"},
		{"reject *4:*, accept *:*", "[2001:db8::1]:1", "accept"},
		{"reject6 1.2.3.4, accept *", "1.2.3.4:1", "accept"}, // Tor skips it with a warning
		{"reject private:*, accept *:*", "127.0.0.1:1", "reject"},
		{"99.0.0.0/8, reject 18.0.0.0/255.0.0.0:80, accept *:80-90", "18.1.1.1:80", "reject"},
		{"99.0.0.0/8, reject 18.0.0.0/255.0.0.0:80, accept *:80-90", "18.1.1.1:90", "accept"},
		{"99.0.0.0/8, reject 18.0.0.0/255.0.0.0:80, accept *:80-90", "99.1.1.1:9001", "accept"},
	} {
		p, err := ParsePolicy([]string{c.policy})
		if err != nil {
			t.Errorf("%q: %v", c.policy, err)
			continue
		}
		if got := p.Accepts(netip.MustParseAddrPort(c.addr)); got != (c.want == "accept") {
			t.Errorf("%q accepts %s: %t", c.policy, c.addr, got)
		}
	}
	for _, bad := range []string{"bogus foo", "reject6 2001:db8::1:443x", "accept 1.2.3:80", "accept *:0", "accept *:90-80", "accept 1.2.3.4/33", "accept 1.2.3.4/255.0.255.0", "accept *:70000"} {
		if p, err := ParsePolicy([]string{bad}); err == nil {
			t.Errorf("accepted %q as %v", bad, p)
		}
	}
}

// generator of policies and addresses from a small space, so that they meet.
type generator struct{ *rand.Rand }

func (g generator) addr() netip.AddrPort {
	ports := []uint16{80, 443, 9001, uint16(1 + g.IntN(65535))}
	a := netip.AddrFrom4([4]byte{10, byte(g.IntN(3)), byte(g.IntN(2)), byte(g.IntN(4))})
	if g.IntN(3) == 0 {
		a = netip.AddrFrom16([16]byte{0x20, 1, 0x0d, 0xb8, 15: byte(g.IntN(5))})
	}
	return netip.AddrPortFrom(a, ports[g.IntN(len(ports))])
}

func (g generator) item() string {
	word := []string{"accept ", "reject ", ""}[g.IntN(3)]
	ports := []string{":*", "", ":443", ":80", ":1-1024", fmt.Sprintf(":%d-9001", 1+g.IntN(9000))}[g.IntN(6)]
	a := g.addr().Addr()
	pattern := []string{"*", "*4", "*6", a.String(), fmt.Sprintf("%s/%d", a, g.IntN(33))}[g.IntN(5)]
	if a.Is6() && strings.Contains(pattern, "::") {
		host, mask, masked := strings.Cut(pattern, "/")
		pattern = "[" + host + "]"
		if masked {
			pattern += "/" + mask
		}
	}
	return word + pattern + ports
}

func (g generator) list() []string {
	var out []string
	for range g.IntN(3) {
		var items []string
		for range 1 + g.IntN(4) {
			items = append(items, g.item())
		}
		out = append(out, strings.Join(items, ", "))
	}
	return out
}

func (g generator) firewall() Firewall {
	f := Firewall{Fascist: g.IntN(3) == 0}
	if g.IntN(2) == 0 {
		f.ORAddresses = g.list()
	}
	if g.IntN(2) == 0 {
		f.Addresses = g.list()
	}
	if g.IntN(2) == 0 {
		f.Ports = []string{"80", "9001"}
	}
	return f
}

var mergeSeed = flag.Uint64("merge-seed", 1, "seed of the random policies, 0 for a new one")

// TestMergedPolicyTakesExactlyTheExcludedAway: for any user settings and
// rejects, the merged value accepts what the user accepts, less the excluded
// addresses, and so does the include file with the user's own lines behind it.
func TestMergedPolicyTakesExactlyTheExcludedAway(t *testing.T) {
	seed := *mergeSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d", seed)
	g := generator{rand.New(rand.NewPCG(seed, 1))}
	for range 3000 {
		f := g.firewall()
		var rejects []Reject
		for range 1 + g.IntN(3) {
			r := Reject{Whole: g.IntN(4) == 0}
			for range 1 + g.IntN(3) {
				r.Addrs = append(r.Addrs, g.addr())
			}
			rejects = append(rejects, r)
		}
		user, err := f.Policy()
		if err != nil {
			t.Fatalf("%+v: %v", f, err)
		}
		value := Merge(rejects, f)
		merged, err := ParsePolicy(value)
		if err != nil {
			t.Fatalf("%q: %v", value, err)
		}
		file, err := ParsePolicy(OwnLines(rejects, f))
		if err != nil {
			t.Fatal(err)
		}
		probes := []netip.AddrPort{}
		for range 60 {
			probes = append(probes, g.addr())
		}
		for _, r := range rejects {
			probes = append(probes, r.Addrs...)
		}
		for _, ap := range probes {
			out := slices.ContainsFunc(rejects, func(r Reject) bool {
				return slices.ContainsFunc(r.Addrs, func(a netip.AddrPort) bool { return a == ap || r.Whole && a.Addr() == ap.Addr() })
			})
			if want := user.Accepts(ap) && !out; merged.Accepts(ap) != want || file.Accepts(ap) != want {
				t.Fatalf("%s: merged %t, file %t, want %t\nuser %+v\nvalue %q", ap, merged.Accepts(ap), file.Accepts(ap), want, f, value)
			}
		}
		// The user's lines are read back from the value alone, so that a merge
		// of the merged value changes nothing.
		back := SplitReachable(value)
		if !back.First || !slices.Equal(back.User, f.ORAddresses) || !slices.Equal(back.Own, OwnLines(rejects, f)) {
			t.Fatalf("split of %q: %+v", value, back)
		}
	}
}

func TestSplitReachable(t *testing.T) {
	own := OwnLines([]Reject{{Addrs: []netip.AddrPort{netip.MustParseAddrPort("1.2.3.4:443")}}}, Firewall{})
	for name, c := range map[string]struct {
		lines, user []string
		first, own  bool
	}{
		"nothing":    {nil, nil, true, false},
		"only ours":  {own, nil, true, true},
		"ours first": {slices.Concat(own, []string{"accept *:443"}), []string{"accept *:443"}, true, true},
		"user first": {slices.Concat([]string{"accept *:443"}, own), []string{"accept *:443"}, false, true},
		"both sides": {slices.Concat([]string{"a"}, own, []string{"b"}), []string{"a", "b"}, false, true},
		"twice":      {slices.Concat(own, own), nil, true, true},
		"cut":        {own[:2], nil, false, true},
	} {
		s := SplitReachable(c.lines)
		if !slices.Equal(s.User, c.user) || s.First != c.first || (s.Own != nil) != c.own {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// TestFascistFirewall: what Tor itself puts into the OR list is not the user's.
func TestFascistFirewall(t *testing.T) {
	f, _ := ReadFirewall(Conf{{Key: "ReachableORAddresses", Value: "*:443"}, {Key: "FascistFirewall", Value: "1"}, {Key: "FirewallPorts"}})
	if f.ORAddresses != nil || !slices.Equal(f.Lines(), []string{"*:443"}) {
		t.Errorf("%+v", f)
	}
	f, _ = ReadFirewall(Conf{{Key: "ReachableORAddresses", Value: "*:443"}, {Key: "FascistFirewall", Value: "0"}})
	if !slices.Equal(f.ORAddresses, []string{"*:443"}) {
		t.Errorf("the user's own *:443: %+v", f)
	}
	f, _ = ReadFirewall(Conf{{Key: "FascistFirewall", Value: "1"}, {Key: "FirewallPorts", Value: "80, 8080"}})
	if !slices.Equal(f.Lines(), []string{"*:80,*:8080"}) {
		t.Errorf("FirewallPorts: %+v", f)
	}
}

func TestRejectText(t *testing.T) {
	r := Reject{Addrs: []netip.AddrPort{netip.MustParseAddrPort("[2001:db8::1]:443"), netip.MustParseAddrPort("1.2.3.4:443"), netip.MustParseAddrPort("1.2.3.4:9001")}}
	if got := r.String(); got != "reject 1.2.3.4:443, reject 1.2.3.4:9001, reject [2001:db8::1]:443" {
		t.Errorf("%q", got)
	}
	r.Whole = true
	if got := r.String(); got != "reject 1.2.3.4:*, reject [2001:db8::1]:*" {
		t.Errorf("whole: %q", got)
	}
}
