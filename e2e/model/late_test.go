//go:build e2e

package model

import (
	"testing"

	"guardring/e2e/binaries"
)

// lateFaults are rules by which what a stopped coordinator wrote too late is joined with
// what its successor holds, taken out, and what TestLateJoin must say.
var lateFaults = []fault{
	{binaries.Fault{Name: "a late claim keeps its number", File: "internal/coordinator/late.go",
		Rule: "\t\tc.stamp++\n\t\tcl.stamp.Counter = c.stamp\n", Instead: "\t\t_ = cl\n"},
		"claim with stamp|comes before others"},
	{binaries.Fault{Name: "a late member keeps its place", File: "internal/coordinator/late.go",
		Rule: "\t\tc.takePlace(m)\n", Instead: "\t\tm.joined = t.joined\n"},
		"have one place"},
	{binaries.Fault{Name: "late claims need no room", File: "internal/coordinator/late.go",
		Rule: "case !t.released[cl.key] && len(m.claims) < c.cfg.MaxClaims && !c.gatewayFull(t.name.Gateway):", Instead: "case true:"},
		"has [0-9]+ claims"},
	{binaries.Fault{Name: "a late order lifts", File: "internal/coordinator/late_orders.go",
		Rule: "union := slices.Clone(t.m.exclusions)", Instead: "var union []Exclusion"},
		"late record lifts an exclusion"},
	{binaries.Fault{Name: "who has left is given what is late", File: "internal/coordinator/late.go",
		Rule: "if m == nil || m.gone || l.ended[t.name] {", Instead: "if m == nil {"},
		"is gone and has claims"},
	{binaries.Fault{Name: "a late word makes a member leave", File: "internal/coordinator/late.go",
		Rule: "m.freed = latest(m.freed, t.freed)", Instead: "m.freed = latest(m.freed, t.freed)\n\tm.gone = m.gone || !t.left.IsZero()"},
		"has .* leave|is gone and has"},
	{binaries.Fault{Name: "a late release counts", File: "internal/coordinator/late.go",
		Rule: "case own != nil:", Instead: "case t.released[cl.key] && own != nil:\n\t\t\tm.claims = slices.DeleteFunc(m.claims, func(o *claim) bool { return o == own })\n\t\tcase own != nil:"},
		"takes a claim of"},
	{binaries.Fault{Name: "a guard that was left has its old place when it is late", File: "internal/coordinator/late.go",
		Rule: "\t\t\t\tlate = append(late, own)\n", Instead: "\t\t\t\tc.stamp = max(c.stamp, own.stamp.Counter)\n"},
		"claim with stamp|or its place"},
	{binaries.Fault{Name: "the late account counts", File: "internal/coordinator/late_account.go",
		Rule: "m.account = t.account.emptier(own, &c.cfg.Budgets)", Instead: "m.account = t.account.clone()"},
		"more of its budget"},
	{binaries.Fault{Name: "a number is given to another set", File: "internal/coordinator/late_orders.go",
		Rule: "m.seq = seq + 1", Instead: "m.seq = seq"},
		"after a late record"},
	{binaries.Fault{Name: "both move", File: "internal/coordinator/late_orders.go",
		Rule: "return y.For == m.name && (", Instead: "return false && ("},
		"in favour of|gave up"},
}

// TestLateFaults: without any one of these rules, three coordinators that go on from one
// ledger find histories in which a late record takes something, or wins something.
func TestLateFaults(t *testing.T) { breakEach(t, lateFaults, "TestLateJoin", "-ledgers") }
