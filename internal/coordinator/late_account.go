package coordinator

import (
	"cmp"
	"slices"
	"time"
)

// joinAccount leaves the member the emptier of its accounts. forgotten: it was, and what
// it may spend is its new account's.
func (t *tardy) joinAccount(c *Coordinator, forgotten bool) {
	m := t.m
	if t.account == nil || forgotten {
		return
	}
	own := m.account
	m.account = t.account.emptier(own, &c.cfg.Budgets)
	if own != nil {
		// Owed is what the orders took that stand now, and what has come in their place.
		m.account.Owed = min(max(own.Owed+t.kept-t.news, 0), c.cfg.MaxClaims)
	}
}

// emptier returns the account that at every time allows no more than either of the two
// does. A nil one says nothing.
func (a *Account) emptier(o *Account, b *Budgets) *Account {
	switch {
	case a == nil && o == nil:
		return nil
	case a == nil:
		return o.clone()
	case o == nil:
		return a.clone()
	}
	return &Account{
		NewClaims:     a.NewClaims.emptier(o.NewClaims, b.NewClaims),
		SampleChanges: a.SampleChanges.emptier(o.SampleChanges, b.SampleChanges),
		ForcedUnused:  a.ForcedUnused.emptier(o.ForcedUnused, b.ForcedUnused),
		ForcedUsed:    a.ForcedUsed.emptier(o.ForcedUsed, b.ForcedUsed),
		Used:          later(a.Used, o.Used),
		Caused:        laterCauses(a.Caused, o.Caused),
		Owed:          min(a.Owed, o.Owed),
	}
}

// emptier returns the bucket that is full later: all of one budget fill equally fast, so
// it never has more than the other one.
func (k Bucket) emptier(o Bucket, b Budget) Bucket {
	full := func(k Bucket) time.Time {
		if k.Left >= b.Burst {
			return time.Time{}
		}
		return k.Since.Add(time.Duration(b.Burst-k.Left) * b.Every)
	}
	if cmp.Or(full(o).Compare(full(k)), cmp.Compare(k.Left, o.Left), k.Since.Compare(o.Since)) <= 0 {
		return k
	}
	return o
}

// later returns as many times as the longer list has: counted from the end, of each two
// the later one. So within no time up to now are there fewer than in either.
func later(a, b []time.Time) []time.Time {
	a, b = slices.SortedFunc(slices.Values(a), time.Time.Compare), slices.SortedFunc(slices.Values(b), time.Time.Compare)
	if len(a) < len(b) {
		a, b = b, a
	}
	for i, t := range b {
		j := len(a) - len(b) + i
		a[j] = latest(a[j], t)
	}
	return a
}

// laterCauses is later for each gateway.
func laterCauses(a, b []Cause) (all []Cause) {
	of := func(causes []Cause, gateway string) (at []time.Time) {
		for _, x := range causes {
			if x.Gateway == gateway {
				at = append(at, x.At)
			}
		}
		return at
	}
	var gateways []string
	for _, x := range slices.Concat(a, b) {
		if !slices.Contains(gateways, x.Gateway) {
			gateways = append(gateways, x.Gateway)
		}
	}
	for _, g := range gateways {
		for _, t := range later(of(a, g), of(b, g)) {
			all = append(all, Cause{g, t})
		}
	}
	slices.SortFunc(all, func(x, y Cause) int { return cmp.Or(x.At.Compare(y.At), cmp.Compare(x.Gateway, y.Gateway)) })
	return all
}
