package report

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// story is the history of three gateways, as the coordinator writes it.
const story = `{"at":"2026-11-19T10:00:00Z","kind":"joined","member":{"gateway":"apps","instance":"default"}}
{"at":"2026-11-21T11:00:00Z","kind":"joined","member":{"gateway":"web","instance":"default"}}
{"at":"2026-11-21T11:00:00Z","kind":"conflict","member":{"gateway":"web","instance":"default"},"other":{"gateway":"apps","instance":"default"},"key":"relay/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","stamp":{"n":4,"at":"2026-11-21T11:00:00Z"},"other_stamp":{"n":1,"at":"2026-11-19T10:00:00Z"}}
{"at":"2026-11-21T11:00:00Z","kind":"delayed","member":{"gateway":"web","instance":"default"},"other":{"gateway":"apps","instance":"default"},"key":"relay/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","due":"2026-11-21T11:20:00Z","budgets":[{"name":"forced-used","left":1,"burst":1}]}
{"at":"2026-11-21T11:20:00Z","kind":"excluded","member":{"gateway":"web","instance":"default"},"other":{"gateway":"apps","instance":"default"},"key":"relay/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","why":"conflict","stamp":{"n":4,"at":"2026-11-21T11:00:00Z"},"other_stamp":{"n":1,"at":"2026-11-19T10:00:00Z"},"cost":{"in_use":true,"primary":true},"seq":1,"budgets":[{"name":"new-claims","left":1,"burst":3},{"name":"forced-unused","left":3,"burst":3},{"name":"forced-used","left":1,"burst":1}]}
{"at":"2026-11-21T11:20:00Z","kind":"excluded","member":{"gateway":"web","instance":"default"},"other":{"gateway":"apps","instance":"default"},"key":"relay/CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC","level":"family","over":"relay/DDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDD","why":"successor","other_stamp":{"n":2,"at":"2026-11-19T10:00:00Z"},"seq":1,"budgets":[{"name":"new-claims","left":1,"burst":3},{"name":"forced-unused","left":3,"burst":3},{"name":"forced-used","left":1,"burst":1}]}
{"at":"2026-11-21T11:20:04Z","kind":"applied","member":{"gateway":"web","instance":"default"},"seq":1}
{"at":"2026-11-21T11:30:00Z","kind":"exhausted","member":{"gateway":"web","instance":"default"},"budget":"forced-used","count":1,"due":"2027-01-20T11:20:00Z"}
{"at":"2026-11-21T11:40:00Z","kind":"allowed","member":{"gateway":"web","instance":"default"},"count":1}
{"at":"2026-11-21T11:50:00Z","kind":"quarantined","member":{"gateway":"web","instance":""},"count":10,"reason":"checksum"}
{"at":"2026-11-21T11:51:00Z","kind":"brandnew","member":{"gateway":"web","instance":"default"},"reason":"of a later build"}
{"at":"2026-11-21T11:52:00Z","kind":"stu`

func TestExplain(t *testing.T) {
	waiting := good()
	conflict(&waiting, "relay", ConflictBudget)
	waiting.Members[1].Budgets = []Budget{{Name: "forced-used", Left: 0, Burst: 1}, {Name: "forced-unused", Left: 3, Burst: 3}}
	waiting.Members[1].Order, waiting.Members[1].Receipt.Status = Order{Seq: 1}, "applied"
	for name, c := range map[string]struct {
		subject string
		answers Answers
	}{
		"explain-web":     {"web/default", Answers{Coordinators: []Document{waiting}}},
		"explain-apps":    {"apps", Answers{Coordinators: []Document{good()}}},
		"explain-nothing": {"updates", Answers{CoordinatorErr: errors.New("nobody listens")}},
	} {
		t.Run(name, func(t *testing.T) {
			var lines [][]byte
			for line := range strings.Lines(story) {
				lines = append(lines, []byte(line))
			}
			e := Explain(c.subject, lines, Judge(c.answers)).Shorten()
			var b strings.Builder
			if err := WriteExplanation(&b, e, Style{Now: now}); err != nil {
				t.Fatal(err)
			}
			golden(t, name, b.String())
			text, err := json.Marshal(e)
			if err != nil || strings.Contains(b.String()+string(text), "AAAAAAAAA") {
				t.Errorf("a whole fingerprint is shown unasked, or %v:\n%s", err, text)
			}
		})
	}
}

