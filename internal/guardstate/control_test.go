package guardstate

import (
	"encoding/base64"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	fpA = "AB35A7943BC5367198EEBFDA902A4B910A5E5C71"
	fpB = "E050BB8BACE0506E8288DA028028F2CC139DE499"
)

const circuitLine = "7 BUILT $" + fpA + "~guard0,$" + fpB + "=exit1 BUILD_FLAGS=IS_INTERNAL,NEED_CAPACITY PURPOSE=CONFLUX_LINKED " +
	`HS_STATE=HSSI_ESTABLISHED TIME_CREATED=2026-11-21T10:00:00.000000 SOCKS_USERNAME="a b" CONFLUX_ID=AA55 CONFLUX_RTT=3`

func mustFP(s string) Fingerprint {
	f, err := ParseFingerprint(s)
	if err != nil {
		panic(err)
	}
	return f
}

func TestParseEntryGuards(t *testing.T) {
	text := "$" + fpA + "~guard0 up\r\n$" + fpB + " down 2026-11-21 10:00:00\n$" + fpB[:39] + "A=x unusable\n$" + fpB[:39] + "B~y never-connected\n"
	gs, err := ParseEntryGuards(text)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, g := range gs {
		got = append(got, g.Nickname+" "+g.Status.String())
	}
	if want := []string{"guard0 up", " down", "x unusable", "y never-connected"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if gs[1].Since.IsZero() || !gs[0].Since.IsZero() || gs[3].Confirmed() || !gs[2].Confirmed() {
		t.Errorf("times or confirmed wrong: %+v", gs)
	}
	if gs, err := ParseEntryGuards(""); err != nil || len(gs) != 0 {
		t.Errorf("empty sample: %v, %v", gs, err)
	}
	for _, bad := range []string{"$" + fpA, "$" + fpA + " better", "nick up", "$" + fpA + " down yesterday", strings.Repeat("$"+fpA+" up\n", 2000)} {
		if _, err := ParseEntryGuards(bad); err == nil {
			t.Errorf("accepted %.60q", bad)
		}
	}
}

func TestParseCircuit(t *testing.T) {
	want := Circuit{ID: "7", Status: "BUILT", Path: []Fingerprint{mustFP(fpA), mustFP(fpB)}, BuildFlags: []string{"IS_INTERNAL", "NEED_CAPACITY"},
		Purpose: "CONFLUX_LINKED", HSState: "HSSI_ESTABLISHED", ConfluxID: "AA55"}
	for _, prefix := range []string{"", "CIRC ", "650 CIRC "} {
		got, err := ParseCircuit(prefix + circuitLine)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	c, err := ParseCircuit("3 LAUNCHED BUILD_FLAGS=ONEHOP_TUNNEL PURPOSE=GENERAL")
	if _, ok := c.First(); err != nil || ok || !c.OneHop() || c.Gone() {
		t.Errorf("%+v %v", c, err)
	}
	for _, bad := range []string{"", "7", "7 NEW", "7! BUILT", "12345678901234567 BUILT", "7 BUILT $AB", `7 BUILT X="open`} {
		if _, err := ParseCircuit(bad); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
}

func TestParseStreams(t *testing.T) {
	ss, err := ParseStreamStatus("1 SUCCEEDED 5 example.com:80\n2 NEW 0 example.com:80 PURPOSE=USER\n")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]Stream{{ID: "1", Status: "SUCCEEDED", Circuit: "5"}, {ID: "2", Status: "NEW", Purpose: "USER"}}, ss); d != "" {
		t.Error(d)
	}
	for _, bad := range []string{"1", "1 NEW", "1 NEW x!y a:80"} {
		if _, err := ParseStream(bad); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
}

var (
	identityA = func() string { f := mustFP(fpA); return base64.RawStdEncoding.EncodeToString(f[:]) }()
	nsEntry   = "r guard0 " + identityA + " AAAAAAAAAAAAAAAAAAAAAAAAAAA 2026-11-21 10:00:00 127.10.0.1 5001 0\n" +
		"a [::1]:5002\ns Fast Guard Running Stable V2Dir Valid\nw Bandwidth=1000\n"
	mdEntry = "onion-key\nntor-onion-key x\na [2001:db8::7]:443\nfamily $" + fpB + " $" + fpA + " somenick $" + fpB + "\nfamily-ids ed25519:" +
		base64.RawStdEncoding.EncodeToString(make([]byte, 32)) + " newkind:xyz\nid ed25519 x\n"
)

// TestHostileMicrodescriptor: a relay's operator writes the microdescriptor. What
// cannot be read or names no relay is skipped, or one relay could keep a whole
// gateway from showing its guards.
func TestHostileMicrodescriptor(t *testing.T) {
	md := "family $0000000000000000000000000000000000000000 $" + fpB + "\nfamily-ids ed25519:" + strings.Repeat("A", 43) + " ed25519:short ed448:x\na nonsense\na [::1]:0\n"
	r, err := ParseRelay(nsEntry, md)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]Fingerprint{mustFP(fpB)}, r.Family); d != "" {
		t.Errorf("family (-want +got):\n%s", d)
	}
	if len(r.FamilyIDs) != 1 {
		t.Errorf("%d family IDs, want the one that can be read", len(r.FamilyIDs))
	}
}

