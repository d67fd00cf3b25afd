//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"guardring/e2e/oracle"
	"guardring/e2e/rig"
)

// explained is what this package reads of `guardring explain --json`.
type explained struct {
	Decisions []struct {
		Kind   string `json:"kind"`
		Key    string `json:"key"`
		Budget string `json:"budget"`
		Why    string `json:"why"`
		Cost   struct {
			InUse bool `json:"in_use"`
		} `json:"cost"`
		Budgets []struct {
			Name string `json:"name"`
			Left int    `json:"left"`
		} `json:"budgets"`
	} `json:"decisions"`
}

// guardring runs a command of the host that must succeed, and returns what it prints, without line breaks.
func (p *pair) guardring(command string, args ...string) string {
	p.t.Helper()
	out, err := p.rig.Guardring(p.ctx(20*time.Second), command, args...)
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.Join(strings.Fields(out), " ")
}

// TestExplainAllowReplay: bob uses two guards that alice had first, and may be told to give up one used guard. `explain` says what was
// decided, what it cost and what waits; `allow --once` has the other one given up too, and no more than that; the journal of all of it,
// replayed, gives the same decisions.
func TestExplainAllowReplay(t *testing.T) {
	p := newPair(t, setup{protection: "delay: {least: 0s, most: 0s}\n", plantA: planted(0, 5, 1), plantB: planted(0, 5, 3)})
	if out := p.guardring("explain", "bob"); !strings.Contains(out, "Nothing was ever decided about bob") {
		t.Errorf("before bob came: %s", out)
	}
	p.useBoth()
	stop := keepBusy(t, p.b)
	defer stop()
	p.startBob()
	p.awaitStatus(40*time.Second, "the budget spent", func(s rig.Status) bool {
		return s.Member(bob).Budget("forced-used").Waiting == 1
	})
	p.awaitApplied()

	// explain names the decision, its cost, and the command.
	text := p.guardring("explain", "bob")
	for _, want := range []string{"bob/default was told not to use guard", "Cost: a guard in use", "the incumbent stays, the newcomer moves",
		"used guards to give up: 0 left then, 0 now", "guardring allow bob --once"} {
		if !strings.Contains(text, want) {
			t.Errorf("explain does not say %q:\n%s", want, text)
		}
	}
	var e explained
	if err := json.Unmarshal([]byte(p.guardring("explain", bob, "--json", "--show-fingerprints")), &e); err != nil {
		t.Fatal(err)
	}
	given := ""
	for _, d := range e.Decisions {
		if d.Kind == "excluded" && d.Why == "conflict" && d.Cost.InUse {
			given = strings.TrimPrefix(d.Key, "relay/")
		}
	}
	common := fingerprints(planted(0, 5))
	if !slices.Contains(common, given) {
		t.Errorf("explain names %q as given up, one of %v was", given, common)
	}

	// What concerns alice is that bob was told because of her.
	if out := p.guardring("explain", "alice"); !strings.Contains(out, "bob/default was told not to use guard") {
		t.Errorf("explain of alice: %s", out)
	}

	// allow: by Tor, both are given up now.
	if out := p.guardring("allow", "bob", "--once"); !strings.Contains(out, "bob/default: what waits (1) is done now") {
		t.Errorf("allow: %s", out)
	}
	if _, err := oracle.Await(p.ctx(40*time.Second), p.b, "both guards given up", func(v oracle.View) bool {
		return len(v.Primary) >= 3 && gone(v, common[0]) && gone(v, common[1])
	}); err != nil {
		t.Fatal(err)
	}
	p.awaitApplied()
	p.checkAlice()
	p.awaitStatus(20*time.Second, "no conflict left", func(s rig.Status) bool { return len(s.Conflicts) == 0 })
	if out := p.guardring("explain", "bob"); !strings.Contains(out, "you let bob/default do once what waited then") {
		t.Errorf("explain does not tell of the operator's word:\n%s", out)
	}
	if out := p.guardring("allow", "bob", "--once"); !strings.Contains(out, "nothing waits for a budget") {
		t.Errorf("a second allow: %s", out)
	}

	out := p.guardring("replay")
	p.rejectsDamage()
	for _, want := range []string{"excluded bob/default", "allowed bob/default", "every one the same as then"} {
		if !strings.Contains(out, want) {
			t.Errorf("replay does not say %q:\n%s", want, out)
		}
	}
}

// rejectsDamage has replay look at a copy of the journal, which is as good as the journal, and at one without the line of bob's first order: that must not go through.
func (p *pair) rejectsDamage() {
	p.t.Helper()
	segments, err := filepath.Glob(filepath.Join(p.rig.RunDir(), "host", "journal", "journal.*.jsonl"))
	if err != nil || len(segments) == 0 {
		p.t.Fatalf("no journal: %v", err)
	}
	text, err := os.ReadFile(segments[len(segments)-1])
	if err != nil {
		p.t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	i := slices.IndexFunc(lines, func(l string) bool {
		return strings.Contains(l, `"Gateway":"bob"`) && strings.Contains(l, `"orders":`)
	})
	if i < 0 {
		p.t.Fatal("no line of the journal has an order for bob")
	}
	for _, c := range []struct {
		name  string
		lines []string
		good  bool
	}{{"copy.jsonl", lines, true}, {"damaged.jsonl", slices.Delete(slices.Clone(lines), i, i+1), false}} {
		file := filepath.Join(p.rig.Dir, c.name)
		if err := os.WriteFile(file, []byte(strings.Join(c.lines, "")), 0o600); err != nil {
			p.t.Fatal(err)
		}
		if out, err := p.rig.Guardring(p.ctx(20*time.Second), "replay", file); (err == nil) != c.good {
			p.t.Errorf("replay of %s: %v\n%s", c.name, err, out)
		}
	}
}
