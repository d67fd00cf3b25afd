package runner

import (
	"log/slog"
	"time"

	"guardring/guest-agent/device"
	"guardring/guest-agent/enforce"
	"guardring/guest-agent/include"
	"guardring/guest-agent/rotation"
	"guardring/guest-agent/torctl"
	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// Device is the agent's place in a region: package device, or a test's memory.
type Device interface {
	Memory() []byte        // the region, valid until Close
	Ring() error           // rings both host seats; may block
	Wait() error           // until we are rung; an error after Close
	Gone() <-chan struct{} // the region's server has gone; memory and doorbells go on
	Close() error
}

// Tor is one Tor to serve.
type Tor struct {
	Name    string // the member's name
	Role    string // what it is for; "": not said
	Control torctl.Config
	State   string       // state file; "" for none
	User    string       // the user that this Tor runs as; "" is what Tor says
	Site    include.Site // Torrc and Include may be empty: then orders are refused with that reason
}

// Enforcer is the packet filter: *enforce.Table, or a test's. It is used from
// several goroutines.
type Enforcer interface {
	Name() string
	Set(member string, uid uint32, rejects []guardstate.Reject) error
	Drop(member string) error
	Keep(members []string) error
	Check() error
	Remove() error
	State() (map[string]enforce.State, error)
}

// Config of Run.
type Config struct {
	Tors []Tor
	// Discover looks for the Tors of this machine again, with the slow tick; nil:
	// Tors are all there ever are. It is called in a goroutine of its own.
	Discover func() ([]Tor, error)
	// Dial takes the guest seat. It is called again, with back-off, after an
	// error and when the server has gone.
	// The Choice is which way it took, or tried.
	Dial func() (Device, device.Choice, error)
	// Region names what Dial reaches, for log and status, until a Choice does.
	Region      string
	Writer      int // our writer slot of the region's lock
	Incarnation shmproto.Incarnation
	// Rotation is the machines' configuration; Member is filled in.
	Rotation rotation.Config
	// Enforcer, if not nil, has the exclusions enforced by the packet filter.
	// Rotation.Enforce is set then.
	Enforcer Enforcer
	// Part says that Tors are some of this gateway's only: rules of others stay.
	Part bool
	// SlowTick is how often everything is looked at although no event came.
	SlowTick time.Duration
	// LockPatience is how long another agent may hold the region's lock.
	LockPatience time.Duration
	// BackoffMin and BackoffMax bound the pauses between attempts to connect.
	BackoffMin, BackoffMax time.Duration
	// Leave gives the names of members that must leave. When it is closed every
	// member leaves, and Run returns nil.
	Leave <-chan string
	Log   *slog.Logger
	// ShowFingerprints lets whole fingerprints into the log.
	ShowFingerprints bool
}

// The defaults of Config.
const (
	DefaultSlowTick     = 25 * time.Second
	DefaultLockPatience = time.Second
	DefaultBackoffMin   = time.Second
	DefaultBackoffMax   = time.Minute
)

func (c *Config) fill() {
	c.Rotation.Enforce = c.Enforcer != nil
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.SlowTick, DefaultSlowTick}, {&c.LockPatience, DefaultLockPatience},
		{&c.BackoffMin, DefaultBackoffMin}, {&c.BackoffMax, DefaultBackoffMax},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}
