package election

import (
	"errors"
	"fmt"

	"guardring/shmproto"
)

// Times in ticks. A lease is stale after 2.5 heartbeats without a change, so
// that a standby whose ticks fall anywhere between the other's heartbeats acts
// within three.
const (
	TicksPerHeartbeat = 4
	staleTicks        = 10
	maxBackoffTicks   = 64 * TicksPerHeartbeat
)

// State is where a coordinator stands.
type State int

// The states, in the order of a take-over.
const (
	Standby   State = iota // watches the lease
	Candidate              // claims the next term, then fences the regions with it
	Fence                  // regions are fenced; the ledger is being read
	Restoring              // the ledger was read; ours is being written
	Acting                 // holds the lease
	Deposed                // is forgetting its state
	Stopped                // has given up for good
)

// String returns the state's name as status shows it.
func (s State) String() string {
	switch s {
	case Standby:
		return "standby"
	case Candidate:
		return "candidate"
	case Fence:
		return "fenced"
	case Restoring:
		return "restoring"
	case Acting:
		return "acting"
	case Deposed:
		return "deposed"
	case Stopped:
		return "stopped"
	}
	return fmt.Sprintf("State(%d)", int(s))
}

// Config describes a coordinator at its start.
type Config struct {
	Seat    int            // our seat on the lease board, 0 or 1: breaks a tie that only copied ledgers can cause
	Epoch   shmproto.Epoch // the ledger's
	Highest shmproto.Term  // the highest term that the ledger directory holds; read after our seat was ours
	Own     shmproto.Lease // what our seat of the board shows from its former holder; zero if nothing
	Observe bool           // the policy is observe; only shown to guests
}

func (c Config) validate() error {
	var errs []error
	if c.Seat != 0 && c.Seat != 1 {
		errs = append(errs, fmt.Errorf("seat %d, want 0 or 1", c.Seat))
	}
	if c.Epoch == (shmproto.Epoch{}) {
		errs = append(errs, errors.New("no epoch"))
	}
	return errors.Join(errs...)
}

// Machine is one coordinator's side of the election. Not safe for concurrent
// use.
//
// Invariants:
//   - our shown (epoch, term) never falls: a guest's fence would fall with it
//   - standing by, we show the highest term that we know of: our seat of a region
//     need not be of the same number as that of the board, so its former holder may
//     be anybody, and its fence must not fall either
//   - Act follows Claimed, Fenced, LedgerRead and LedgerWritten of the same term
//   - exactly one answer is awaited in Candidate, Fence, Restoring and Deposed,
//     none in Standby and Acting
type Machine struct {
	cfg     Config
	state   State
	own     shmproto.Lease // what we show
	other   shmproto.Lease // what the other seat showed last
	highest shmproto.Term  // highest term known to exist
	claim   shmproto.Term  // the term being claimed or held
	beat    int            // ticks since our last heartbeat
	quiet   int            // ticks since the other's lease changed
	wait    int            // ticks to let pass before the next claim
	backoff int            // ticks of the next wait after a failure
}

// New returns a machine in Standby and the actions to begin with.
func New(cfg Config) (*Machine, []Action, error) {
	if err := cfg.validate(); err != nil {
		return nil, nil, err
	}
	m := &Machine{cfg: cfg, highest: cfg.Highest, backoff: staleTicks}
	m.own = shmproto.Lease{Epoch: cfg.Epoch, Heartbeat: cfg.Own.Heartbeat, Observe: cfg.Observe}
	if cfg.Own.Epoch == cfg.Epoch {
		// The former holder of our seat may have fenced with this term.
		m.highest = max(m.highest, cfg.Own.Term)
	}
	m.follow()
	return m, []Action{m.show()}, nil
}

// State returns where the machine stands.
func (m *Machine) State() State { return m.state }

// Lease returns what we show; a region that is attached later gets it too.
func (m *Machine) Lease() shmproto.Lease { return m.own }

// Other returns the last reading of the other seat, and whether it changed
// lately: a coordinator lives there.
func (m *Machine) Other() (shmproto.Lease, bool) {
	return m.other, m.other != (shmproto.Lease{}) && m.quiet < staleTicks
}

// Blocked says why no take-over can succeed, "" if one can.
func (m *Machine) Blocked() string {
	shown := m.other.Epoch
	if m.cfg.Own.Epoch.Compare(shown) > 0 {
		shown = m.cfg.Own.Epoch
	}
	if shown.Compare(m.cfg.Epoch) > 0 {
		return fmt.Sprintf("the lease board shows a newer ledger (epoch %d) than this ledger directory holds (epoch %d): another ledger directory, or an older copy", shown.Number, m.cfg.Epoch.Number)
	}
	return ""
}

