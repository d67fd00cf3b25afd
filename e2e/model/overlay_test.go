//go:build e2e

package model

import (
	"testing"

	"guardring/e2e/binaries"
)

// faults are rules of the coordinator's core, its election and the region taken out, and
// what the simulation of coordinators must say.
var faults = []fault{
	{binaries.Fault{Name: "an exclusion forgets in whose favour it is", File: "internal/coordinator/conflict.go",
		Rule: "spared := x != nil && x.For == v.m.name", Instead: "spared := x != nil && false"},
		"in favour of|although both would move"},
	{binaries.Fault{Name: "the earlier stamp does not stay", File: "internal/coordinator/conflict.go",
		Rule: "first := v.mine.stamp.Counter < cl.stamp.Counter", Instead: "first := false"},
		"the incumbent was moved"},
	{binaries.Fault{Name: "an exclusion ends before its hold is over", File: "internal/coordinator/orders.go",
		Rule: "if over := x.Since.Add(c.cfg.Hold); c.now.Before(over) {", Instead: "if over := x.Since.Add(c.cfg.Hold); over.IsZero() {"},
		"take a guard back within its hold|lifted within its hold"},
	{binaries.Fault{Name: "conflicts are noted, and nobody is moved", File: "internal/coordinator/plan.go",
		Rule: "if open == 0 && !moving {", Instead: "if !moving {"},
		"although both would move"},
	{binaries.Fault{Name: "a coordinator that takes over does not write the orders", File: "internal/coordinator/publish.go",
		Rule: "if arrived {\n\t\t// The seat's word", Instead: "if false {\n\t\t// The seat's word"},
		"does not obey its order at the end"},
	{binaries.Fault{Name: "a seat's term falls at a restart", File: "internal/coordinator/election/machine.go",
		Rule: "{ m.own.Term = max(m.own.Term, m.highest) }", Instead: "{}"},
		"lowers its term|fence of host seat . falls"},
	{binaries.Fault{Name: "a coordinator goes on with its own seat's last term, and no more", File: "internal/coordinator/election/machine.go",
		Rule: "{ m.own.Term = max(m.own.Term, m.highest) }", Instead: "{ m.own.Term = max(m.own.Term, m.cfg.Own.Term) }"},
		"fence of host seat . falls"},
	{binaries.Fault{Name: "a higher lease deposes nobody", File: "internal/coordinator/election/machine.go",
		Rule: "return m.other.Term > max(m.own.Term, m.claim)", Instead: "return false"},
		"both coordinators act at the end|take a guard back|does not know|obeys an order|does not obey|lifted within its hold"},
	{binaries.Fault{Name: "the lower term counts", File: "shmproto/order.go",
		Rule: "return compare(o.Term, p.Term)", Instead: "return compare(p.Term, o.Term)"},
		"does not obey its order at the end|obeys an order of term"},
	{binaries.Fault{Name: "a record's checksum is not looked at", File: "shmproto/cell.go",
		Rule: "if le.Uint64(record[recordChecksumOff:]) != checksum(record[recordVersionOff:]) {", Instead: "if false {"},
		"nobody published|decode"},
	{binaries.Fault{Name: "only the version tells of a new publication", File: "shmproto/host.go",
		Rule: "return v*0x9e3779b97f4a7c15 + load(c.mem, c.bufferOff(v)+recordChecksumOff)", Instead: "return v"},
		"nobody was told"},
	{binaries.Fault{Name: "nobody is passed over", File: "shmproto/lock.go",
		Rule: "if l.state != lockCompeting || b.Slot < 0 ||", Instead: "if true || b.Slot < 0 ||"},
		"at the end"},
}

// TestFaults: without any one of these rules, the simulation of package coordinator
// finds a schedule that breaks an invariant.
func TestFaults(t *testing.T) { breakEach(t, faults, "TestFailover", "-schedules") }

// TestSchedules is the simulation itself, with no rule taken out.
func TestSchedules(t *testing.T) { holds(t, "TestFailover", "-schedules") }
