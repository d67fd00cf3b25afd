package coordinator

import (
	"errors"
	"slices"
	"time"
)

// Account is what a member has left of its budgets, and what it spent. It is
// durable, and as long as the member is known there is no other: who leaves and
// returns goes on with what it had.
type Account struct {
	NewClaims     Bucket `json:"new_claims"`
	SampleChanges Bucket `json:"sample_changes"`
	ForcedUnused  Bucket `json:"forced_unused"`
	ForcedUsed    Bucket `json:"forced_used"`
	// Used is when the member was told to give up a used guard, within the last year.
	Used []time.Time `json:"used,omitempty"`
	// Caused are its changes because of other gateways, at levels above the relay.
	Caused []Cause `json:"caused,omitempty"`
	// Owed is how many guards our orders took from it that it has not replaced
	// yet: as many new claims are free.
	Owed int `json:"owed,omitempty"`
}

// Cause is one forced change at a level above the relay.
type Cause struct {
	Gateway string    `json:"gateway"` // whose claim it was made for
	At      time.Time `json:"at"`
}

const year = 365 * day

// budgetNames are all budgets that have an account, in the order of status.
var budgetNames = [...]BudgetName{BudgetNewClaims, BudgetSampleChanges, BudgetForcedUnused, BudgetForcedUsed, BudgetCaused}

// forcedBudgets are those of what the member is told to give up.
var forcedBudgets = [...]BudgetName{BudgetForcedUnused, BudgetForcedUsed, BudgetCaused}

// shortage is what an empty budget keeps from being done.
type shortage struct {
	waiting int
	told    bool // the operator was
}

// short returns m's shortage of the budget.
func (m *member) short(n BudgetName) *shortage {
	return &m.shortages[slices.Index(budgetNames[:], n)]
}

// open gives m its account, with what it may spend at join.
func (c *Coordinator) open(m *member) {
	b := &c.cfg.Budgets
	if m.account != nil || b.NewClaims.unlimited() && b.SampleChanges.unlimited() && b.ForcedUnused.unlimited() &&
		b.ForcedUsed.unlimited() && b.ForcedUsedPerYear < 0 && b.CausedMost < 0 {
		return
	}
	start := func(b Budget, extra int) Bucket {
		k := Bucket{Left: b.Join + extra}
		if k.Left < b.Burst {
			k.Since = c.now
		}
		return k
	}
	m.account = &Account{
		NewClaims: start(b.NewClaims, 0),
		// The first sample is bought like any other guards, so it can be a little larger.
		SampleChanges: start(b.SampleChanges, max(b.SampleChanges.Burst, 0)),
		ForcedUnused:  start(b.ForcedUnused, 0),
		ForcedUsed:    start(b.ForcedUsed, 0),
	}
	m.sampled = true
	c.saveAccount(m)
}

// saveAccount makes m's account durable. What is decided by it is saved later in
// the same step, so a step that is durable in part has spent rather too much.
func (c *Coordinator) saveAccount(m *member) {
	r := Record{Kind: RecordBudget, Gateway: m.name.Gateway, Instance: m.name.Instance, Account: m.account.clone()}
	for i := range c.ready.Save {
		if s := &c.ready.Save[i]; s.Kind == RecordBudget && s.member() == m.name {
			s.Account = r.Account
			return
		}
	}
	c.save(r)
}

func (a *Account) clone() *Account {
	b := *a
	b.Used, b.Caused = slices.Clone(a.Used), slices.Clone(a.Caused)
	return &b
}

// maxSpent bounds the lists of a record: more is no account of ours.
const maxSpent = 1 << 16

// accounted checks an account.
func (r *Record) accounted() error {
	a := r.Account
	if a == nil {
		return errors.New("no account")
	}
	for _, k := range []Bucket{a.NewClaims, a.SampleChanges, a.ForcedUnused, a.ForcedUsed} {
		if k.Left < 0 {
			return errors.New("a budget below zero")
		}
	}
	if a.Owed < 0 || len(a.Used) > maxSpent || len(a.Caused) > maxSpent {
		return errors.New("an account that cannot be")
	}
	return nil
}

func (m *member) applyAccount(r *Record) error {
	if err := r.accounted(); err != nil {
		return err
	}
	m.account = r.Account.clone()
	return nil
}

// budget returns the state and the limit of a budget that is a bucket.
func (c *Coordinator) budget(m *member, n BudgetName) (*Bucket, Budget) {
	switch n {
	case BudgetNewClaims:
		return &m.account.NewClaims, c.cfg.Budgets.NewClaims
	case BudgetSampleChanges:
		return &m.account.SampleChanges, c.cfg.Budgets.SampleChanges
	case BudgetForcedUnused:
		return &m.account.ForcedUnused, c.cfg.Budgets.ForcedUnused
	case BudgetForcedUsed:
		return &m.account.ForcedUsed, c.cfg.Budgets.ForcedUsed
	}
	panic("coordinator: " + string(n) + " is not a bucket")
}

// unlimited stands for what is left where there is no limit.
const unlimited = int(^uint(0) >> 1)

