package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"guardring/internal/configfile"
	"guardring/internal/guardstate"
	"guardring/shmproto"
)

const day = 24 * time.Hour

// Level is family or subnet; relay is compared in any case and may be named.
type Level string

var levels = []string{"relay", "family", "subnet"}

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *Level) UnmarshalText(b []byte) error {
	if !slices.Contains(levels, string(b)) {
		return fmt.Errorf("%q is no level: family or subnet, [] for the relay alone%s", b, didYouMean(string(b), levels))
	}
	*l = Level(b)
	return nil
}

func didYouMean(word string, known []string) string {
	if near := configfile.Nearest(word, known); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ""
}

// RelayGroup is relays that the operator knows to be in one hand.
type RelayGroup struct {
	Name   string                   `yaml:"name"`
	Relays []guardstate.Fingerprint `yaml:"relays"`
}

// Limits of the groups: what is beyond was hardly written by hand.
const (
	maxGroups      = 256
	maxGroupRelays = 1024
)

// Check reports what the types do not (configfile.Checker).
func (g *RelayGroup) Check(r *configfile.Report) {
	switch {
	case g.Name == "":
		r.Fault("name", "is missing", "name the group, for instance after its operator")
	case !shmproto.ValidName(g.Name):
		r.Fault("name", fmt.Sprintf("%q is no name", g.Name), "write "+shmproto.NameRule)
	}
	if n := len(g.Relays); n < 2 || n > maxGroupRelays {
		r.Fault("relays", fmt.Sprintf("has %d relays", n), fmt.Sprintf("list 2 to %d fingerprints of 40 hexadecimal digits", maxGroupRelays))
	}
	seen := map[guardstate.Fingerprint]bool{}
	for i, f := range g.Relays {
		// A zero one is in the place of one that was faulty already.
		if seen[f] && !f.IsZero() {
			r.Fault(fmt.Sprintf("relays[%d]", i), f.String()+" is listed twice", "remove one of the two")
		}
		seen[f] = true
	}
}

func checkGroups(r *configfile.Report, groups []RelayGroup) {
	if len(groups) > maxGroups {
		r.Fault("groups", fmt.Sprintf("has %d groups", len(groups)), fmt.Sprintf("want at most %d", maxGroups))
	}
	seen := map[string]bool{}
	for i, g := range groups {
		if g.Name != "" && seen[g.Name] {
			r.Fault(fmt.Sprintf("groups[%d].name", i), fmt.Sprintf("a group %q was listed before", g.Name), "join the two, or rename one")
		}
		seen[g.Name] = true
	}
}

// Delay is the random time after which a used guard is moved. Both 0: at once.
type Delay struct {
	Least time.Duration `yaml:"least"`
	Most  time.Duration `yaml:"most"`
}

// Check reports what the types do not (configfile.Checker).
func (d *Delay) Check(r *configfile.Report) {
	between(r, "most", d.Most, 0, 30*day)
	if d.Least > d.Most {
		r.Fault("least", fmt.Sprintf("%s is more than most, %s", configfile.FormatDuration(d.Least), configfile.FormatDuration(d.Most)), "write the smaller one here; 0s in both moves at once")
	}
}

// NoLimit is what the word unlimited stands for in a Limit.
const NoLimit Limit = -1

// maxLimit bounds what is worth writing as a number.
const maxLimit = 10_000

// Limit is a number of things, or NoLimit.
type Limit int

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *Limit) UnmarshalText(b []byte) error {
	if string(b) == "unlimited" {
		*l = NoLimit
		return nil
	}
	n, err := strconv.ParseUint(string(b), 10, 32)
	if err != nil || n < 1 || n > maxLimit {
		return fmt.Errorf("%q is no limit: 1 to %d, or unlimited", b, maxLimit)
	}
	*l = Limit(n)
	return nil
}

// Budget is a token bucket: Join tokens for a new member, then one more each
// Every up to Burst.
type Budget struct {
	Join  int           `yaml:"join"`
	Every time.Duration `yaml:"every"`
	Burst Limit         `yaml:"burst"`
}

// Check reports what the types do not (configfile.Checker).
func (b *Budget) Check(r *configfile.Report) {
	if b.Join < 0 || b.Join > maxLimit {
		r.Fault("join", fmt.Sprintf("%d is out of range", b.Join), fmt.Sprintf("want 0 to %d", maxLimit))
	}
	between(r, "every", b.Every, time.Minute, 400*day)
}

// Caused bounds the changes that one gateway can cause another member at levels
// above the relay.
type Caused struct {
	Most   Limit         `yaml:"most"`
	Within time.Duration `yaml:"within"`
}

// Check reports what the types do not (configfile.Checker).
func (c *Caused) Check(r *configfile.Report) { between(r, "within", c.Within, time.Minute, 400*day) }

// Budgets bound what a member can ask, and what can be done to it.
type Budgets struct {
	NewClaims         Budget `yaml:"new-claims"`
	SampleChanges     Budget `yaml:"sample-changes"`
	ForcedUnused      Budget `yaml:"forced-unused"`
	ForcedUsed        Budget `yaml:"forced-used"`
	ForcedUsedPerYear Limit  `yaml:"forced-used-per-year"`
	Caused            Caused `yaml:"caused"`
	GatewayClaims     Limit  `yaml:"gateway-claims"`
}

func defaultBudgets() Budgets {
	return Budgets{
		NewClaims:         Budget{Join: 3, Every: day, Burst: 3},
		SampleChanges:     Budget{Join: 20, Every: 12 * time.Hour, Burst: 6},
		ForcedUnused:      Budget{Join: 3, Every: 7 * day, Burst: 3},
		ForcedUsed:        Budget{Join: 1, Every: 60 * day, Burst: 1},
		ForcedUsedPerYear: 2,
		Caused:            Caused{Most: 2, Within: 365 * day},
		GatewayClaims:     12,
	}
}

// Size is a number of bytes, written with KiB, MiB or GiB behind it.
type Size int64

var units = []struct {
	name  string
	bytes int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Size) UnmarshalText(b []byte) error {
	for _, u := range units {
		number, ok := strings.CutSuffix(string(b), u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 32)
		if err != nil || n < 1 {
			break
		}
		*s = Size(n * u.bytes)
		return nil
	}
	return errors.New(strconv.Quote(string(b)) + " is no size: a whole number with KiB, MiB or GiB, such as 4MiB")
}

func checkJournalSize(r *configfile.Report, s Size) {
	if s < 256<<10 || s > 1<<30 {
		r.Fault("journal-size", fmt.Sprintf("%d bytes is out of range", s), "want 256KiB to 1GiB")
	}
}
