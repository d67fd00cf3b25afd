package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"guardring/e2e/oracle"
	"guardring/e2e/outcome"
)

// report is build/demo/report.json; doc.go explains its fields.
type report struct {
	Policy  string   `json:"policy"`
	OK      bool     `json:"ok"`
	Faults  []string `json:"faults"`
	Common  string   `json:"common"`
	Changed []string `json:"changed"`
	Before  guards   `json:"before"`
	After   guards   `json:"after"`
	Cost    cost     `json:"cost"`
	// Coordinator and Status are guardring's word, everything above Tor's.
	Coordinator coordinator     `json:"coordinator"`
	Status      json.RawMessage `json:"status"`
	Seconds     map[string]int  `json:"seconds"`
}

type guards map[string]gatewayGuards

type gatewayGuards struct {
	InUse   []string       `json:"in_use"`
	Primary []string       `json:"primary"`
	Sample  []sampledGuard `json:"sample"`
}

type sampledGuard struct {
	Fingerprint string `json:"fingerprint"`
	ConfirmedOn string `json:"confirmed_on,omitempty"`
}

type cost struct {
	GuardsChanged    int    `json:"guards_changed"`
	CircuitsClosed   int    `json:"circuits_closed"`
	FirstSightToGone int64  `json:"first_sight_to_last_circuit_ms"`
	Doorbells        uint64 `json:"doorbells"`
	Requests         int    `json:"requests"`
	RequestsFailed   int    `json:"requests_failed"`
}

type coordinator struct {
	Epoch string `json:"epoch"`
	Term  uint64 `json:"term"`
}

func reportGuards(s outcome.Snapshot) guards {
	out := guards{}
	for n, v := range s {
		out[n] = gatewayGuards{InUse: v.InUse, Primary: v.Primary, Sample: sampled(v.Sample)}
	}
	return out
}

func sampled(in []oracle.Sampled) []sampledGuard {
	out := make([]sampledGuard, len(in))
	for i, s := range in {
		out[i] = sampledGuard{Fingerprint: s.Fingerprint, ConfirmedOn: s.ConfirmedOn}
	}
	return out
}

// write stores the report, readable for its owner only: it lists guards.
func (r report) write(path string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