// TestExplainNow: what is waited for, and that nothing is.
func TestExplainNow(t *testing.T) {
	for status, want := range map[string]string{
		"none": "has its order 3 and has not finished it (none)", "pending": "has its order 3 and has not finished it (pending)",
		"applied": "is in no conflict, and nothing is waited for", "refused": "is in no conflict, and nothing is waited for",
	} {
		d := good()
		d.Members[1].Order, d.Members[1].Receipt.Status = Order{Seq: 3}, status
		now := strings.Join((explainer{}).now(Explain("web", nil, Judge(Answers{Coordinators: []Document{d}}))), "\n")
		if !strings.Contains(now, want) {
			t.Errorf("%s: %q, want %q", status, now, want)
		}
	}
}

// TestExplainKeepsTheOrder: lines of several files are put in the order of time.
func TestExplainKeepsTheOrder(t *testing.T) {
	at := func(n int, kind string) []byte {
		text, err := json.Marshal(Decision{At: now.Add(time.Duration(n) * time.Second), Kind: kind, Member: Name{"a", "default"}})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	e := Explain("a", [][]byte{at(3, "three"), at(1, "one"), at(2, "two"), at(2, "second two")}, Status{At: now})
	var kinds []string
	for _, d := range e.Decisions {
		kinds = append(kinds, d.Kind)
	}
	if d := cmp.Diff([]string{"one", "two", "second two", "three"}, kinds); d != "" {
		t.Error(d)
	}
}

// TestEveryNoticeIsWorded: a notice that is new in the core must become a sentence
// here, and its reason must fit into it.
func TestEveryNoticeIsWorded(t *testing.T) {
	code, err := os.ReadFile("../../internal/coordinator/notice.go")
	if err != nil {
		t.Fatal(err)
	}
	kinds := regexp.MustCompile(`NoticeKind = "([a-z-]+)"`).FindAllSubmatch(code, -1)
	if len(kinds) < 20 {
		t.Fatalf("%d kinds of notices found in the core", len(kinds))
	}
	for _, k := range kinds {
		d := Decision{Kind: string(k[1]), Member: Name{"web", "default"}, Other: Name{"apps", "default"}, Key: "relay/AA"}
		if s := (explainer{}).sentence(d); strings.Contains(s, ": "+d.Kind) {
			t.Errorf("%s has no words: %q", d.Kind, s)
		}
	}
	fresh := explainer{}.sentence(Decision{Kind: "fresh", Member: Name{"web", "default"}, Reason: "it had one"})
	if strings.Contains(fresh, "not charged") {
		t.Errorf("a charged exchange: %q", fresh)
	}
}

// TestNobody: a name is a slip of the pen only where that is sure.
func TestNobody(t *testing.T) {
	// The coordinator has not attached the gateway "early" yet.
	known := Judge(Answers{Server: json.RawMessage(`{"gateways":[{"name":"web"},{"name":"early"}]}`), Coordinators: []Document{good()}})
	history := [][]byte{[]byte(`{"kind":"forgotten","member":{"gateway":"gone","instance":"default"}}`)}
	for name, want := range map[string]bool{"web": false, "web/default": false, "web/other": false, "gone": false, "early": false, "wbe": true, "we": true} {
		if got := Explain(name, history, known).Nobody(known); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	nothing := Judge(Answers{CoordinatorErr: fs.ErrNotExist})
	if Explain("wbe", nil, nothing).Nobody(nothing) {
		t.Error("without a coordinator nothing is sure")
	}
}

func TestSubject(t *testing.T) {
	valid := func(s string) bool { return s != "" && !strings.ContainsAny(s, "/ ") }
	for name, want := range map[string]bool{"web": true, "web/default": true, "": false, "/x": false, "web/": false, "a/b/c": false, "a b": false} {
		if err := Subject(name, valid); (err == nil) != want {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// golden compares with a file in testdata; -update writes it anew.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("(-want +got), -update writes it anew:\n%s", d)
	}
}
