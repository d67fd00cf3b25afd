package server

import (
	"maps"
	"slices"
	"time"
)

// summaryPeriod is the least time between two log lines about one kind of event
// at one gateway: clients cause the events, and must not write our log.
const summaryPeriod = time.Minute

// tally counts events by kind and says when to log them. It has no clock.
type tally map[string]*count

type count struct {
	total   uint64
	last    time.Time
	begun   time.Time // the minute that recent counts in
	recent  uint64
	unsaid  uint64 // since the last log line
	nextLog time.Time
}

// add counts one event; n is how many of them the log is to be told of now, 0
// for none.
func (t tally) add(kind string, now time.Time) (n uint64) {
	c := t[kind]
	if c == nil {
		c = &count{}
		t[kind] = c
	}
	c.total++
	c.last = now
	if now.Sub(c.begun) >= troubleTime {
		c.begun, c.recent = now, 0
	}
	c.recent++
	c.unsaid++
	return c.due(now)
}

func (c *count) due(now time.Time) (n uint64) {
	if c.unsaid == 0 || now.Before(c.nextLog) {
		return 0
	}
	n, c.unsaid = c.unsaid, 0
	c.nextLog = now.Add(summaryPeriod)
	return n
}

// overdue calls say for each kind with events that the log was not told of.
func (t tally) overdue(now time.Time, say func(kind string, n uint64)) {
	for _, kind := range slices.Sorted(maps.Keys(t)) {
		if n := t[kind].due(now); n > 0 {
			say(kind, n)
		}
	}
}

// troubles returns what went wrong in the last minute: events that an honest
// gateway does not cause, and others if there were too many of them.
func (t tally) troubles(now time.Time) (all []Trouble) {
	for _, kind := range slices.Sorted(maps.Keys(t)) {
		c := t[kind]
		if now.Sub(c.last) < troubleTime && c.recent > ordinary[kind] {
			all = append(all, Trouble{What: kind, Times: c.total, Last: c.last})
		}
	}
	return all
}

// troubleTime is how long a trouble is told after it last happened.
const troubleTime = time.Minute

// ordinary are the kinds of events that happen in every gateway's life, and how
// often each may in a minute: a host that starts and kills a gateway's machine
// once a second; successors that come while their predecessor still ends.
var ordinary = map[string]uint64{
	eventSeatTaken: 60, eventSeatFree: 60, eventDisconnected + string(endClosed): 60,
	eventSeatTakenAgain: 10, string(refusedTaken): 10,
}

// totals returns the counts for the status document.
func (t tally) totals() map[string]uint64 {
	m := make(map[string]uint64, len(t))
	for kind, c := range t {
		m[kind] = c.total
	}
	return m
}
