package rotation

import (
	"slices"
	"strings"
	"testing"
	"time"

	"guardring/internal/guardstate"
)

// excludedWithStream is an agent that has excluded guard 0 while a stream ran
// through it on circuit 1, with the snapshot that shows both.
func excludedWithStream(t *testing.T) (*agent, Circuits) {
	t.Helper()
	a := newAgent(newFakeTor(8), Config{})
	a.tor.addCircuit("1", guard(0), "GENERAL", "")
	a.tor.streams["s"] = "1"
	a.up()
	a.order(1, guard(0))
	a.sleep(time.Second)
	if got := receiptName(a.last.Receipt); got != "pending: still in use" {
		t.Fatalf("receipt %s", got)
	}
	return a, a.tor.query(Query{What: QueryCircuits}).(Circuits)
}

// A snapshot of circuits and the events beside it come to us over two ways. A
// stream's end that overtakes a snapshot taken before it must not be forgotten,
// or its circuit is taken for busy until the next poll.
func TestEndOvertakesSnapshot(t *testing.T) {
	a, old := excludedWithStream(t)
	before := len(a.log)
	delete(a.tor.streams, "s")
	a.tor.dumb = true // the circuit stays: what we ask is looked at, not what becomes of it
	a.step(StreamChanged{Stream: guardstate.Stream{ID: "s", Status: "CLOSED", Circuit: "1"}})
	a.step(old)
	if !slices.ContainsFunc(a.log[before:], func(s string) bool { return strings.HasPrefix(s, "close-circuit ") && strings.Contains(s, " 1 ") }) {
		t.Errorf("the circuit without streams is not closed:\n%s", strings.Join(a.log[before:], "\n"))
	}
	if a.m.busy(a.m.tor.circuits["1"]) {
		t.Error("a stream that has ended keeps its circuit busy")
	}
}

// The same the other way round: a circuit that was built after the snapshot was
// taken must not be forgotten, or the order counts as applied too early.
func TestBirthOvertakesSnapshot(t *testing.T) {
	a, old := excludedWithStream(t)
	a.tor.dumb = true
	a.tor.addCircuit("2", guard(0), "GENERAL", "")
	a.step(CircuitChanged{Circuit: a.tor.circ["2"]})
	a.step(old)
	if _, there := a.m.tor.circuits["2"]; !there {
		t.Error("a circuit that is newer than the snapshot is forgotten")
	}
	// Long afterwards a snapshot without it is believed: its end may have been lost.
	a.now = a.now.Add(recentFor + time.Second)
	delete(a.tor.circ, "2")
	a.step(old)
	if _, there := a.m.tor.circuits["2"]; there {
		t.Error("an old event is believed more than a new snapshot")
	}
}
