package coordinator

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"

	"guardring/shmproto"
)

// allowance is how long the operator's leave for a forced change lasts.
const allowance = day

// unpaid: an empty budget keeps the claim in conflict.
func (cl *claim) unpaid() bool { return cl.blocked == ReasonBudget || cl.blocked == ReasonCaused }

// unpaid returns why budgets keep m in conflict, or "".
func (m *member) unpaid() (reason string) {
	for _, cl := range m.claims {
		if cl.unpaid() && reason != ReasonBudget {
			reason = cl.blocked
		}
	}
	return reason
}

// openConflict is a conflict that an order could and should resolve.
type openConflict struct {
	cl *claim
	o  obstacle
}

// bill decides which of m's open conflicts an order may resolve now, and returns
// how many. The others are marked with the reason: no budget is left for them, or
// their delay is not over. The strongest come first: before others those of the
// same relay, and those of guards in use.
func (c *Coordinator) bill(m *member) (payable int) {
	var open []openConflict
	for _, cl := range m.claims {
		cl.blocked = ""
		if !cl.live() || m.exclusion(cl.key) != nil {
			continue
		}
		if o := c.obstacle(m, cl.key, cl); o.strength >= retained {
			open = append(open, openConflict{cl, o})
		}
	}
	slices.SortFunc(open, func(a, b openConflict) int {
		return cmp.Or(cmp.Compare(a.o.level, b.o.level), cmp.Compare(b.o.strength, a.o.strength),
			first(a.cl.inUse, b.cl.inUse), first(a.cl.used, b.cl.used), cmp.Compare(a.cl.stamp.Counter, b.cl.stamp.Counter))
	})
	spent := map[BudgetName]int{}
	caused := map[string]int{}
	for _, x := range open {
		cl := x.cl
		n := cl.budget()
		if c.cfg.Policy == PolicyObserve {
			c.undue(cl) // what would be ordered is told at once
			payable++
			continue
		}
		if !c.isAllowed(cl) {
			left, _ := c.left(m, n)
			gateway := x.causedBy()
			rest, _ := c.causes(m, gateway)
			switch {
			case left <= spent[n]:
				c.undue(cl) // its time is drawn when it can be paid
				cl.blocked = ReasonBudget
				continue
			case gateway != "" && rest <= caused[gateway]:
				c.undue(cl)
				cl.blocked = ReasonCaused
				continue
			}
			spent[n]++
			caused[gateway]++
		}
		// At its join gate it has not sent a stream yet: better now than after.
		if cl.used && !m.pub.has(shmproto.MemberGated) && !c.isDue(cl) {
			cl.blocked = ReasonDelayed
			continue
		}
		payable++
	}
	return payable
}

// shortOfChanges notes which conflicts the budgets of forced changes leave, after
// what could be paid was paid.
func (c *Coordinator) shortOfChanges(m *member) {
	var waiting [len(forcedBudgets)]int
	var again time.Time // when another gateway may cause a change again
	for _, cl := range m.claims {
		switch cl.blocked {
		case ReasonBudget:
			waiting[slices.Index(forcedBudgets[:], cl.budget())]++
		case ReasonCaused:
			waiting[slices.Index(forcedBudgets[:], BudgetCaused)]++
			if _, next := c.causes(m, cl.noted.other.Gateway); again.IsZero() || next.Before(again) {
				again = next
			}
		}
	}
	for i, n := range forcedBudgets {
		next := again
		if n != BudgetCaused {
			_, next = c.left(m, n)
		}
		c.lacks(m, n, waiting[i], next)
	}
}

// unbilled: nothing is in conflict, or the member cannot be moved at all.
func (c *Coordinator) unbilled(m *member) {
	for _, cl := range m.claims {
		cl.blocked = ""
	}
	c.shortOfChanges(m)
}

func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// causedBy names the other gateway for which the guard would be taken at a level
// above the relay, where one gateway can reach much more than its own guards.
func (x openConflict) causedBy() string {
	if x.o.level == LevelRelay || x.o.other.name.Gateway == x.cl.m.name.Gateway {
		return ""
	}
	return x.o.other.name.Gateway
}

// budget is the one on which it goes if the member is told to give the guard up.
func (cl *claim) budget() BudgetName {
	if cl.used {
		return BudgetForcedUsed
	}
	return BudgetForcedUnused
}

// causes returns how many more changes of m the gateway may cause, and when there
// will be one more.
func (c *Coordinator) causes(m *member, gateway string) (left int, next time.Time) {
	b := &c.cfg.Budgets
	if m.account == nil || gateway == "" || b.CausedMost < 0 {
		return unlimited, time.Time{}
	}
	left = b.CausedMost
	for _, x := range m.account.Caused { // the oldest first
		if end := x.At.Add(b.CausedWithin); x.Gateway == gateway && c.now.Before(end) {
			left--
			if next.IsZero() {
				next = end
			}
		}
	}
	return max(left, 0), next
}

