//go:build e2e

package model

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// folder has the models.
const folder = "../../docs/model"

// verdict is what an exhaustive search found.
type verdict struct {
	states, depth int
	memory        float64 // MB
	seconds       float64
	complete      bool
	violated      string // the property, "" if none
	trail         string // how it came to that, as text
}

var (
	statesLine   = regexp.MustCompile(`(?m)^ *([0-9.e+]+) states, stored`)
	depthLine    = regexp.MustCompile(`depth reached ([0-9]+), errors: ([0-9]+)`)
	memoryLine   = regexp.MustCompile(`(?m)^ *([0-9.]+)\ttotal actual memory usage`)
	secondsLine  = regexp.MustCompile(`elapsed time ([0-9.]+) seconds`)
	violatedLine = regexp.MustCompile(`assertion violated !\(([a-z_]+)\)`)
)

// search has spin make a verifier of a model with the macros defs, and runs it to
// the end or to the first violation.
func search(t *testing.T, model string, defs []string) verdict {
	t.Helper()
	for _, tool := range []string{"spin", "gcc"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%v (try: make setup)", err)
		}
	}
	source, err := os.ReadFile(filepath.Join(folder, model))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, model), source, 0o600); err != nil {
		t.Fatal(err)
	}
	command := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return string(out)
	}
	macros := make([]string, len(defs))
	for i, d := range defs {
		macros[i] = "-D" + d
	}
	command("spin", append(append([]string{}, macros...), "-a", model)...)
	// Exhaustive, all states kept; 2 GB at most.
	if out := command("gcc", "-O2", "-w", "-DSAFETY", "-DCOLLAPSE", "-DMEMLIM=2000", "-o", "pan", "pan.c"); out != "" {
		t.Fatalf("spin made no program of %s %v:\n%s", model, defs, out)
	}
	// -E: that processes end where they wait is not an error; the models say
	// themselves what must be when everybody is quiet.
	out := command("nice", "-n", "10", "./pan", "-E", "-m100000")
	number := func(line *regexp.Regexp) float64 {
		if m := line.FindStringSubmatch(out); m != nil {
			x, err := strconv.ParseFloat(m[1], 64)
			if err == nil {
				return x
			}
		}
		t.Fatalf("%s %v: no line %s in what the verifier said:\n%s", model, defs, line, out)
		return 0
	}
	v := verdict{
		states: int(number(statesLine)), depth: int(number(depthLine)), memory: number(memoryLine), seconds: number(secondsLine),
		complete: !strings.Contains(out, "Search not completed") && !strings.Contains(out, "max search depth too small"),
	}
	if m := violatedLine.FindStringSubmatch(strings.ReplaceAll(out, "violated  ", "violated ")); m != nil {
		v.violated = m[1]
		v.trail = tail(command("spin", append(append([]string{}, macros...), "-t", "-p", "-g", model)...), 400)
	} else if m := depthLine.FindStringSubmatch(out); m[2] != "0" {
		t.Fatalf("%s %v: an error without a name:\n%s", model, defs, out)
	}
	return v
}

// tail returns the last n lines.
func tail(text string, n int) string {
	lines := strings.SplitAfter(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}
