package main

import (
	"testing"

	"guardring/host-agent/config"
	"guardring/internal/coordinator"
)

// TestTheFilesDefaultsAreTheCores: the example and the documentation show the
// file's, simulation and promises are about the core's.
func TestTheFilesDefaultsAreTheCores(t *testing.T) {
	r, err := runnerConfig(config.Default())
	if err != nil {
		t.Fatal(err)
	}
	own := coordinator.Config{Policy: coordinator.PolicyObserve}
	file := coordinator.Config{
		Policy: r.Policy, Retention: r.Retention, Hold: r.Hold, Levels: r.Levels, Budgets: r.Budgets,
		DelayMin: r.DelayMin, DelayMax: r.DelayMax, MaxGatewayClaims: r.MaxGatewayClaims,
	}
	state := func(cfg coordinator.Config) string {
		c, err := coordinator.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return string(c.Checkpoint().State)
	}
	if a, b := state(own), state(file); a != b {
		t.Errorf("the core's:\n%s\nthe file's:\n%s", a, b)
	}
}