// leastCauses is causes for the gateway that may cause the fewest.
func (c *Coordinator) leastCauses(m *member) (left int, next time.Time) {
	left = unlimited
	if most := c.cfg.Budgets.CausedMost; most >= 0 {
		left = most
	}
	for _, x := range m.account.Caused {
		if l, n := c.causes(m, x.Gateway); l < left {
			left, next = l, n
		}
	}
	return left, next
}

// charge takes from m's budgets what an order costs: each live claim that it
// takes away. Guards that only would have come next are free.
func (c *Coordinator) charge(m *member, added []Exclusion) {
	for _, x := range added {
		cl := m.claim(x.Key)
		if cl == nil || !cl.live() {
			continue
		}
		free := c.isAllowed(cl)
		if cl.undo() {
			c.saveClaim(cl)
		}
		if m.account == nil {
			continue
		}
		b := &c.cfg.Budgets
		if !free {
			c.pay(m, cl.budget())
			if cl.used && b.ForcedUsedPerYear >= 0 {
				m.account.Used = append(slices.DeleteFunc(m.account.Used, func(t time.Time) bool { return !c.now.Before(t.Add(year)) }), c.now)
			}
			if by := x.causedBy(m); by != "" && b.CausedMost >= 0 {
				m.account.Caused = append(slices.DeleteFunc(m.account.Caused, func(o Cause) bool { return !c.now.Before(o.At.Add(b.CausedWithin)) }), Cause{by, c.now})
			}
		}
		if !b.NewClaims.unlimited() && m.account.Owed < c.cfg.MaxClaims {
			m.account.Owed++
		}
		c.saveAccount(m)
	}
}

// causedBy is openConflict.causedBy for the order that came of it.
func (x Exclusion) causedBy(m *member) string {
	if x.Level <= LevelRelay || x.For.Gateway == m.name.Gateway {
		return ""
	}
	return x.For.Gateway
}

// undo forgets what was decided about a conflict that is over, and reports
// whether that must be made durable.
func (cl *claim) undo() bool {
	changed := !cl.due.IsZero() || !cl.allowed.IsZero()
	cl.due, cl.allowed, cl.blocked = time.Time{}, time.Time{}, ""
	return changed
}

// undue is undo for a claim that stays.
func (c *Coordinator) undue(cl *claim) {
	if cl.undo() {
		c.saveClaim(cl)
	}
}

// isAllowed: the operator has let the change be made without charge.
func (c *Coordinator) isAllowed(cl *claim) bool {
	if cl.allowed.IsZero() {
		return false
	}
	end := cl.allowed.Add(allowance)
	if cl.due.After(cl.allowed) {
		end = cl.due.Add(allowance) // it could not be spent earlier
	}
	if c.now.Before(end) {
		c.schedule(end)
		return true
	}
	cl.allowed = time.Time{}
	c.saveClaim(cl)
	return false
}

// isDue reports whether the delay of a used guard in conflict is over. It is
// drawn once, and durable: a restart must not draw again until the time suits.
func (c *Coordinator) isDue(cl *claim) bool {
	if _, most := c.delays(); most == 0 {
		return true
	}
	if cl.due.IsZero() {
		cl.due = c.draw(cl)
		c.saveClaim(cl)
		c.notify(Notice{Kind: NoticeDelayed, Member: cl.m.name, Other: cl.noted.other, Key: cl.key, Level: cl.noted.level, Over: cl.noted.over, Stamp: cl.stamp, Due: cl.due})
	}
	if c.now.Before(cl.due) {
		c.schedule(cl.due)
		return false
	}
	return true
}

// delays returns the least and the greatest delay of a used guard.
func (c *Coordinator) delays() (least, most time.Duration) {
	return max(c.cfg.DelayMin, 0), max(c.cfg.DelayMax, 0)
}

// draw returns when a used guard in conflict is moved. No guest can foresee it,
// for the seed is the host's.
func (c *Coordinator) draw(cl *claim) time.Time {
	least, most := c.delays()
	h := sha256.New()
	h.Write(c.cfg.Seed[:])
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], cl.stamp.Counter)
	h.Write(n[:])
	h.Write(cl.key.ID[:])
	h.Write([]byte(cl.m.name.String()))
	if span := uint64(most-least) / uint64(time.Millisecond); span > 0 {
		least += time.Duration(binary.LittleEndian.Uint64(h.Sum(nil))%span) * time.Millisecond
	}
	return c.now.Add(least)
}
