package rotation

import (
	"time"

	"guardring/internal/guardstate"
)

// How much of the past recent holds. Tor answers within a second; the bound on
// the number only matters under a storm, where the next poll mends the picture.
const (
	recentFor = 30 * time.Second
	recentMax = 1024
)

// recent holds the last CIRC and STREAM events. A snapshot and the events beside
// it reach us over two ways, so an event may overtake a snapshot that was taken
// before it. After each snapshot what it cannot have known is put right:
//
//   - IDs are never used twice, so what was seen to end has ended;
//   - what was seen alive, is missing from the snapshot and was not seen to end
//     is newer than the snapshot, or its end is still on its way.
type recent struct{ events []recentEvent }

type recentEvent struct {
	at      time.Time
	circuit guardstate.Circuit // ID "" in a stream's event
	stream  guardstate.Stream
}

func (r *recent) add(e recentEvent) {
	drop := 0
	for drop < len(r.events) && (e.at.Sub(r.events[drop].at) > recentFor || len(r.events)-drop >= recentMax) {
		drop++
	}
	r.events = append(r.events[drop:], e)
}

// amend puts right what the snapshot in t cannot have known.
func (r *recent) amend(m *Machine) {
	t := &m.tor
	goneCircuits, goneStreams := map[guardstate.CircuitID]bool{}, map[string]bool{}
	for _, e := range r.events {
		switch {
		case e.circuit.ID != "" && e.circuit.Gone():
			goneCircuits[e.circuit.ID] = true
			delete(t.circuits, e.circuit.ID)
		case e.circuit.ID == "" && e.stream.Gone():
			goneStreams[e.stream.ID] = true
			delete(t.streams, e.stream.ID)
			delete(t.waiting, e.stream.ID)
		}
	}
	for _, e := range r.events {
		if m.now.Sub(e.at) > recentFor {
			continue
		}
		if id := e.circuit.ID; id != "" {
			if _, there := t.circuits[id]; !there && !goneCircuits[id] {
				t.circuits[id] = e.circuit
			}
			continue
		}
		if _, there := t.streams[e.stream.ID]; !there && !goneStreams[e.stream.ID] {
			m.stream(e.stream)
		}
	}
}
