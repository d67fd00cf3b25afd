package consensus

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"guardring/internal/guardstate"
)

func read(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func mustFingerprint(t *testing.T, s string) guardstate.Fingerprint {
	t.Helper()
	f, err := guardstate.ParseFingerprint(s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Both files are a private network's consensus of one period, as a Tor keeps
// them in its data directory (signatures shortened).
func TestParseBothFlavours(t *testing.T) {
	for name, flavour := range map[string]Flavour{"consensus.txt": NS, "microdesc.txt": Microdesc} {
		d, err := Parse([]byte(read(t, name)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
		want := &Document{
			Flavour: flavour, ValidAfter: at, FreshUntil: at.Add(time.Hour), ValidUntil: at.Add(3 * time.Hour),
			Params: "guard-n-primary-guards=3 use-family-ids=1",
			Relays: []Relay{{
				Fingerprint: mustFingerprint(t, "000102030405060708090A0B0C0D0E0F10111213"),
				Nickname:    "first",
				Addrs:       []netip.AddrPort{netip.MustParseAddrPort("127.10.0.1:5000"), netip.MustParseAddrPort("[2001:db8::1]:5000")},
				Flags:       FlagFast | FlagGuard | FlagRunning | FlagStable | FlagV2Dir | FlagValid,
				Bandwidth:   1000,
			}, {
				Fingerprint: mustFingerprint(t, "FFFEFDFCFBFAF9F8F7F6F5F4F3F2F1F0EFEEEDEC"),
				Nickname:    "second",
				Addrs:       []netip.AddrPort{netip.MustParseAddrPort("127.11.0.1:9001")},
				Flags:       FlagExit | FlagFast | FlagGuard | FlagRunning | FlagStable | FlagV2Dir | FlagValid,
				Bandwidth:   20,
			}},
			Weights: map[string]int{"Wgg": 5910, "Wgd": 250},
		}
		if diff := cmp.Diff(want, d, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
		if w := d.GuardWeight(&d.Relays[0]); w != 591 {
			t.Errorf("%s: weight of the guard %v, want 591 (1000 times Wgg)", name, w)
		}
		if w := d.GuardWeight(&d.Relays[1]); w != 0.5 {
			t.Errorf("%s: weight of the guard that is an exit %v, want 0.5 (20 times Wgd)", name, w)
		}
		d.Relays[0].Flags &^= FlagStable
		if w := d.GuardWeight(&d.Relays[0]); w != 0 {
			t.Errorf("%s: weight %v of what Tor takes for no guard", name, w)
		}
	}
}

// TestFaults changes one thing in a good document and wants the line and the
// reason.
func TestFaults(t *testing.T) {
	for _, c := range []struct{ name, old, new, want string }{
		{"not a consensus", "network-status-version 3 microdesc", "router first 1", `line 1: begins with "router"`},
		{"version", "network-status-version 3 microdesc", "network-status-version 4", `line 1: network-status-version "4"`},
		{"flavour", "version 3 microdesc", "version 3", "line 8: r line of 8 words, want 9"},
		{"cut off in a line", "-----END SIGNATURE-----\n", "-----END", ""}, // behind what is read
		{"date", "valid-after 2026-11-21", "valid-after 2026-13-21", "line 3: time"},
		{"date twice", "fresh-until", "valid-after", "line 4: stated a second time"},
		{"validity", "valid-until 2026", "valid-until 2025", "ends to be valid before"},
		{"short r line", " 5000 0\n", "\n", "line 8: r line of 6 words, want 8"},
		{"identity", "AAECAwQFBgcICQoLDA0ODxAREhM", "AAECAwQ", "line 8: identity"},
		{"address", "127.10.0.1", "127.10.0.256", "line 8: address"},
		{"port", "127.10.0.1 5000", "127.10.0.1 70000", "line 8: ORPort"},
		{"twice", "//79/Pv6+fj39vX08/Lx8O/u7ew", "AAECAwQFBgcICQoLDA0ODxAREhM", "line 13: the router of line 8 again"},
		{"further address", "a [2001:db8::1]:5000", "a [2001:db8::1]", "line 9: address"},
		{"bandwidth", "Bandwidth=1000", "Bandwidth=-1", "line 12: bandwidth"},
		{"early detail", "shared-rand-current-value", "w Bandwidth=1", `line 7: "w" outside`},
		{"no footer", "directory-footer\n", "", "line 17: bandwidth-weights before the footer"},
		{"weights", "Wgg=5910", "Wgg=x", "line 18: weight"},
		{"nickname", "r first ", "r aaaaaaaaaaaaaaaaaaaa ", "line 8: nickname of 20"},
	} {
		text := read(t, "microdesc.txt")
		if !strings.Contains(text, c.old) {
			t.Fatalf("%s: %q is not in the document", c.name, c.old)
		}
		_, err := Parse([]byte(strings.Replace(text, c.old, c.new, 1)))
		var bad *Error
		switch {
		case c.want == "":
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		case !errors.As(err, &bad) || !strings.Contains(err.Error(), c.want):
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestCutOff(t *testing.T) {
	text := read(t, "microdesc.txt")
	footer := strings.Index(text, "directory-footer")
	for i := range footer {
		if d, err := Parse([]byte(text[:i])); err == nil || d != nil {
			t.Fatalf("the first %d bytes are taken for a whole consensus", i)
		}
	}
}

func TestLimits(t *testing.T) {
	if _, err := Parse(make([]byte, MaxSize+1)); err == nil || !strings.Contains(err.Error(), "want at most") {
		t.Errorf("too large: %v", err)
	}
	text := read(t, "microdesc.txt")
	a := "a [2001:db8::1]:5000\n"
	if _, err := Parse([]byte(strings.Replace(text, a, strings.Repeat(a, 9), 1))); err == nil || !strings.Contains(err.Error(), "more than 9 addresses") {
		t.Errorf("too many addresses: %v", err)
	}
	long := "s " + strings.Repeat("Guard ", maxLine) + "\n"
	if _, err := Parse([]byte(strings.Replace(text, a, a+long, 1))); err == nil || !strings.Contains(err.Error(), "line 10") {
		t.Errorf("too long a line: %v", err)
	}
	if _, err := Parse([]byte(strings.Replace(text, a, a+"x"+long, 1))); err != nil {
		t.Errorf("a long line that is skipped: %v", err)
	}
	if _, err := Parse([]byte("@type network-status-microdesc-consensus-3 1.0\n" + text)); err != nil {
		t.Errorf("an archive's annotation: %v", err)
	}
}

// FuzzParse: whatever the bytes, Parse returns; what it accepts keeps to the
// limits and has no relay twice.
func FuzzParse(f *testing.F) {
	f.Add([]byte(read(f, "consensus.txt")))
	f.Add([]byte(read(f, "microdesc.txt")))
	f.Add([]byte("network-status-version 3\nr\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := Parse(data)
		if err != nil {
			var bad *Error
			if d != nil || !errors.As(err, &bad) || bad.Line < 0 {
				t.Fatalf("%v with %v", err, d)
			}
			return
		}
		seen := map[guardstate.Fingerprint]bool{}
		for i := range d.Relays {
			r := &d.Relays[i]
			if seen[r.Fingerprint] || len(r.Addrs) == 0 || len(r.Addrs) > MaxAddrs || r.Nickname == "" || d.GuardWeight(r) < 0 {
				t.Fatalf("accepted %+v", r)
			}
			seen[r.Fingerprint] = true
		}
	})
}
