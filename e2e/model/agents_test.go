//go:build e2e

package model

import (
	"testing"

	"guardring/e2e/binaries"
)

// agentFaults are rules of the guest agent's core taken out, and what the simulation with
// real agents must say.
var agentFaults = []fault{
	{binaries.Fault{Name: "a lower order counts", File: "guest-agent/rotation/apply.go",
		Rule: "if m.order != nil && e.Order.Compare(&m.order.Order) <= 0 {", Instead: "if m.order != nil && false {"},
		"takes back a guard|not answered with applied|has not answered its order"},
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
		"not answered with applied|has not done its order"},
	{binaries.Fault{Name: "an old answer counts", File: "guest-agent/rotation/apply.go",
		Rule: "return m.asked[q] == 0 && !m.wanted[q] && !m.retry[q] && m.answer[q] != 0", Instead: "return true || m.asked[q] == 0"},
		"streams wait at a gate"},
	{binaries.Fault{Name: "a relay that moves is lost", File: "guest-agent/rotation/include.go",
		Rule: "if !slices.ContainsFunc(addrs, func(a netip.AddrPort) bool { return !covered(a) }) {", Instead: "if len(x.addrs) > 0 || !slices.ContainsFunc(addrs, func(a netip.AddrPort) bool { return !covered(a) }) {"},
		"not answered with applied|may be used|has not done its order"},
	{binaries.Fault{Name: "what waits at a gate is forgotten after a HUP", File: "guest-agent/rotation/gate.go",
		Rule: "case note.state == noteClosed && m.leaving:", Instead: "case note.state == noteClosed && g.option && m.leaving:"},
		"streams wait at a gate"},
	{binaries.Fault{Name: "a receipt does not say for what", File: "guest-agent/rotation/apply.go",
		Rule: "Digest: m.order.Digest,", Instead: "Digest: [16]byte{1},"},
		"an order that it never saw"},
	{binaries.Fault{Name: "applied is said while circuits are left", File: "guest-agent/rotation/apply.go",
		Rule: "case used[f]:", Instead: "case used[f] && false:"},
		"says applied, and a circuit goes through"},
	{binaries.Fault{Name: "streams are cut", File: "guest-agent/rotation/circuits.go",
		Rule: "m.askClose(id, !m.cfg.Cut)", Instead: "m.askClose(id, false)"},
		"cuts a stream"},
	{binaries.Fault{Name: "streams are not cut although they are to be", File: "guest-agent/rotation/circuits.go",
		Rule: "case m.cfg.Cut || !m.busy(c):", Instead: "case !m.busy(c):"},
		"has not done its order|not answered with applied"},
	{binaries.Fault{Name: "leave lifts nothing", File: "guest-agent/rotation/apply.go",
		Rule: "if m.put(nil) {", Instead: "if m.put(m.ex) {"},
		"has left, and Tor has"},
	{binaries.Fault{Name: "another controller is not noticed", File: "guest-agent/rotation/observe.go",
		Rule: "m.want(QueryConfig, QueryEntryGuards)\n", Instead: "m.want(QueryEntryGuards)\n"},
		"says applied, and a guard may be used"},
	{binaries.Fault{Name: "applied stays said when another controller is noticed", File: "guest-agent/rotation/observe.go",
		Rule: "if m.receipt.Status == shmproto.ReceiptApplied && !m.same", Instead: "if false && !m.same"},
		"says applied, and the guard .* may be used"},
	{binaries.Fault{Name: "the gate's note is written over what the file may hold", File: "guest-agent/rotation/gatechange.go",
		Rule: "noteOpening && t.confRead && !g", Instead: "noteOpening && !g"},
		"takes an exclusion out of the file"},
	{binaries.Fault{Name: "the packet filter drops before Tor is told", File: "guest-agent/rotation/enforce.go",
		Rule: "m.change.id == 0:\n\t\treturn m.ex, true\n", Instead: "m.change.id == 0:\n\t\treturn m.ex, true\n\tcase true:\n\t\treturn m.change.ex, true\n"},
		"packet filter drop a guard that Tor may use"},
	{binaries.Fault{Name: "the packet filter lets go after Tor is told", File: "guest-agent/rotation/enforce.go",
		Rule: "case m.change.kind != changeOption || m.change.id == 0:", Instead: "case true:"},
		"tells Tor to use a guard that the packet filter drops"},
	{binaries.Fault{Name: "who has left is given what is late", File: "internal/coordinator/late.go",
		Rule: "if m == nil || m.gone || l.ended[t.name] {", Instead: "if m == nil {"},
		"is gone and has claims"},
	{binaries.Fault{Name: "a new consensus is not looked at", File: "guest-agent/rotation/observe.go",
		Rule: "m.want(QueryConsensus, QueryRelays, QueryEntryGuards)", Instead: "m.want(QueryConsensus)"},
		"says applied, and a guard may be used"},
}

// TestAgentFaults: without any one of these rules, the simulation with the real cores of
// agents and coordinators finds a schedule that breaks an invariant.
func TestAgentFaults(t *testing.T) { breakEach(t, agentFaults, "TestAgents", "-lives") }

// TestAgentSchedules is that simulation with no rule taken out.
func TestAgentSchedules(t *testing.T) { holds(t, "TestAgents", "-lives") }
