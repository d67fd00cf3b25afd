package coordinator

import (
	"errors"
	"fmt"
	"time"

	"guardring/shmproto"
)

// Policy says what is done about a conflict.
type Policy string

// The policies.
const (
	// PolicyObserve: conflicts are computed, stamped and reported; nothing is
	// ordered. Orders of an earlier disjoint run stay as they are, neither grown
	// nor lifted, so that changing to observe changes no guard.
	PolicyObserve Policy = "observe"
	// PolicyDisjoint: the later holder of a duplicate is ordered to give it up.
	PolicyDisjoint Policy = "disjoint"
)

// Config holds the promises and limits of the core. A zero field means its
// default; New checks the rest.
type Config struct {
	// Epoch is the ledger's. A receipt for an order of another epoch answers
	// nothing of ours.
	Epoch shmproto.Epoch
	// Policy has no default: the operator's choice is never guessed.
	Policy Policy

	// Retention: how long a used guard that was left, and every claim of a
	// member that is away, stays claimed. Default 60 days.
	Retention time.Duration
	// Hold: how long an exclusion lasts at least. Default 120 days.
	Hold time.Duration
	// MaxClaims: claims of one member, retained ones included; what is beyond is
	// reported and does not count. It bounds what a hostile gateway can occupy.
	// Default 6.
	MaxClaims int
	// MaxGatewayClaims: claims of all members of one gateway together. Each claim
	// keeps others away from a guard, and a gateway can show as many members as it
	// likes. Default 12, the primaries of four Tors; negative: no limit.
	MaxGatewayClaims int
	// MaxExclusions: guards in one order. Default and most:
	// shmproto.MaxExclusions.
	MaxExclusions int
	// Levels are compared besides the relay itself, which always is.
	// Default DefaultLevels.
	Levels Levels
	// Groups are sets of relays that the operator knows to be in one hand. Each
	// counts as a family; no gateway can contradict it.
	Groups []Group
	// Budgets bound what a member can ask and what can be done to it.
	Budgets Budgets
	// DelayMin and DelayMax: a guard that was used is moved after a random time
	// between them, because the network provider sees changes. Both zero:
	// defaults 10 minutes and 6 hours; both negative: at once.
	DelayMin, DelayMax time.Duration
	// Seed makes the random times unpredictable for guests. It is the runner's
	// to draw; the same seed and events give the same output.
	Seed [16]byte
	// MinPassPercent: a member of whose listed guards fewer pass its own filter
	// is not told to give up any. Default 30.
	MinPassPercent int

	// Tries: how often an order is rung for before the operator is told that it
	// is unanswered. Default 3.
	Tries int
	// RetryAfter: the wait before an order is rung for again; doubled each time.
	// Default 30 s.
	RetryAfter time.Duration
	// AwayAfter: a member of the ledger of which nothing was heard for so long
	// after a start counts as away. Default 10 minutes.
	AwayAfter time.Duration

	// ViolationLimit violations within ViolationWindow put a gateway into
	// quarantine. Defaults 10 and 1 minute.
	ViolationLimit  int
	ViolationWindow time.Duration
	// QuarantineTicks: how many ticks without a violation, after a valid
	// publication, end the quarantine. Default 5.
	QuarantineTicks int
}

const day = 24 * time.Hour

// maxTokens is the largest budget that can be configured; what is meant to be
// more has no limit.
const maxTokens = 10_000

