//go:build e2e

package model

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"guardring/e2e/binaries"
)

// root is the module's.
const root = "../.."

// fault is one rule of the Go code taken out, and what a simulation must say.
type fault struct {
	binaries.Fault
	says string
}

// breakEach takes out one rule after another: without it, the simulation finds a schedule
// that breaks an invariant, and says so. many is its flag for the number of schedules.
func breakEach(t *testing.T, faults []fault, simulation, many string) {
	for _, f := range faults {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			list, err := f.Overlay(root, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			out := simulate(t, list, simulation, many, "4000")
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

// holds runs the simulation with no rule taken out.
func holds(t *testing.T, simulation, many string) {
	out := simulate(t, "", simulation, many, "10000")
	if !regexp.MustCompile(`(?m)^--- PASS: ` + simulation + ` `).MatchString(out) {
		t.Fatal(tail(out, 40))
	}
	t.Log(tail(out, 8))
}

// simulate runs a simulation of package coordinator, built with an overlay file, with so many schedules by its flag.
func simulate(t *testing.T, overlay, simulation, flag, schedules string) string {
	t.Helper()
	args := []string{"test", "-count=1", "-v", "-run", "^" + simulation + "$"}
	if overlay != "" {
		args = append(args, "-overlay", overlay, "-vet=off")
	}
	cmd := exec.Command("go", append(args, "./internal/coordinator", flag, schedules)...)
	cmd.Dir = root
	if overlay != "" {
		cmd.Env = append(os.Environ(), "GOMAXPROCS=1") // one worker: the same schedule is the first to fail each time
	}
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), "[build failed]") || err != nil && len(out) == 0 {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}
