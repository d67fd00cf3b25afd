package report

import (
	"encoding/json"
	"strings"
	"testing"
)

// evil is what a coordinator that was taken over would have an operator's terminal do:
// name its window, clear the screen, and the same by the one character that stands for
// "ESC [".
const evil = "a\x1b]0;b\x07\x1b[2J\u009b2Jc\r"

// possessed is a document all of whose texts are evil.
func possessed() Document {
	d := good()
	d.Self.Policy = evil
	d.Self.LedgerError, d.Self.JournalError = evil, evil
	d.Gateways[0].Name = evil
	m := &d.Members[0]
	m.Member, m.State, m.Role, m.CloneOf, m.Flags = evil, evil, evil, evil, []string{evil}
	m.Guards[0].Fingerprint, m.Receipt.Reason = evil, evil
	m.Order.Seq = 1
	d.Conflicts = []Conflict{{Level: evil, Fingerprint: evil, Over: evil, Incumbent: evil, Newcomer: evil, State: evil}}
	return d
}

// TestNothingCommandsTheTerminal: who asks for status is often root, and whoever answers
// may have been taken over.
func TestNothingCommandsTheTerminal(t *testing.T) {
	line, err := json.Marshal(Decision{At: now, Kind: evil, Member: Name{Gateway: "web", Instance: evil}, Reason: evil, Key: evil})
	if err != nil {
		t.Fatal(err)
	}
	for _, colour := range []bool{false, true} {
		st := Style{Now: now, Color: colour, Fingerprints: true}
		s := Judge(Answers{Coordinators: []Document{possessed()}})
		var page strings.Builder
		if err := Write(&page, s, st); err != nil {
			t.Fatal(err)
		}
		if err := WriteExplanation(&page, Explain("web", [][]byte{line}, s), st); err != nil {
			t.Fatal(err)
		}
		text := page.String()
		if colour != strings.Contains(text, "\x1b[") {
			t.Errorf("colour %v: %q", colour, text)
		}
		if rest := painted.ReplaceAllString(text, ""); strings.ContainsAny(rest, "\x1b\x07\r\u009b") {
			t.Errorf("colour %v: %q", colour, rest)
		}
	}
}

// TestEveryColourIsKept: all that paint is asked for.
func TestEveryColourIsKept(t *testing.T) {
	d := sharing(ConflictOrdered)
	d.Members[0].Guards = append(d.Members[0].Guards, Guard{Fingerprint: second, Excluded: true, Stamp: 4}, Guard{Fingerprint: "D", Ordered: now, Stamp: 5},
		Guard{Fingerprint: "E", Primary: true, Stamp: 6}, Guard{Fingerprint: "F", Left: now, Stamp: 7}, Guard{Fingerprint: "G", Possible: true, Stamp: 8})
	st := Style{Now: now, Color: true}
	page := st.matrix(Judge(Answers{Coordinators: []Document{d}}))
	for v := OK; v <= Unknown; v++ {
		page += st.paint(verdictColors(v), v.String())
	}
	if got := st.printable(page); got != page || !strings.Contains(page, "\x1b[2m") {
		t.Errorf("%q\n%q", got, page)
	}
}
