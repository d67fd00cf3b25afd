package simulation

import (
	"errors"
	"fmt"
	"time"

	"guardring/internal/coordinator"
)

// Config says what is simulated. The zero value of a field that names a default
// stands for it; Run checks the rest.
type Config struct {
	Network  *Network // default Builtin()
	Gateways int      // 2 to 50
	Months   int      // of 30 days, 1 to 60
	// Adversary is the share of the guard weight that the adversary runs, 0 to 0.5.
	Adversary float64
	// Off: there is no guardring; "with" is then the same as "without".
	Off bool
	// Core is the coordinator's configuration. Its Policy is disjoint or observe;
	// Epoch and Seed are set by the simulation.
	Core coordinator.Config
	// Gate: every new gateway has a join gate (docs/DESIGN.md): its streams wait
	// until its primary guards are clear.
	Gate bool
	// Hostile: the first gateway is the adversary's.
	Hostile bool
	// HostileMembers: how many Tors it pretends to have. Default 1.
	HostileMembers int
	// Lies: it claims relays that nobody else knows and states addresses and
	// families for them that reach as many relays as it can. Else it claims the
	// heaviest relays there are and states the truth.
	Lies   bool
	Churn  Churn
	Trials int // 1 to 100,000
	Seed   uint64
}

// Churn says how often relays and gateways come and go. All times between two
// such events are drawn from an exponential distribution. A zero field means its
// default.
type Churn struct {
	// RelayLife: how long a relay stays before it is gone for good. Default 400
	// days: a guard has to be an old relay.
	RelayLife time.Duration
	// RelayUp and RelayDown: how long a guard runs between two outages, and how
	// long one lasts. Defaults 60 days and 6 hours; the
	// flag Guard demands that a relay runs 98 % of it (dir-spec, WFU).
	RelayUp, RelayDown time.Duration
	// LongOutage: the share of the outages after which the flag is gone for
	// LongDown. Defaults 0.1 and 10 days.
	LongOutage float64
	LongDown   time.Duration
	// GatewayOn and GatewayOff: how long a gateway runs, and is then off. Defaults
	// 12 hours each.
	GatewayOn, GatewayOff time.Duration
	// Apart: the time between the first starts of two gateways. Default 1 day.
	Apart time.Duration
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c Config) withDefaults() Config {
	if c.Network == nil {
		c.Network = Builtin()
	}
	setDefault(&c.HostileMembers, 1)
	setDefault(&c.Churn.RelayLife, 400*day)
	setDefault(&c.Churn.RelayUp, 60*day)
	setDefault(&c.Churn.RelayDown, 6*time.Hour)
	setDefault(&c.Churn.LongOutage, .1)
	setDefault(&c.Churn.LongDown, 10*day)
	setDefault(&c.Churn.GatewayOn, 12*time.Hour)
	setDefault(&c.Churn.GatewayOff, 12*time.Hour)
	setDefault(&c.Churn.Apart, day)
	return c
}

const day = 24 * time.Hour

// validate reports every fault at once.
func (c Config) validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.Gateways >= 2 && c.Gateways <= 50, "%d gateways: want 2 to 50", c.Gateways)
	check(c.Months >= 1 && c.Months <= 60, "%d months: want 1 to 60", c.Months)
	check(c.Adversary >= 0 && c.Adversary <= .5, "adversary %v: want a share of the guard weight, 0 to 0.5", c.Adversary)
	check(c.Trials >= 1 && c.Trials <= 100_000, "%d trials: want 1 to 100,000", c.Trials)
	check(c.HostileMembers >= 1 && c.HostileMembers <= 8, "%d hostile members: want 1 to 8", c.HostileMembers)
	check(len(c.Network.Relays) >= leastGuards, "%d guards: want %d at least", len(c.Network.Relays), leastGuards)
	core := c.Core
	if c.Off {
		core.Policy = coordinator.PolicyObserve
	}
	if _, err := coordinator.New(core); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
