package torctl

import (
	"strings"
	"sync"
)

// Resync is the name of the event that stands for all events that did not fit
// the queue: the reader has to ask Tor for the whole truth again.
const Resync = "RESYNC"

// maxQueued bounds the events that wait for their reader. A burst of circuits
// is some dozens.
const maxQueued = 512

// Event is one asynchronous event as Tor sent it (control-spec, "Asynchronous
// events").
type Event struct {
	Name  string // for instance CIRC
	Text  string // the rest of the first line
	Lines []Line // the further lines of a multi-line event (CONF_CHANGED)
}

// queue hands events from the connection's reader to the one who takes them.
// It never blocks the reader and never grows beyond maxQueued: when it is full,
// all that it holds is replaced by one Resync.
type queue struct {
	ready chan struct{} // holds a token while there is something to take

	mu     sync.Mutex
	events []Event
}

func newQueue() *queue { return &queue{ready: make(chan struct{}, 1)} }

func (q *queue) put(e Event) {
	q.mu.Lock()
	if len(q.events) >= maxQueued {
		clear(q.events)
		q.events = append(q.events[:0], Event{Name: Resync})
	} else {
		q.events = append(q.events, e)
	}
	q.mu.Unlock()
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// take returns all waiting events and forgets them.
func (q *queue) take() []Event {
	q.mu.Lock()
	defer q.mu.Unlock()
	events := q.events
	q.events = nil
	return events
}

// toEvent splits an event's first line.
func toEvent(r Reply) Event {
	name, text, _ := strings.Cut(r.Lines[0].Text, " ")
	e := Event{Name: name, Text: text}
	if len(r.Lines) > 1 {
		e.Lines = r.Lines[1:]
	}
	if r.Lines[0].Data != "" {
		e.Lines = append([]Line{{Data: r.Lines[0].Data}}, e.Lines...)
	}
	return e
}
