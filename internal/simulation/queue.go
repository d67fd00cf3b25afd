package simulation

import (
	"container/heap"
	"time"
)

// kind says what happens.
type kind uint8

const (
	relayDown kind = iota
	relayUnlisted
	relayUp
	relayListed
	relayGone
	gatewayOn
	gatewayOff
	guardAges  // a guard's lifetime in a sample ends
	orderComes // an agent obeys the order in its seat
	gateLimit  // an agent waits at its join gate no longer
	probe      // the hostile gateway asks anew
	tick
)

// event is something that happens to relay or gateway who.
type event struct {
	at   time.Duration // since the start
	n    uint64        // order of those at the same time
	kind kind
	who  int
	mark int // the gateway's session; an event of an earlier one is void
}

// queue gives out events in the order of time.
type queue struct {
	events []event
	n      uint64
}

func (q *queue) Len() int           { return len(q.events) }
func (q *queue) Swap(i, j int)      { q.events[i], q.events[j] = q.events[j], q.events[i] }
func (q *queue) Push(x any)         { q.events = append(q.events, x.(event)) }
func (q *queue) Less(i, j int) bool { return before(q.events[i], q.events[j]) }

// Pop is for container/heap.
func (q *queue) Pop() any {
	e := q.events[len(q.events)-1]
	q.events = q.events[:len(q.events)-1]
	return e
}

func before(a, b event) bool {
	if a.at != b.at {
		return a.at < b.at
	}
	return a.n < b.n
}

func (q *queue) add(e event) {
	q.n++
	e.n = q.n
	heap.Push(q, e)
}

func (q *queue) next() event { return heap.Pop(q).(event) }
