//go:build e2e

package model

import (
	"regexp"
	"strings"
	"testing"

	"guardring/e2e/binaries"
)

// agentFaults are rules of the guest agent's core taken out, and what the simulation with
// real agents must say.
var agentFaults = []fault{
	{binaries.Fault{Name: "a lower order counts", File: "guest-agent/rotation/apply.go",
		Rule: "if m.order != nil && e.Order.Compare(&m.order.Order) <= 0 {", Instead: "if m.order != nil && false {"},
		"takes back a guard|not answered with applied"},
	{binaries.Fault{Name: "the file does not wait for Tor", File: "guest-agent/rotation/apply.go",
		Rule: "m.setOption(lines, ex)\n\t\treturn false", Instead: "m.setOption(lines, ex)"},
		"another change is not answered"},
	{binaries.Fault{Name: "several changes at a time", File: "guest-agent/rotation/apply.go",
		Rule: "if m.change.id != 0 {\n\t\treturn // one change", Instead: "if false {\n\t\treturn // one change"},
		"another change is not answered"},
	{binaries.Fault{Name: "what the file holds is lifted at a restart", File: "guest-agent/rotation/target.go",
		Rule: "return m.resolve(m.held()), shmproto.ReasonNone, true // hold", Instead: "return nil, shmproto.ReasonNone, true // hold"},
		"nobody has lifted"},
	{binaries.Fault{Name: "circuits stay", File: "guest-agent/rotation/apply.go",
		Rule: "\tm.closeCircuits(ex)\n", Instead: "\t_ = m.closeCircuits\n"},
		"not answered with applied"},
	{binaries.Fault{Name: "an old answer counts", File: "guest-agent/rotation/apply.go",
		Rule: "return m.asked[q] == 0 && !m.wanted[q] && !m.retry[q] && m.answer[q] != 0", Instead: "return true || m.asked[q] == 0"},
		"streams wait at a gate"},
	{binaries.Fault{Name: "a relay that moves is lost", File: "guest-agent/rotation/include.go",
		Rule: "if !slices.ContainsFunc(addrs, func(a netip.AddrPort) bool { return !covered(a) }) {", Instead: "if len(x.addrs) > 0 || !slices.ContainsFunc(addrs, func(a netip.AddrPort) bool { return !covered(a) }) {"},
		"not answered with applied|a relay may be used"},
	{binaries.Fault{Name: "what waits at a gate is forgotten after a HUP", File: "guest-agent/rotation/gate.go",
		Rule: "case note.state == noteClosed && m.leaving:", Instead: "case note.state == noteClosed && g.option && m.leaving:"},
		"streams wait at a gate"},
	{binaries.Fault{Name: "a receipt does not say for what", File: "guest-agent/rotation/apply.go",
		Rule: "Digest: m.order.Digest,", Instead: "Digest: [16]byte{1},"},
		"an order that it never saw"},
}

// TestAgentFaults: without any one of these rules, the simulation with the real cores of
// agents and coordinators finds a schedule that breaks an invariant.
func TestAgentFaults(t *testing.T) {
	for _, f := range agentFaults {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			list, err := f.Overlay(root, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			out := simulate(t, list, "TestAgents", "-lives", "4000")
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

// TestAgentSchedules is that simulation with no rule taken out.
func TestAgentSchedules(t *testing.T) {
	out := simulate(t, "", "TestAgents", "-lives", "10000")
	if !regexp.MustCompile(`(?m)^--- PASS: TestAgents `).MatchString(out) {
		t.Fatal(tail(out, 40))
	}
	t.Log(tail(out, 8))
}
