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

// totals returns the counts for the status document.
func (t tally) totals() map[string]uint64 {
	m := make(map[string]uint64, len(t))
	for kind, c := range t {
		m[kind] = c.total
	}
	return m
}
