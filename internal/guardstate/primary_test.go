package guardstate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// sample is written as a word per guard: name, then c confirmed, f filtered, d unreachable.
func sampleOf(s string) []Sampled {
	var out []Sampled
	for _, w := range strings.Fields(s) {
		name, flags, _ := strings.Cut(w, ":")
		out = append(out, Sampled{Fingerprint: Fingerprint{name[0]}, Confirmed: strings.Contains(flags, "c"),
			Filtered: strings.Contains(flags, "f"), Unreachable: strings.Contains(flags, "d")})
	}
	return out
}

func mustAddr(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func letters(fs []Fingerprint) string {
	var b strings.Builder
	for _, f := range fs {
		b.WriteByte(f[0])
	}
	return b.String()
}

func TestDerivePrimaries(t *testing.T) {
	for _, c := range []struct {
		name, sample, earlier string
		seen                  bool
		primary, possible     string
	}{
		{"confirmed in sampled order", "a:f b:cf c:cf d:f e:cf", "", false, "bce", ""},
		{"a down guard stays primary", "a:cfd b:cf c:cf d:cf", "", false, "abc", ""},
		{"an excluded one makes room", "a:c b:cf c:cf d:cf", "abc", true, "bcd", ""},
		{"then earlier primaries, before better ranked ones", "a:f b:f c:cf d:f e:f", "cde", true, "cde", ""},
		{"earlier ones that no longer pass go", "a:f b:f c:cf d: e:f", "cde", true, "cea", ""},
		{"then the next sampled", "a:f b:cf c:f d:f", "", true, "bac", ""},
		{"not reachable ones are passed over", "a:fd b:cf c:f d:f", "", true, "bcd", ""},
		{"without history the next two are possible", "a:f b:cf c:f d:f e:f f:f", "", false, "bac", "de"},
		{"fewer than n", "a:cf b:", "", false, "a", ""},
		{"none", "", "", false, "", ""},
	} {
		var earlier []Fingerprint
		for _, ch := range []byte(c.earlier) {
			earlier = append(earlier, Fingerprint{ch})
		}
		p := DerivePrimaries(sampleOf(c.sample), earlier, c.seen, 3)
		if letters(p.Primary) != c.primary || letters(p.Possible) != c.possible {
			t.Errorf("%s: primary %s possible %s, want %s and %s", c.name, letters(p.Primary), letters(p.Possible), c.primary, c.possible)
		}
		if want := !c.seen && strings.Count(c.sample, "cf") < 3; p.Ambiguous != want {
			t.Errorf("%s: ambiguous %t", c.name, p.Ambiguous)
		}
	}
}

// torPrimaries is entry_guards_update_primary, written as Tor has it, over lists.
func torPrimaries(sample []Sampled, old []Fingerprint, n int) []Fingerprint {
	at := func(f Fingerprint) *Sampled {
		i := slices.IndexFunc(sample, func(g Sampled) bool { return g.Fingerprint == f })
		if i < 0 {
			return nil
		}
		return &sample[i]
	}
	var next []Fingerprint
	for _, g := range sample { // confirmed_entry_guards, sorted by sampled_idx
		if len(next) >= n {
			break
		}
		if g.Confirmed && g.Filtered {
			next = append(next, g.Fingerprint)
		}
	}
	for _, f := range old {
		if slices.Contains(next, f) {
			continue
		}
		if g := at(f); len(next) < n && g != nil && g.Filtered {
			next = append(next, f)
		}
	}
	for len(next) < n {
		i := slices.IndexFunc(sample, func(g Sampled) bool {
			return !g.Confirmed && g.Filtered && !g.Unreachable && !slices.Contains(next, g.Fingerprint)
		})
		if i < 0 {
			break
		}
		next = append(next, sample[i].Fingerprint)
	}
	return next
}

// TestPrimariesAgainstTor walks every history of two changes of a sample of four.
func TestPrimariesAgainstTor(t *testing.T) {
	states := []string{"", "f", "cf", "cfd", "fd", "c"}
	sampleAt := func(n int) []Sampled {
		var w []string
		for i := range 4 {
			w = append(w, fmt.Sprintf("%c:%s", 'a'+i, states[n%len(states)]))
			n /= len(states)
		}
		return sampleOf(strings.Join(w, " "))
	}
	all := 6 * 6 * 6 * 6
	for x := range all {
		for y := x % 7; y < all; y += 37 {
			first := torPrimaries(sampleAt(x), nil, 3)
			p := DerivePrimaries(sampleAt(x), nil, true, 3)
			second := torPrimaries(sampleAt(y), first, 3)
			q := DerivePrimaries(sampleAt(y), p.Primary, true, 3)
			if !slices.Equal(first, p.Primary) || !slices.Equal(second, q.Primary) {
				t.Fatalf("samples %d and %d: %s then %s, want %s then %s", x, y, letters(p.Primary), letters(q.Primary), letters(first), letters(second))
			}
		}
	}
}

func TestFilter(t *testing.T) {
	relay := Relay{Fingerprint: Fingerprint{1}, Nickname: "Alice", Country: "de"}
	four := relay
	four.Addrs = append(four.Addrs, mustAddr("1.2.3.4:443"))
	both := four
	both.Addrs = append(slices.Clone(four.Addrs), mustAddr("[2001:db8::1]:443"))
	policy, _ := ParsePolicy([]string{"reject 1.2.3.4:443, accept *:*"})
	base := Filter{Policy: policy, IPv4: true, IPv6: true}
	set := func(s string) NodeSet { return ParseNodeSet([]string{s}) }
	for name, c := range map[string]struct {
		f    Filter
		r    Relay
		want bool
	}{
		"rejected":                        {base, four, false},
		"its IPv6 address lets it in":     {base, both, true},
		"not without IPv6":                {Filter{Policy: policy, IPv4: true}, both, false},
		"no address":                      {base, relay, false},
		"EntryNodes names it":             {Filter{Policy: AcceptAll(), IPv4: true, EntryNodes: set("{DE}, bob")}, four, true},
		"EntryNodes names others":         {Filter{Policy: AcceptAll(), IPv4: true, EntryNodes: set("{fr}, bob")}, four, false},
		"ExcludeNodes by nickname":        {Filter{Policy: AcceptAll(), IPv4: true, Exclude: set("alice")}, four, false},
		"ExcludeNodes by address":         {Filter{Policy: AcceptAll(), IPv4: true, Exclude: set("1.2.0.0/16")}, four, false},
		"ExcludeNodes by fingerprint":     {Filter{Policy: AcceptAll(), IPv4: true, Exclude: set("$" + relay.Fingerprint.String())}, four, false},
		"ExcludeNodes with other country": {Filter{Policy: AcceptAll(), IPv4: true, Exclude: set("{us}")}, four, true},
	} {
		if got := c.f.Passes(c.r); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
