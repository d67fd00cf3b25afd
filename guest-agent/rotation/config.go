package rotation

import (
	"errors"
	"fmt"
	"time"

	"guardring/shmproto"
)

// Config of one machine. The zero value of a field means its default.
type Config struct {
	Member         string        // instance name
	Role           string        // what this Tor is for, a name (shmproto.ValidName); "": not said
	Observe        bool          // publish, obey no order
	Enforce        bool          // ask for the packet filter's help, too
	Cut            bool          // close circuits that carry streams too (default: linger until the streams end)
	MinPassPercent int           // least share of the network's guards that must pass the filter with our rejects (30)
	PublishGap     time.Duration // least time between two publications (1 s)
	PollEvery      time.Duration // how often to ask although no event came (60 s)
	RetryAfter     time.Duration // pause after a query or a file write that failed (5 s)
	IntroGap       time.Duration // between two closed introduction circuits (30 s)
	Gate           GateMode      // what the streams of a new member wait for
	GateLimit      time.Duration // how long the join gate waits for the host (90 s; Tor gives streams up after SocksTimeout, 120 s)
	// Incarnation is the one that this start publishes with: an order that answers it opens the join gate.
	Incarnation shmproto.Incarnation
	MaxRounds   int // how often to set the option again against somebody else within an hour (5)
}

const (
	maxExclusions = shmproto.MaxExclusions
	// fightWindow is the time in which MaxRounds are counted.
	fightWindow = time.Hour
)

func (c *Config) validate() error {
	deflt := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	deflt(&c.PublishGap, time.Second)
	deflt(&c.PollEvery, time.Minute)
	deflt(&c.RetryAfter, 5*time.Second)
	deflt(&c.IntroGap, 30*time.Second)
	deflt(&c.GateLimit, 90*time.Second)
	if c.MinPassPercent == 0 {
		c.MinPassPercent = 30
	}
	if c.MaxRounds == 0 {
		c.MaxRounds = 5
	}
	var errs []error
	if !shmproto.ValidName(c.Member) {
		errs = append(errs, fmt.Errorf("member name %.40q: want %s", c.Member, shmproto.NameRule))
	} else if c.Role != "" && !shmproto.ValidName(c.Role) {
		errs = append(errs, fmt.Errorf("role %q: want %s", c.Role, shmproto.NameRule))
	}
	if c.MinPassPercent < 20 || c.MinPassPercent > 100 {
		errs = append(errs, fmt.Errorf("least share of passing guards %d %%: want 20 to 100 (below 20 %% Tor changes to another guard selection)", c.MinPassPercent))
	}
	if c.MaxRounds < 0 || min(c.PublishGap, c.PollEvery, c.RetryAfter, c.IntroGap, c.GateLimit) < 0 {
		errs = append(errs, errors.New("negative duration or count"))
	}
	return errors.Join(errs...)
}

// ConfigKeys are the options that QueryConfig asks for, in one GETCONF.
func ConfigKeys() []string {
	return []string{
		"ORPort", "UseBridges", "EntryNodes", "ExcludeNodes", "Sandbox",
		optionOR, "ReachableAddresses", "FascistFirewall", "FirewallPorts",
		"NumEntryGuards", "NumDirectoryGuards", "NumPrimaryGuards",
		"ClientUseIPv4", "ClientUseIPv6", "UseEntryGuards",
		optionLayer2, optionLayer3, optionGate,
	}
}

const (
	optionOR     = "ReachableORAddresses"
	optionLayer2 = "HSLayer2Nodes"
	optionLayer3 = "HSLayer3Nodes"
)
