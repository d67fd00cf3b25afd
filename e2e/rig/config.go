package rig

import (
	"fmt"
	"strings"
	"time"
)

// config is the host's configuration file.
func (r *Rig) config() string {
	var b strings.Builder
	fmt.Fprintf(&b, "run-dir: %s\nledger-dir: %s\npolicy: %s\ngateways:\n", r.RunDir(), r.LedgerDir(), r.Policy)
	for _, g := range r.Gateways {
		fmt.Fprintf(&b, "  - name: %s\n", g.Name)
	}
	return b.String()
}

// config is a guest's configuration file.
func (g *Gateway) config() string {
	var b strings.Builder
	fmt.Fprintf(&b, "region: %s/gateways/%s.sock\ninstances:\n", g.rig.RunDir(), g.Name)
	for _, t := range g.Tors {
		fmt.Fprintf(&b, "  - name: %s\n    control: %s\n", t.Name, t.ControlSocket())
	}
	return b.String()
}

// Status is what this package reads of `guardring status --json`.
type Status struct {
	Epoch string `json:"epoch"`
	Term  uint64 `json:"term"`
}

func (s Status) Acting() bool                           { return s.Term != 0 }
func (s Status) FirstSight(fp string) (time.Time, bool) { return time.Time{}, false }
func (s Status) DoorbellsRung() uint64                  { return 0 }