// Step takes one event and returns what to do, in order. An event that the
// state does not await is our own mistake and panics.
func (m *Machine) Step(e Event) []Action {
	if m.state == Stopped {
		return nil
	}
	switch e := e.(type) {
	case Tick:
		return m.tick(e.Other)
	case Looked:
		m.look(e.Other)
		if m.outranked() {
			return m.becomeDeposed()
		}
		return nil
	case Stop:
		return m.becomeStopped()
	case Failed:
		return m.failed()
	case Claimed:
		m.must(e, Candidate)
		return m.becomeClaimed()
	case Taken:
		m.must(e, Candidate)
		m.highest = max(m.highest, e.Highest, m.claim)
		m.wait = staleTicks // its holder is taking over; give it the time of a lease
		return m.becomeStandby()
	case Fenced:
		m.must(e, Candidate)
		m.state = Fence
		return []Action{ReadLedger{m.claim}}
	case LedgerRead:
		m.must(e, Fence)
		m.state = Restoring
		return []Action{WriteLedger{m.claim}}
	case LedgerWritten:
		m.must(e, Restoring)
		m.look(e.Other)
		if m.outranked() {
			return m.becomeDeposed()
		}
		m.state, m.backoff = Acting, staleTicks
		return []Action{Act{m.claim}}
	case StoodDown:
		m.must(e, Deposed)
		return m.becomeStandby()
	}
	panic(fmt.Sprintf("election: unknown event %T", e))
}

func (m *Machine) must(e Event, s State) {
	if m.state != s {
		panic(fmt.Sprintf("election: %s in state %s", e, m.state))
	}
}

func (m *Machine) tick(other shmproto.Lease) []Action {
	m.quiet = min(m.quiet+1, staleTicks)
	m.look(other)
	if m.outranked() {
		return m.becomeDeposed()
	}
	var actions []Action
	if m.beat++; m.beat >= TicksPerHeartbeat {
		m.own.Heartbeat++
		actions = append(actions, m.show())
	}
	if m.wait > 0 {
		m.wait--
	}
	if m.state == Standby && m.wait == 0 && m.free() && m.Blocked() == "" {
		m.state, m.claim = Candidate, m.highest+1
		actions = append(actions, ClaimTerm{m.claim})
	}
	return actions
}

// look takes in a reading of the other seat.
func (m *Machine) look(other shmproto.Lease) {
	if other != m.other {
		m.other, m.quiet = other, 0
	}
	if other.Epoch == m.cfg.Epoch {
		m.highest = max(m.highest, other.Term)
	}
	if m.state == Standby {
		m.follow()
	}
}

// follow keeps what we show as high as what anybody can have shown. A term is
// claimed before it is shown, and shown on the board before any region, so whoever
// has just looked knows of it.
func (m *Machine) follow() { m.own.Term = max(m.own.Term, m.highest) }

// free reports whether nobody holds the lease: the other seat does not act, or
// has shown no change for too long.
func (m *Machine) free() bool { return !m.other.Acting || m.quiet >= staleTicks }

// outranked reports whether the other seat shows a lease that fences ours. The
// same lease twice means two copies of one ledger: seat 1 yields.
func (m *Machine) outranked() bool {
	switch m.state {
	case Candidate, Fence, Restoring, Acting:
	default:
		return false
	}
	c := m.other.Epoch.Compare(m.cfg.Epoch)
	switch {
	case c != 0:
		return c > 0
	case m.other.Term == m.own.Term && m.other.Acting && m.own.Acting:
		return m.cfg.Seat == 1
	}
	return m.other.Term > max(m.own.Term, m.claim)
}

func (m *Machine) show() Action {
	m.beat = 0
	return SetLease{m.own}
}

// becomeClaimed shows the new term everywhere; we are still Candidate until
// that is done.
func (m *Machine) becomeClaimed() []Action {
	m.highest = max(m.highest, m.claim)
	m.own.Term, m.own.Acting = m.claim, true
	m.own.Heartbeat++
	m.beat = 0
	return []Action{FenceRegions{m.own}}
}

func (m *Machine) becomeStandby() []Action {
	m.state, m.claim = Standby, 0
	m.follow()
	if !m.own.Acting {
		return nil
	}
	m.own.Acting = false
	m.own.Heartbeat++
	return []Action{m.show()}
}

// becomeDeposed ends every effect first and tells the other seat afterwards.
func (m *Machine) becomeDeposed() []Action {
	m.state = Deposed
	return []Action{StandDown{}}
}

// failed gives the lease up and tries again later: another attempt costs a
// term, so the waits double.
func (m *Machine) failed() []Action {
	switch m.state {
	case Standby, Deposed:
		return nil
	}
	m.wait = m.backoff
	m.backoff = min(2*m.backoff, maxBackoffTicks)
	return m.becomeDeposed()
}

func (m *Machine) becomeStopped() []Action {
	var actions []Action
	if m.state != Standby {
		actions = append(actions, StandDown{})
	}
	m.state, m.own.Acting = Stopped, false
	m.own.Heartbeat++
	return append(actions, m.show())
}
