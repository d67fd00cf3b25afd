//go:build e2e

package failover

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"guardring/e2e/binaries"
)

// faulty are coordinators without one of their rules.
var faulty = []binaries.Fault{
	{Name: "who takes over does not read the ledger", File: "host-agent/runner/elect.go",
		Rule: "core.Restore(records)", Instead: "core.Restore(records[:0])"},
	{Name: "the earlier stamp does not stay", File: "internal/coordinator/conflict.go",
		Rule: "first := v.mine.stamp.Counter < cl.stamp.Counter", Instead: "first := false"},
	{Name: "orders are written before the ledger", File: "host-agent/runner/effects.go",
		Rule: "if len(ready.Save) > 0 && !r.save(ready.Save) {\n\t\treturn\n\t}", Instead: "defer r.save(ready.Save)"},
}

// TestFaulty: what TestLinearizable would find, if it were there.
func TestFaulty(t *testing.T) {
	const rounds, round = 8, 3 * time.Second
	for _, f := range faulty {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			list, err := f.Overlay(root, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			binary := filepath.Join(t.TempDir(), "guardring")
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
			defer cancel()
			if err := (binaries.Variant{Overlay: list}).Build(ctx, binary, "guardring/host-agent"); err != nil {
				t.Fatal(err)
			}
			for n := range uint64(rounds) {
				s := newStorm(t, binary, n)
				s.rig.Unjudged = true
				begun := time.Now()
				played := s.blow(round)
				s.endWatch()
				wrong := s.judge()
				t.Logf("round %d, %v: %v\n%v", n, time.Since(begun), played, wrong)
				if wrong != nil {
					return
				}
			}
			t.Errorf("nothing is found in %d rounds of %v", rounds, round)
		})
	}
}