// left returns how many tokens of the budget m has, and when there will be more.
func (c *Coordinator) left(m *member, n BudgetName) (left int, next time.Time) {
	if m.account == nil {
		return unlimited, time.Time{}
	}
	left = unlimited
	if k, b := c.budget(m, n); !b.unlimited() {
		left, next = k.filled(b, c.now).Left, k.next(b, c.now)
	}
	if most := c.cfg.Budgets.ForcedUsedPerYear; n == BudgetForcedUsed && most >= 0 {
		// Within any year, not on the average of years: so the times are kept.
		spent := m.account.Used
		for len(spent) > 0 && !c.now.Before(spent[0].Add(year)) {
			spent = spent[1:]
		}
		if rest := max(most-len(spent), 0); rest < left {
			left = rest
			if rest == 0 && len(spent) > 0 {
				if again := spent[max(len(spent)-most, 0)].Add(year); next.Before(again) {
					next = again
				}
			}
		}
	}
	return left, next
}

// pay takes a token of the budget from m, if there is one or none is needed.
func (c *Coordinator) pay(m *member, n BudgetName) bool {
	if m.account == nil || c.gratis == m {
		return true
	}
	k, b := c.budget(m, n)
	if !b.unlimited() {
		if !k.take(b, c.now) {
			return false
		}
		c.saveAccount(m)
	}
	return true
}

// lacks notes how much an empty budget keeps from being done for m. The operator
// is told once, until nothing waits any more.
func (c *Coordinator) lacks(m *member, n BudgetName, waiting int, due time.Time) {
	s := m.short(n)
	s.waiting = waiting
	if waiting == 0 {
		s.told = false
		return
	}
	if !due.IsZero() {
		c.schedule(due)
	}
	if !s.told {
		s.told = true
		c.notify(Notice{Kind: NoticeExhausted, Member: m.name, Budget: n, Count: waiting, Due: due})
	}
}

// refill does what waited for a token.
func (c *Coordinator) refill(m *member) {
	if !m.shown() {
		return
	}
	// Room may have become free at another member of its gateway.
	again := m.excess > 0 && len(m.claims) < c.cfg.MaxClaims && !c.gatewayFull(m.name.Gateway)
	for _, n := range [...]BudgetName{BudgetNewClaims, BudgetSampleChanges} {
		if m.short(n).waiting == 0 {
			continue
		}
		if left, next := c.left(m, n); left > 0 {
			again = true
		} else if !next.IsZero() {
			c.schedule(next)
		}
	}
	if again {
		c.admitMore(m)
	}
	for _, n := range forcedBudgets {
		if m.short(n).waiting > 0 {
			c.touch(m) // plan looks at the budgets, and schedules
		}
	}
}

// admitMore looks again at guards that found no token.
func (c *Coordinator) admitMore(m *member) {
	c.reveal(m)
	c.restate(m)
	c.reclaim(m)
	c.touch(m)
}

// allowed: the operator lets members of a gateway spend more than they have, for
// what waits now. Guards and claims come in at once. A forced change is marked,
// because a used guard is moved only when its delay is over.
func (c *Coordinator) allowed(e Allowed) {
	for _, m := range c.membersOf(e.Gateway) {
		if e.Instance != "" && e.Instance != m.name.Instance {
			continue
		}
		n := Notice{Kind: NoticeAllowed, Member: m.name}
		for i := range m.shortages {
			n.Count += m.shortages[i].waiting
		}
		c.notify(n)
		for _, cl := range m.claims {
			if cl.unpaid() {
				cl.allowed = c.now
				c.saveClaim(cl)
				c.schedule(c.now.Add(allowance))
			}
		}
		if m.shown() {
			c.gratis = m
			c.admitMore(m)
			c.gratis = nil
		}
	}
}

// clockBack mends what is ahead of the clock, after the host's clock was set
// back: else a budget would not grow before the time that it was set back from.
func (c *Coordinator) clockBack() {
	c.schedule(c.now) // what was scheduled may be far ahead now
	for _, m := range c.members {
		notAfter(&m.nextTry, c.now.Add(c.cfg.RetryAfter<<c.cfg.Tries))
		if a := m.account; a != nil {
			ahead := false
			for _, k := range []*Bucket{&a.NewClaims, &a.SampleChanges, &a.ForcedUnused, &a.ForcedUsed} {
				ahead = notAfter(&k.Since, c.now) || ahead
			}
			for i := range a.Used {
				ahead = notAfter(&a.Used[i], c.now) || ahead
			}
			for i := range a.Caused {
				ahead = notAfter(&a.Caused[i].At, c.now) || ahead
			}
			if ahead {
				c.saveAccount(m)
			}
		}
		for _, cl := range m.claims {
			ahead := notAfter(&cl.allowed, c.now)
			if _, most := c.delays(); !cl.due.IsZero() && cl.due.After(c.now.Add(most)) {
				cl.due = c.draw(cl)
				ahead = true
			}
			if ahead {
				c.saveClaim(cl)
			}
		}
	}
}

// rejoin gives m what it may spend at join, for one exchange of its whole sample:
// what is shown next comes in as a new member's would.
func (c *Coordinator) rejoin(m *member) {
	if m.account == nil {
		return
	}
	used, caused, owed := m.account.Used, m.account.Caused, m.account.Owed
	forcedUnused, forcedUsed := m.account.ForcedUnused, m.account.ForcedUsed
	m.account, m.sample = nil, nil
	c.open(m)
	a := m.account
	a.Used, a.Caused, a.Owed, a.ForcedUnused, a.ForcedUsed = used, caused, owed, forcedUnused, forcedUsed
	c.saveAccount(m)
}
