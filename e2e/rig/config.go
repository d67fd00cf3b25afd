package rig

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// AtOnce has guards moved without delay, and as many as need be: for scenarios that are about something else than delay and budgets.
const AtOnce = `delay: {least: 0s, most: 0s}
budgets:
  new-claims: {burst: unlimited}
  sample-changes: {burst: unlimited}
  forced-unused: {burst: unlimited}
  forced-used: {burst: unlimited}
  forced-used-per-year: unlimited
  caused: {most: unlimited}
`

// config is the host's configuration file. The heartbeat is short, so that a standby takes over within a second.
func (r *Rig) config() string {
	var b strings.Builder
	fmt.Fprintf(&b, "run-dir: %s\nledger-dir: %s\npolicy: %s\nheartbeat: %s\nrescan: 1s\nshow-fingerprints: true\n",
		r.RunDir(), r.LedgerDir(), r.Policy, cmp.Or(r.Heartbeat, 200*time.Millisecond))
	b.WriteString(cmp.Or(r.Protection, AtOnce))
	if r.DescriptorStore {
		b.WriteString("descriptor-store: true\n")
	}
	b.WriteString(r.Options)
	if len(r.Gateways) > 0 { // else they come from files, or the key would have no value
		b.WriteString("gateways:\n")
	}
	for _, g := range r.Gateways {
		fmt.Fprintf(&b, "  - name: %s\n", g.Name)
	}
	return b.String()
}

// config is a guest's configuration file.
func (g *Gateway) config() string {
	var b strings.Builder
	options := g.Options
	if !strings.Contains(options, "join-gate:") { // most scenarios are not about it, and some have no host that would answer
		options += "join-gate: off\n"
	}
	fmt.Fprintf(&b, "region: %s\nrun-dir: %s\nshow-fingerprints: true\n%s", g.Socket(), filepath.Join(g.dir(), "run"), options)
	if len(g.Tors) > 0 { // else the agent looks for them
		b.WriteString("instances:\n")
	}
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

// StatusSocket is where the gateway's agent is asked for its status.
func (g *Gateway) StatusSocket() string { return filepath.Join(g.dir(), "run", "status.sock") }

// Socket is the server's socket where the gateway's guest seat is taken.
func (g *Gateway) Socket() string {
	return filepath.Join(g.rig.RunDir(), "gateways", g.Name+".sock")
}
