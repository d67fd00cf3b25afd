package coordinator

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"guardring/internal/guardstate"
)

// Levels is a set of levels: what two guards are compared by.
type Levels uint8

// The sets of levels. The relay itself is always compared.
const (
	WithFamily Levels = 1 << iota // mutual family lists, family IDs, the operator's groups
	WithSubnet                    // /16 of IPv4, /32 of IPv6, over all ORPort addresses
	RelayOnly  Levels = 0x80      // neither; zero means DefaultLevels
)

// DefaultLevels is what a zero Config.Levels means.
const DefaultLevels = WithFamily

// Group is a set of relays in one hand, as the operator says.
type Group struct {
	Name   string                   `json:"name"`
	Relays []guardstate.Fingerprint `json:"relays"`
}

// Budget is a token bucket: Join tokens when the member is first seen (more than
// Burst is allowed), then one more each Every up to Burst. A negative Burst means
// that there is no limit.
type Budget struct {
	Join  int           `json:"join"`
	Every time.Duration `json:"every"`
	Burst int           `json:"burst"`
}

// Budgets are one member's. A zero Budget means its default.
type Budgets struct {
	NewClaims     Budget `json:"new_claims"`     // guards newly claimed; what our own order leads to is free. Default 3, 1 day, 3
	SampleChanges Budget `json:"sample_changes"` // guards new in the sample, and changed facts of one; Join is on top of Burst. Default 20, 12 h, 6
	ForcedUnused  Budget `json:"forced_unused"`  // primaries never used that the member is told to give up. Default 3, 7 days, 3
	ForcedUsed    Budget `json:"forced_used"`    // used guards that it is told to give up. Default 1, 60 days, 1
	// ForcedUsedPerYear bounds ForcedUsed within any 365 days. Default 2; negative:
	// no limit.
	ForcedUsedPerYear int `json:"forced_used_per_year"`
	// CausedMost forced changes of one member, at levels above the relay, may be
	// caused by one other gateway within any CausedWithin: there one gateway can
	// stand in the way at far more guards than it claims. Defaults 2 and 365 days;
	// a negative CausedMost means no limit.
	CausedMost   int           `json:"caused_most"`
	CausedWithin time.Duration `json:"caused_within"`
}

// BudgetName names a budget in records, notices and status.
type BudgetName string

// The budgets.
const (
	BudgetNewClaims     BudgetName = "new-claims"
	BudgetSampleChanges BudgetName = "sample-changes"
	BudgetForcedUnused  BudgetName = "forced-unused"
	BudgetForcedUsed    BudgetName = "forced-used"
	BudgetCaused        BudgetName = "caused" // forced changes because of one other gateway
	BudgetExclusions    BudgetName = "exclusions"
)

// Facts are what is known of a relay besides its name: what levels above the
// relay compare. A nil field was not stated.
type Facts struct {
	Relay     guardstate.Fingerprint   `json:"relay"`
	Subnets   []Key                    `json:"subnets,omitempty"`    // of its ORPort addresses, sorted
	FamilyIDs []Key                    `json:"family_ids,omitempty"` // sorted
	Family    []guardstate.Fingerprint `json:"family,omitempty"`     // its declared list, sorted
	// FamilyStated: FamilyIDs and Family are the whole truth, also when empty.
	FamilyStated bool `json:"family_stated,omitempty"`
}

// ParseLevels returns the set of the named levels (family, subnet; relay may be
// named). None is RelayOnly, not the default.
func ParseLevels(names []string) (Levels, error) {
	s := RelayOnly
	for _, name := range names {
		var l Level
		if err := l.UnmarshalText([]byte(name)); err != nil {
			return 0, err
		}
		switch l {
		case LevelRelay:
		case LevelFamily:
			s |= WithFamily
		case LevelSubnet:
			s |= WithSubnet
		default:
			return 0, errors.New("a level without a name")
		}
	}
	if s != RelayOnly {
		s &^= RelayOnly
	}
	return s, nil
}

// String names the levels of the set, the strongest first, with commas.
func (s Levels) String() string {
	var names []string
	for l := LevelRelay; l <= LevelSubnet; l++ {
		if s.Has(l) {
			names = append(names, l.String())
		}
	}
	return strings.Join(names, ",")
}

// Has reports whether guards are compared at level l.
func (s Levels) Has(l Level) bool {
	if s == 0 {
		s = DefaultLevels
	}
	switch l {
	case LevelRelay:
		return true
	case LevelFamily:
		return s&WithFamily != 0
	case LevelSubnet:
		return s&WithSubnet != 0
	}
	return false
}

// check reports a set that means nothing.
func (s Levels) check() error {
	if s&^(WithFamily|WithSubnet|RelayOnly) != 0 || s&RelayOnly != 0 && s != RelayOnly {
		return fmt.Errorf("levels %#x: want family and subnet, one of them, or neither", uint8(s))
	}
	return nil
}

// checkGroups reports the first fault of the operator's groups.
func checkGroups(groups []Group) error {
	seen := map[string]bool{}
	for _, g := range groups {
		switch {
		case g.Name == "":
			return errors.New("a group of relays has no name")
		case seen[g.Name]:
			return fmt.Errorf("group %q: there are two of that name", g.Name)
		case slices.ContainsFunc(g.Relays, guardstate.Fingerprint.IsZero):
			return fmt.Errorf("group %q: a relay has no fingerprint", g.Name)
		}
		seen[g.Name] = true
	}
	return nil
}

// groupKeys returns the keys of the operator's groups by relay.
func groupKeys(groups []Group) map[guardstate.Fingerprint][]Key {
	keys := map[guardstate.Fingerprint][]Key{}
	for _, g := range groups {
		for _, f := range g.Relays {
			keys[f] = append(keys[f], GroupKey(g.Name))
		}
	}
	return keys
}
