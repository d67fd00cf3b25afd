package coordinator

import (
	"slices"
	"time"
)

// tick looks at everything that depends on time. All members are gone through
// only when something is due.
func (c *Coordinator) tick() {
	c.calmDown()
	if c.due.IsZero() || c.now.Before(c.due) {
		return
	}
	c.due = time.Time{}
	// From the back: forget takes the member out of the list.
	for i := len(c.members) - 1; i >= 0; i-- {
		c.age(c.members[i])
	}
}

// age does what has become due for m, and schedules what will.
func (c *Coordinator) age(m *member) {
	if !m.shown() && m.away.IsZero() {
		// Known from the ledger, and not heard of since the start.
		if t := c.started.Add(c.cfg.AwayAfter); c.now.Before(t) {
			c.schedule(t)
		} else {
			c.becomeAway(m)
		}
	}
	c.endRollback(m)
	c.expire(m)
	c.endHeld(m)
	c.retry(m)
	c.refill(m)
	if slices.ContainsFunc(m.claims, func(cl *claim) bool { return !cl.due.IsZero() || !cl.allowed.IsZero() }) {
		c.touch(m)
	}
	if m.stuck != "" {
		c.schedule(c.now.Add(lookAgain))
		c.touch(m)
	}
	if !m.shown() && len(m.claims) == 0 && len(m.exclusions) == 0 && c.retentionOver(m.away) {
		c.forget(m)
	}
}

// expire releases the claims whose retention is over.
func (c *Coordinator) expire(m *member) {
	room := false
	awayOver := !m.away.IsZero() && c.retentionOver(m.away)
	for j := len(m.claims) - 1; j >= 0; j-- {
		cl := m.claims[j]
		if awayOver || !cl.live() && c.retentionOver(cl.left) {
			c.release(cl)
			room = true
		}
	}
	if room && m.excess > 0 && m.shown() {
		c.reclaim(m)
		c.touch(m)
	}
}

// retentionOver reports whether the retention that began at since is over, and
// else schedules its end.
func (c *Coordinator) retentionOver(since time.Time) bool {
	if since.IsZero() {
		return false
	}
	end := since.Add(c.cfg.Retention)
	if c.now.Before(end) {
		c.schedule(end)
		return false
	}
	return true
}

// Due reports whether a Tick at that time may do anything. One that is not due
// changes nothing but the time of State, so a journal need not keep it.
func (c *Coordinator) Due(at time.Time) bool {
	return c.started.IsZero() || at.Before(c.now) || len(c.quarantined) > 0 || !c.due.IsZero() && !at.Before(c.due)
}
