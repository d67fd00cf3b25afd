//go:build e2e

package model

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// root is the module's.
const root = "../.."

// fault is one rule of the Go code taken out, and what the simulation must say.
// Production code knows nothing of it: the test program is built with an overlay.
type fault struct {
	name, file, rule, instead, says string
}

var faults = []fault{
	{"an exclusion forgets in whose favour it is", "internal/coordinator/conflict.go",
		"spared := x != nil && x.For == v.m.name", "spared := x != nil && false",
		"in favour of|although both would move"},
	{"the earlier stamp does not stay", "internal/coordinator/conflict.go",
		"first := v.mine.stamp.Counter < cl.stamp.Counter", "first := false",
		"the incumbent was moved"},
	{"an exclusion ends before its hold is over", "internal/coordinator/orders.go",
		"if over := x.Since.Add(c.cfg.Hold); c.now.Before(over) {", "if over := x.Since.Add(c.cfg.Hold); over.IsZero() {",
		"take a guard back within its hold"},
	{"conflicts are noted, and nobody is moved", "internal/coordinator/plan.go",
		"if open == 0 && !moving {", "if !moving {",
		"although both would move"},
	{"a coordinator that takes over does not write the orders", "internal/coordinator/publish.go",
		"if arrived {\n\t\t// The seat's word", "if false {\n\t\t// The seat's word",
		"does not obey its order at the end"},
	{"two stamps of one number stay", "internal/coordinator/ledger.go",
		"if alike {\n\t\tfor i, cl := range all", "if alike && false {\n\t\tfor i, cl := range all",
		"claim with stamp"},
	{"two places of one number stay", "internal/coordinator/ledger.go",
		"c.distinctPlaces()", "_ = (*Coordinator).distinctPlaces",
		"have one place"},
	{"a merged ledger has more claims than a member may have", "internal/coordinator/ledger.go",
		"c.capClaims()", "_ = (*Coordinator).capClaims",
		"has 7 claims"},
	{"a seat's term falls at a restart", "internal/coordinator/election/machine.go",
		"m.own.Term = cfg.Own.Term\n", "_ = cfg.Own.Term\n",
		"lowers its term"},
	{"a higher lease deposes nobody", "internal/coordinator/election/machine.go",
		"return m.other.Term > max(m.own.Term, m.claim)", "return false",
		"both coordinators act at the end|take a guard back|does not know|obeys an order|does not obey"},
	{"the lower term counts", "shmproto/order.go",
		"return compare(o.Term, p.Term)", "return compare(p.Term, o.Term)",
		"does not obey its order at the end|obeys an order of term"},
	{"a record's checksum is not looked at", "shmproto/cell.go",
		"if le.Uint64(record[recordChecksumOff:]) != checksum(record[recordVersionOff:]) {", "if false {",
		"nobody published|decode"},
	{"only the version tells of a new publication", "shmproto/host.go",
		"return v*0x9e3779b97f4a7c15 + load(c.mem, c.bufferOff(v)+recordChecksumOff)", "return v",
		"nobody was told"},
	{"nobody is passed over", "shmproto/lock.go",
		"if l.state != lockCompeting || b.Slot < 0 ||", "if true || b.Slot < 0 ||",
		"at the end"},
}

// TestFaults: without any one of these rules, the simulation of package coordinator
// finds a schedule that breaks an invariant.
func TestFaults(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			out := simulate(t, overlay(t, f), "4000")
			if !strings.Contains(out, "replay: go test") {
				t.Fatalf("no schedule breaks an invariant:\n%s", tail(out, 20))
			}
			t.Log(tail(out, 6))
			if !regexp.MustCompile(f.says).MatchString(out) {
				t.Errorf("want %q:\n%s", f.says, tail(out, 20))
			}
		})
	}
}

// TestSchedules is the simulation itself, with no rule taken out.
func TestSchedules(t *testing.T) {
	out := simulate(t, "", "10000")
	if !regexp.MustCompile(`(?m)^--- PASS: TestFailover `).MatchString(out) {
		t.Fatal(tail(out, 40))
	}
	t.Log(tail(out, 4))
}

// simulate runs TestFailover of package coordinator, built with an overlay file.
func simulate(t *testing.T, overlay, schedules string) string {
	t.Helper()
	args := []string{"test", "-count=1", "-v", "-run", "^TestFailover$"}
	if overlay != "" {
		args = append(args, "-overlay", overlay, "-vet=off")
	}
	cmd := exec.Command("go", append(args, "./internal/coordinator", "-schedules", schedules)...)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), "[build failed]") || err != nil && len(out) == 0 {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// overlay writes the file without its rule, and the overlay that names it.
func overlay(t *testing.T, f fault) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(root, f.file))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), f.rule); n != 1 {
		t.Fatalf("%s has the rule %d times, want once: %s", f.file, n, f.rule)
	}
	dir := t.TempDir()
	patched, list := filepath.Join(dir, "patched.go"), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {path: patched}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{patched: []byte(strings.Replace(string(text), f.rule, f.instead, 1)), list: replace} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return list
}
