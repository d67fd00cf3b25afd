package coordinator

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// spending is what a Judge counts of a member, apart from the core's accounts.
type spending struct {
	since        time.Time   // when the member was first known
	used, unused []time.Time // when it was told to give up a guard
	claims       int         // guards newly claimed
	free         int         // new claims that cost nothing
	pardoned     bool        // the operator has allowed more
}

// purse is what a member can have to spend when it is first seen. What our orders
// took from it before, it may still replace.
func (j *Judge) purse(c *Coordinator, m *member) spending {
	s := spending{since: j.now, free: max(c.cfg.Budgets.NewClaims.Join, c.cfg.Budgets.NewClaims.Burst)}
	if m.account != nil {
		s.free += m.account.Owed
	}
	return s
}

// spent notes what a step has cost whom, and says what was more than the budgets
// allow over any time, or earlier than was said.
func (j *Judge) spent(c *Coordinator, e Event, notices []Notice) error {
	for _, m := range c.members {
		f := j.files[m.name]
		if f == nil {
			f = j.open(c, m)
		}
		if j.back { // what was counted is in what is now the future
			f.spending = j.purse(c, m)
		}
	}
	for _, n := range notices {
		f := j.files[n.Member]
		switch {
		case f == nil:
		case n.Kind == NoticeExcluded && n.Why == WhyConflict:
			f.free++
		case n.Kind == NoticeFresh && n.Reason == "": // its free exchange
			f.free += max(c.cfg.Budgets.NewClaims.Join, c.cfg.Budgets.NewClaims.Burst)
		case n.Kind == NoticeAllowed:
			f.pardoned = true
		}
	}
	_, pardon := e.(Allowed)
	var errs []error
	for _, m := range c.members {
		errs = append(errs, j.spend(c, m, pardon))
	}
	return errors.Join(errs...)
}

// spend takes in what a step has cost m.
func (j *Judge) spend(c *Coordinator, m *member, pardon bool) error {
	f, budgets := j.files[m.name], &c.cfg.Budgets
	var errs []error
	for _, cl := range m.claims {
		if cl.stamp.Counter > j.stamp && !pardon {
			f.claims++
		}
	}
	for _, x := range m.exclusions {
		cl := m.claim(x.Key)
		if x.Why != WhyConflict || cl == nil || !cl.live() || slices.ContainsFunc(f.exclusions, func(y Exclusion) bool { return y.Key == x.Key }) {
			continue
		}
		was := f.owing[x.Key]
		if cl.used && !f.shown.gated && c.cfg.DelayMax >= 0 && (was.due.IsZero() || j.now.Before(was.due)) {
			errs = append(errs, fmt.Errorf("%s was told to give up a guard that it used before its delay was over: at %v, due %v", m.name, j.now, was.due))
		}
		switch {
		case pardon || !was.allowed.IsZero():
		case cl.used:
			f.used = append(f.used, j.now)
		default:
			f.unused = append(f.unused, j.now)
		}
	}
	errs = append(errs, within(m.name, f.used, budgets.ForcedUsed), within(m.name, f.unused, budgets.ForcedUnused))
	if n, most := len(f.used), budgets.ForcedUsedPerYear; most >= 0 && n > most && f.used[n-1].Sub(f.used[n-1-most]) < year {
		errs = append(errs, fmt.Errorf("%s was told to give up used guards at %v: more than %d in a year", m.name, f.used, most))
	}
	if b := budgets.NewClaims; !b.unlimited() && !f.pardoned && f.claims > f.free+int(j.now.Sub(f.since)/b.Every) {
		errs = append(errs, fmt.Errorf("%s made %d new claims since %v, and %d were free", m.name, f.claims, f.since, f.free))
	}
	return errors.Join(errs...)
}

// within: between any two of the times there was no more than the budget's burst and
// what grew meanwhile.
func within(m Member, at []time.Time, b Budget) error {
	if b.unlimited() || len(at) == 0 {
		return nil
	}
	last := at[len(at)-1]
	for i := range at {
		n := len(at) - i
		if most := max(b.Burst, b.Join) + int(last.Sub(at[i])/b.Every) + 1; n > most {
			return fmt.Errorf("%s: %d forced changes at %v, at most %d are allowed", m, n, at[i:], most)
		}
	}
	if b.Burst == 1 && b.Join <= 1 && len(at) > 1 && last.Sub(at[len(at)-2]) < b.Every {
		return fmt.Errorf("%s: forced changes at %v, at most one each %v is allowed", m, at, b.Every)
	}
	return nil
}
