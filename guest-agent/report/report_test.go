package report

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"guardring/guest-agent/runner"
)

const whole = "AB35A7943BC5367198EEBFDA902A4B910A5E5C71"

func document() runner.Document {
	return runner.Document{
		PID:    7,
		Region: runner.RegionDoc{Path: "/run/x.sock", Attached: true, Connected: true, Gateway: "browsing"},
		Host:   runner.HostDoc{Acting: true, Term: 3},
		Faults: []runner.Complaint{{Member: "web", Text: "cookie /run/x: permission denied", Hint: "add the agent's user to group debian-tor"}},
		Members: []runner.Member{{
			Name: "web", ControlUp: true, TorVersion: "0.4.9.11", State: "present", Selection: "default", Flags: []string{"dormant"},
			Guards:  []runner.Guard{{Fingerprint: whole, InUse: true, Primary: true, Listed: true}, {Fingerprint: whole, Excluded: true, Down: true}},
			Order:   &runner.Order{Term: 3, Seq: 9, Exclusions: []string{whole}},
			Receipt: &runner.Receipt{Status: "refused", Reason: "Tor is a relay"},
			Timing:  runner.Timing{Setconf: 2.5, OwnShare: 0.1, Closed: 4},
			Notices: []runner.Note{{At: time.Unix(0, 0), Warn: true, Text: "from Tor: \x1b[31mred\x07", Guards: []string{whole}}},
		}},
	}
}

func text(t *testing.T, d runner.Document) string {
	t.Helper()
	var b strings.Builder
	if err := Text(&b, d); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestGateAndMeaning: what keeps a Tor from being protected, or its streams waiting, is
// said in words.
func TestGateAndMeaning(t *testing.T) {
	d := document()
	m := &d.Members[0]
	m.Meaning = []string{"this Tor uses bridges: it is only observed"}
	m.Gate = &runner.Gate{State: "closed", Since: time.Unix(0, 0), Limit: time.Unix(90, 0), Waiting: 3, Why: "the host has not answered yet"}
	got := text(t, d)
	for _, want := range []string{"this Tor uses bridges", "join gate CLOSED since", "3 streams wait; the host has not answered yet", "then it opens"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
	m.Gate.Holds = true
	if got := text(t, d); !strings.Contains(got, "stays closed after that") {
		t.Errorf("closed past the limit is not said:\n%s", got)
	}
	*m.Gate = runner.Gate{State: "open", Why: "the member was one before"}
	if got := text(t, d); !strings.Contains(got, "join gate open: the member was one before\n") {
		t.Errorf("the open gate is not said:\n%s", got)
	}
	m.Gate.Since, m.Gate.Opened, m.Gate.LetGo = time.Unix(0, 0), time.Unix(5, 0), 2
	if got := text(t, d); !strings.Contains(got, "2 streams had waited") {
		t.Errorf("what waited is not said:\n%s", got)
	}
}

// TestDevice: by which way the region is reached, and why, is said; that the host cannot
// ring is said loudly.
func TestDevice(t *testing.T) {
	d := document()
	d.Region.Device, d.Region.Because = "poll", "the VM has no IOMMU"
	if got := text(t, d); !strings.Contains(got, "by POLLING: the host cannot ring us") || !strings.Contains(got, "because the VM has no IOMMU\n") {
		t.Errorf("polling is not said:\n%s", got)
	}
	d.Region.Device = "vfio"
	if got := text(t, d); !strings.Contains(got, "by VFIO, with doorbells") {
		t.Errorf("VFIO is not said:\n%s", got)
	}
	d.Region.Device, d.Region.Connected = "socket", false
	if got := text(t, d); !strings.Contains(got, "server away, memory goes on") {
		t.Errorf("the socket's server is not said to be away:\n%s", got)
	}
}

func TestText(t *testing.T) {
	d := document()
	got := text(t, d)
	for _, want := range []string{
		"PROBLEM  web: cookie /run/x: permission denied\n         add the agent's user to group debian-tor\n",
		"gateway browsing, connected", "seat 0 acts, term 3",
		"web: Tor 0.4.9.11, present", "(dormant)", "in use, primary", "excluded, down, not listed",
		"order 9 of term 3: 1 exclusions; refused (Tor is a relay); option set after 2.5 ms (0.1 ms ours), 4 circuits closed",
		"warning: from Tor: ?[31mred?",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
	if strings.Contains(got, "all is well") {
		t.Error("all is well, with a problem")
	}
	d.Faults, d.Region, d.Host, d.Members[0].ControlUp = nil, runner.RegionDoc{Path: "/x"}, runner.HostDoc{Seat: -1}, false
	got = text(t, d)
	for _, want := range []string{"all is well", "region   none (/x)", "nobody acts", "control port away"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
}

func TestFingerprintsAreShortenedEverywhere(t *testing.T) {
	b, err := json.Marshal(document())
	if err != nil {
		t.Fatal(err)
	}
	for _, show := range []bool{false, true} {
		d, err := Parse(b, show)
		if err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(again), whole); (n > 0) != show {
			t.Errorf("show %t: %d whole fingerprints in %s", show, n, again)
		}
		if n := strings.Count(string(again), whole[:8]); n != 4 {
			t.Errorf("show %t: %d of 4 fingerprints are there", show, n)
		}
	}
}

func TestOtherAnswers(t *testing.T) {
	for in, want := range map[string]string{
		`{"error":"the agent's loop does not answer"}`: "the agent says: the agent's loop does not answer",
		`{}`: "not an agent's status",
		`[]`: "read the agent's status",
	} {
		if _, err := Parse([]byte(in), false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", in, err, want)
		}
	}
}