func TestParseRelay(t *testing.T) {
	r, err := ParseRelay(nsEntry, mdEntry)
	if err != nil {
		t.Fatal(err)
	}
	want := Relay{Fingerprint: mustFP(fpA), Nickname: "guard0", Listed: true, FamilyKnown: true,
		Addrs:  []netip.AddrPort{netip.MustParseAddrPort("127.10.0.1:5001"), netip.MustParseAddrPort("[::1]:5002"), netip.MustParseAddrPort("[2001:db8::7]:443")},
		Family: []Fingerprint{mustFP(fpA), mustFP(fpB)}, FamilyIDs: [][32]byte{{}}}
	if d := cmp.Diff(want, r, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); d != "" {
		t.Error(d)
	}
	if r, err := ParseRelay("\n", ""); err != nil || !r.Fingerprint.IsZero() {
		t.Errorf("empty entry: %+v %v", r, err)
	}
	if r, _ := ParseRelay(strings.Replace(nsEntry, "Guard ", "", 1), ""); r.Listed {
		t.Error("a relay without the Guard flag counts as listed")
	}
	for _, bad := range []string{"s Guard\n", "r x\n", strings.Replace(nsEntry, identityA, "AAA", 1), strings.Replace(nsEntry, "127.10.0.1", "127.10.0", 1)} {
		if _, err := ParseRelay(bad, ""); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
	var nr NetworkReader
	other := strings.Replace(strings.Replace(nsEntry, identityA, strings.Repeat("B", 27), 1), " Guard", "", 1)
	for _, l := range strings.SplitAfter(nsEntry+other+strings.Replace(nsEntry, "127.10.0.1", "x", 1), "\n") {
		nr.Line([]byte(l))
	}
	if gs := nr.Guards(); len(gs) != 1 || gs[0].Fingerprint != mustFP(fpA) || len(gs[0].Addrs) != 2 {
		t.Errorf("network: %+v", gs)
	}
}

func TestParseConf(t *testing.T) {
	c, err := ParseConf("250-ReachableORAddresses=reject 192.0.2.71:82\r\n250-reachableoraddresses=accept *:*\n250-NumEntryGuards=0\n250-EntryNodes=\n250 ORPort\n")
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Values("ReachableORAddresses"); !slices.Equal(got, []string{"reject 192.0.2.71:82", "accept *:*"}) {
		t.Errorf("values %q", got)
	}
	if c.Values("ORPort") != nil || c.Value("NumEntryGuards") != "0" || !slices.Equal(c.Values("EntryNodes"), []string{""}) {
		t.Errorf("conf %+v", c)
	}
	c, err = ParseConf(`250 Log="notice \"a\" \\b"`)
	if err != nil || c.Value("log") != `notice "a" \b` {
		t.Errorf("quoted: %+v %v", c, err)
	}
	for _, bad := range []string{"250 =x", `250 A="x`, `250 A="x"y"`, "two words=1"} {
		if _, err := ParseConf(bad); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
}

func TestNumPrimary(t *testing.T) {
	for _, c := range []struct {
		primary, dir, entry int
		p                   Params
		want                int
	}{
		{0, 0, 0, Params{}, 3},
		{2, 0, 2, Params{}, 3}, // the vanguards add-on: NumDirectoryGuards still says 3
		{2, 2, 2, Params{}, 2},
		{0, 0, 0, Params{NPrimaryGuards: 5}, 5},
		{1, 1, 4, Params{NPrimaryGuards: 5}, 4},
		{0, 0, 0, Params{NPrimaryGuards: 2, NPrimaryDirGuardsToUse: 1}, 2},
	} {
		if got := NumPrimary(c.primary, c.dir, c.entry, c.p); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
	if p := ParseParams("params a=1 guard-n-primary-guards=4 guard-n-primary-guards-to-use=x use-family-ids=0 use-family-lists=1"); p != (Params{NPrimaryGuards: 4, IgnoreFamilyIDs: true}) {
		t.Errorf("%+v", p)
	}
}

// TestRealReplies reads what a Tor 0.4.9.11 of a private network answered
// (testdata/control; 14 guards, 4 exits, 3 authorities).
func TestRealReplies(t *testing.T) {
	read := func(name string) string {
		b, err := os.ReadFile("testdata/control/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	cs, err := ParseCircuitStatus(read("circuit-status.txt"))
	if err != nil || len(cs) == 0 {
		t.Fatalf("%d circuits, %v", len(cs), err)
	}
	sets := map[string]int{}
	for _, c := range cs {
		if c.Purpose == "CONFLUX_LINKED" && c.ConfluxID != "" && len(c.Path) == 3 {
			sets[c.ConfluxID]++
		}
	}
	if len(sets) == 0 {
		t.Errorf("no conflux sets among %+v", cs)
	}
	for id, legs := range sets {
		if legs != 2 {
			t.Errorf("conflux set %s of %d legs", id, legs)
		}
	}
	gs, err := ParseEntryGuards(read("entry-guards.txt"))
	if err != nil || len(gs) < 3 || gs[0].Nickname != "guard0" || gs[0].Status != EntryGuardUp || gs[3].Confirmed() {
		t.Errorf("%+v %v", gs, err)
	}
	r, err := ParseRelay(read("ns-id.txt"), read("md-id.txt"))
	if err != nil || r.Nickname != "guard1" || !r.Listed || len(r.Family) != 2 || r.Addrs[0] != netip.MustParseAddrPort("127.14.0.1:21024") {
		t.Errorf("%+v %v", r, err)
	}
	var nr NetworkReader
	for _, l := range strings.SplitAfter(read("ns-all.txt"), "\n") {
		nr.Line([]byte(l))
	}
	if n := len(nr.Guards()); n != 14 {
		t.Errorf("%d guards in the network, want 14", n)
	}
}
