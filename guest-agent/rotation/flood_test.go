package rotation

import (
	"fmt"
	"testing"

	"guardring/internal/guardstate"
)

// TestFloodIsForgotten: a control port that tells of circuits, streams and guards
// without end does not fill the memory that the agent shares with the other Tors.
func TestFloodIsForgotten(t *testing.T) {
	m, err := New(Config{Member: "default"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxSeen + 5000 {
		id := fmt.Sprint(i)
		for _, e := range []Event{
			CircuitChanged{Circuit: guardstate.Circuit{ID: guardstate.CircuitID(id), Status: "BUILT", Path: []guardstate.Fingerprint{guard(0)}}},
			StreamChanged{Stream: guardstate.Stream{ID: id, Status: "NEW"}},
			StreamChanged{Stream: guardstate.Stream{ID: "s" + id, Status: "SUCCEEDED", Circuit: "1"}},
			GuardChanged{Fingerprint: guardstate.Fingerprint{byte(i), byte(i >> 8), byte(i >> 16)}, Status: "DOWN"},
		} {
			m.now = m.now.Add(1)
			m.observe(e)
		}
	}
	tor := &m.tor
	if len(tor.circuits) > maxSeen || len(tor.streams) > maxSeen || len(tor.waiting) > maxSeen || len(tor.down) > maxSeen {
		t.Errorf("%d circuits, %d streams, %d that wait, %d guards that are down", len(tor.circuits), len(tor.streams), len(tor.waiting), len(tor.down))
	}
	if len(tor.circuits) == 0 || len(tor.streams) == 0 {
		t.Error("nothing was kept")
	}
}