// withDefaults returns c with every zero field replaced by its default.
func (c Config) withDefaults() Config {
	setDefault(&c.Retention, 60*day)
	setDefault(&c.Hold, 120*day)
	setDefault(&c.MaxClaims, 6)
	setDefault(&c.MaxGatewayClaims, 12)
	setDefault(&c.MaxExclusions, shmproto.MaxExclusions)
	setDefault(&c.Levels, DefaultLevels)
	setDefault(&c.Budgets.NewClaims, Budget{Join: 3, Every: day, Burst: 3})
	setDefault(&c.Budgets.SampleChanges, Budget{Join: 20, Every: 12 * time.Hour, Burst: 6})
	setDefault(&c.Budgets.ForcedUnused, Budget{Join: 3, Every: 7 * day, Burst: 3})
	setDefault(&c.Budgets.ForcedUsed, Budget{Join: 1, Every: 60 * day, Burst: 1})
	setDefault(&c.Budgets.ForcedUsedPerYear, 2)
	setDefault(&c.Budgets.CausedMost, 2)
	setDefault(&c.Budgets.CausedWithin, year)
	if c.DelayMin == 0 && c.DelayMax == 0 {
		c.DelayMin, c.DelayMax = 10*time.Minute, 6*time.Hour
	}
	setDefault(&c.MinPassPercent, 30)
	setDefault(&c.Tries, 3)
	setDefault(&c.RetryAfter, 30*time.Second)
	setDefault(&c.AwayAfter, 10*time.Minute)
	setDefault(&c.ViolationLimit, 10)
	setDefault(&c.ViolationWindow, time.Minute)
	setDefault(&c.QuarantineTicks, 5)
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// validate reports every fault at once.
func (c Config) validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.Policy == PolicyObserve || c.Policy == PolicyDisjoint,
		"policy %q: want %s or %s", c.Policy, PolicyObserve, PolicyDisjoint)
	check(c.Retention > 0, "retention %v: must be positive", c.Retention)
	check(c.Hold > 0, "hold %v: must be positive", c.Hold)
	check(c.MaxClaims > 0 && c.MaxClaims <= shmproto.MaxGuards, "%d claims per member: want 1 to %d", c.MaxClaims, shmproto.MaxGuards)
	check(c.MaxExclusions > 0 && c.MaxExclusions <= shmproto.MaxExclusions, "%d exclusions per order: want 1 to %d", c.MaxExclusions, shmproto.MaxExclusions)
	for _, x := range []struct {
		name BudgetName
		b    Budget
	}{
		{BudgetNewClaims, c.Budgets.NewClaims}, {BudgetSampleChanges, c.Budgets.SampleChanges},
		{BudgetForcedUnused, c.Budgets.ForcedUnused}, {BudgetForcedUsed, c.Budgets.ForcedUsed},
	} {
		check(x.b.unlimited() || x.b.Every > 0 && x.b.Join >= 0 && x.b.Join <= maxTokens && x.b.Burst <= maxTokens,
			"budget %s of %d at join, one each %v, burst %d: want 0 to %d and a positive time, or a negative burst for no limit",
			x.name, x.b.Join, x.b.Every, x.b.Burst, maxTokens)
	}
	check(c.Budgets.ForcedUsedPerYear <= maxTokens, "%d used guards a year: want at most %d", c.Budgets.ForcedUsedPerYear, maxTokens)
	check(c.Budgets.CausedMost <= maxTokens && c.Budgets.CausedWithin > 0,
		"%d changes because of one gateway within %v: want at most %d and a positive time", c.Budgets.CausedMost, c.Budgets.CausedWithin, maxTokens)
	check(c.DelayMin < 0 && c.DelayMax < 0 || c.DelayMin >= 0 && c.DelayMax >= c.DelayMin,
		"delay %v to %v: want the least first, or both negative for none", c.DelayMin, c.DelayMax)
	check(c.MinPassPercent > 0 && c.MinPassPercent <= 100, "least pass percentage %d: want 1 to 100", c.MinPassPercent)
	check(c.Tries > 0, "%d tries: must be positive", c.Tries)
	check(c.RetryAfter > 0, "retry after %v: must be positive", c.RetryAfter)
	check(c.AwayAfter > 0, "away after %v: must be positive", c.AwayAfter)
	check(c.ViolationLimit > 0, "violation limit %d: must be positive", c.ViolationLimit)
	check(c.ViolationWindow > 0, "violation window %v: must be positive", c.ViolationWindow)
	check(c.QuarantineTicks > 0, "%d ticks of quarantine: must be positive", c.QuarantineTicks)
	errs = append(errs, c.Levels.check(), checkGroups(c.Groups))
	return errors.Join(errs...)
}
