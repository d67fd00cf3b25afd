package coordinator

import "fmt"

// Coordinator is the state machine. It is not safe for concurrent use: one
// goroutine owns it. Create it with New.
type Coordinator struct {
	cfg Config
}

// New returns an empty core, or every fault of cfg at once.
func New(cfg Config) (*Coordinator, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("coordinator: %w", err)
	}
	return &Coordinator{cfg: cfg}, nil
}

// Step takes one event and returns what must be done now.
//
// Preconditions: a Published has a Publication and a Slot below
// shmproto.MaxMembers (else Step panics: that is the runner's mistake, not a
// guest's). What the last Ready asked for has been done.
func (c *Coordinator) Step(e Event) Ready { return Ready{} }

// Restore replays a ledger into an empty core. An error names the first record
// that cannot be true; the core must then be thrown away.
func (c *Coordinator) Restore(records []Record) error { return nil }

// Snapshot returns the durable state as the fewest records, sorted.
// Restore(Snapshot()) gives an equal core.
func (c *Coordinator) Snapshot() []Record { return nil }

// Orders returns the current order of every member that is shown in a slot, for
// a host seat that was just taken. After Restore it is empty: each order comes
// with its member's next publication.
func (c *Coordinator) Orders() []SlotOrder { return nil }

// State returns a copy of everything that status shows.
func (c *Coordinator) State() State { return State{} }
