package rig

import (
	"fmt"
	"path/filepath"
	"strings"
)

// config is the host's configuration file. The heartbeat is short, so that a standby takes over within a second.
func (r *Rig) config() string {
	var b strings.Builder
	fmt.Fprintf(&b, "run-dir: %s\nledger-dir: %s\npolicy: %s\nheartbeat: 200ms\nrescan: 1s\nshow-fingerprints: true\n",
		r.RunDir(), r.LedgerDir(), r.Policy)
	if r.DescriptorStore {
		b.WriteString("descriptor-store: true\n")
	}
	b.WriteString("gateways:\n")
	for _, g := range r.Gateways {
		fmt.Fprintf(&b, "  - name: %s\n", g.Name)
	}
	return b.String()
}

// config is a guest's configuration file.
func (g *Gateway) config() string {
	var b strings.Builder
	fmt.Fprintf(&b, "region: %s\nrun-dir: %s\nshow-fingerprints: true\n%sinstances:\n", g.rig.gatewaySocket(g.Name), filepath.Join(g.dir(), "run"), g.Options)
	for i, t := range g.Tors {
		name := "default"
		if i > 0 {
			name = t.Name
		}
		fmt.Fprintf(&b, "  - name: %s\n    control: %s\n    cookie: %s\n    state: %s\n    torrc: %s\n    include: %s\n",
			name, t.ControlSocket(), t.CookieFile(), t.StateFile(), t.Torrc(), g.IncludeFile(t))
	}
	return b.String()
}

func (r *Rig) gatewaySocket(name string) string {
	return filepath.Join(r.RunDir(), "gateways", name+".sock")
}
