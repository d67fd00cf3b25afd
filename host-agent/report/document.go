package report

import (
	"slices"
	"time"

	"guardring/internal/guardstate"
)

// Roles of a coordinator.
const (
	RoleActing   = "acting"   // holds the lease
	RoleStandby  = "standby"  // watches another's lease
	RoleElecting = "electing" // is taking over
)

// Document is what one coordinator knows. All slices are sorted.
type Document struct {
	At        time.Time  `json:"at"`
	Self      Self       `json:"coordinator"`
	Gateways  []Gateway  `json:"gateways"`
	Members   []Member   `json:"members"`
	Conflicts []Conflict `json:"conflicts"`
	// Contradictions: relays of which two members state different things.
	Contradictions []Contradiction `json:"contradictions,omitempty"`
	// Layers: relays that several members pin in a further layer (vanguards).
	Layers []Layer `json:"layers,omitempty"`
}

// Contradiction is a relay that is compared by itself alone, because two members
// state different things of it.
type Contradiction struct {
	Fingerprint string `json:"fingerprint"`
	Level       string `json:"level"` // family, subnet
	One         string `json:"one"`   // a member
	Other       string `json:"other"` // a member; "" for the operator's consensus file
}

// Layer is a relay that several members pin.
type Layer struct {
	Fingerprint string   `json:"fingerprint"`
	Layer       int      `json:"layer"` // 2 or 3
	Members     []string `json:"members"`
}

// Self is the coordinator itself.
type Self struct {
	PID    int       `json:"pid"`
	Number int       `json:"number"` // its seat on the lease board: 0 or 1
	Role   string    `json:"role"`   // acting, standby, electing
	Since  time.Time `json:"since"`  // in this role
	Epoch  string    `json:"epoch"`  // of the ledger
	Term   uint64    `json:"term"`   // its own; of a standby, the term it watches
	Policy string    `json:"policy"` // observe, disjoint
	// LedgerError: why nothing can be made durable, and so nothing is ordered;
	// "" while all is well.
	LedgerError string `json:"ledger_error,omitempty"`
	LedgerFile  string `json:"ledger_file,omitempty"`
	LedgerBytes int64  `json:"ledger_bytes,omitempty"`
	// JournalError: why decisions are not written down; "" while they are.
	JournalError string `json:"journal_error,omitempty"`
	// ConsensusError: why the operator's consensus file is not used as it is now;
	// the last good one counts on.
	ConsensusError string `json:"consensus_error,omitempty"`
	// ConsensusGuards: guards of that file whose addresses it verifies.
	ConsensusGuards int `json:"consensus_guards,omitempty"`
	// Doorbells rung, orders written and publications read since its start.
	Doorbells    uint64 `json:"doorbells"`
	Orders       uint64 `json:"orders"`
	Publications uint64 `json:"publications"`
	// Goroutines of the process: their number stays flat while nothing leaks.
	Goroutines int `json:"goroutines"`
}

// Gateway is one region.
type Gateway struct {
	Name       string    `json:"name"`
	Present    bool      `json:"present"`              // its guest seat is held: a QEMU or an agent is there
	Attachment uint64    `json:"attachment"`           // connections of its guest seat so far
	Violations int       `json:"violations,omitempty"` // since the coordinator's start
	Quarantine time.Time `json:"quarantine,omitzero"`  // since when; zero: not
	Reason     string    `json:"reason,omitempty"`     // of the last violation
	Paced      time.Time `json:"paced,omitzero"`       // when it last rang, or changed what it says, faster than it is looked at; zero: never
	Domain     string    `json:"domain,omitempty"`     // what its libvirt domain does: running, paused, off ...; "" if not known
	Fault      string    `json:"fault,omitempty"`      // why its region cannot be attached
}

// Member is one Tor client.
type Member struct {
	Member      string      `json:"member"`          // gateway/instance
	State       string      `json:"state"`           // present, away, observe-only, refused, left
	Since       time.Time   `json:"since,omitzero"`  // away: since when
	Selection   string      `json:"selection"`       // default, restricted, bridges, unknown
	Flags       []string    `json:"flags,omitempty"` // dormant, ambiguous, no-consensus, unreachable, few-guards, onion-service, truncated, gated, families-left-out
	TorVersion  string      `json:"tor_version,omitempty"`
	NumPrimary  int         `json:"num_primary"`
	Publication Publication `json:"publication"`
	Guards      []Guard     `json:"guards"`
	Order       Order       `json:"order"`
	Receipt     Receipt     `json:"receipt"`
	Excess      int         `json:"excess,omitempty"` // guards beyond its claims: not protected
	Stuck       string      `json:"stuck,omitempty"`  // why it is in conflict and not told to move
	Role        string      `json:"role,omitempty"`   // what its gateway says that it is for: updates, browsing, apps
	Budgets     []Budget    `json:"budgets,omitempty"`
	Allowed     time.Time   `json:"allowed,omitzero"`     // the operator's leave to spend more, not spent yet
	CloneOf     string      `json:"clone_of,omitempty"`   // the member that had its sample before
	RolledBack  time.Time   `json:"rolled_back,omitzero"` // came back in a state that it had left
}

// Budget is what is left of one of a member's budgets.
type Budget struct {
	Name    string    `json:"name"` // new-claims, sample-changes, forced-unused, forced-used, caused, exclusions
	Left    int       `json:"left"`
	Burst   int       `json:"burst"`
	Next    time.Time `json:"next,omitzero"`     // when it has one more; zero: it is full
	Waiting int       `json:"waiting,omitempty"` // what it keeps from being done: conflicts, or guards
}

// Publication names the last one that was read.
type Publication struct {
	Attachment  uint64    `json:"attachment"`
	Incarnation uint64    `json:"incarnation"`
	Seq         uint64    `json:"seq"`
	Seen        time.Time `json:"seen,omitzero"`
}

// Guard is one guard of a member: shown, claimed or excluded.
type Guard struct {
	Fingerprint string    `json:"fingerprint"`
	InUse       bool      `json:"in_use"`
	Primary     bool      `json:"primary"`
	Possible    bool      `json:"possible_primary,omitempty"`
	Confirmed   bool      `json:"confirmed,omitempty"`
	Excluded    bool      `json:"excluded"`         // guardring's exclusion is in force, says the member
	Ordered     time.Time `json:"ordered,omitzero"` // told not to use it, since
	Claimed     time.Time `json:"since,omitzero"`   // the claim's stamp
	Stamp       uint64    `json:"stamp,omitempty"`  // decides who was first
	Left        time.Time `json:"left,omitzero"`    // used, not in use since; still claimed
}

// Order is the last one to a member.
type Order struct {
	Seq        uint64   `json:"seq"` // 0: never had one
	Exclusions []string `json:"exclusions"`
	Tries      int      `json:"tries,omitempty"`
}

// Receipt is the member's answer to its order.
type Receipt struct {
	Status string `json:"status"` // none, pending, applied, refused, failed
	Reason string `json:"reason,omitempty"`
}

// States of a conflict.
const (
	ConflictObserved   = "observed"   // the policy is observe: nothing is done
	ConflictOrdered    = "ordered"    // the newcomer was told and has not finished
	ConflictUnanswered = "unanswered" // the newcomer was told several times and does not answer
	ConflictRefused    = "refused"    // the newcomer refused or failed to obey
	ConflictStuck      = "stuck"      // nobody is told; Reason says why
	ConflictDelayed    = "delayed"    // the newcomer will be told at Due
	ConflictBudget     = "budget"     // the newcomer's budget of forced changes is spent
	ConflictTolerated  = "tolerated"  // nobody is told, for a reason that lasts (both have used their guards): reported, never moved
	ConflictClone      = "clone"      // the newcomer is a clone: not resolved by orders
	ConflictAway       = "away"       // the newcomer is away; it is dealt with when it is back
)

// Conflict is a guard that two members hold, or two guards that are the same at
// another level.
type Conflict struct {
	Level       string    `json:"level"`          // relay, family, subnet
	Fingerprint string    `json:"fingerprint"`    // Newcomer's guard
	Over        string    `json:"over,omitempty"` // Incumbent's guard, where it is another relay
	Due         time.Time `json:"due,omitzero"`   // when Newcomer will be told
	Incumbent   string    `json:"incumbent"`      // had it first and keeps it
	Held        time.Time `json:"held"`           // since when Incumbent holds it
	Newcomer    string    `json:"newcomer"`
	Since       time.Time `json:"since"` // when the newcomer was first seen with it
	State       string    `json:"state"`
	Reason      string    `json:"reason,omitempty"`
}

// Shorten cuts every fingerprint to its first eight digits, in a copy.
func (d Document) Shorten() Document {
	d.Members = slices.Clone(d.Members)
	for i := range d.Members {
		m := &d.Members[i]
		m.Guards = slices.Clone(m.Guards)
		for j := range m.Guards {
			m.Guards[j].Fingerprint = guardstate.Shorten(m.Guards[j].Fingerprint)
		}
		m.Order.Exclusions = slices.Clone(m.Order.Exclusions)
		for j := range m.Order.Exclusions {
			m.Order.Exclusions[j] = guardstate.Shorten(m.Order.Exclusions[j])
		}
	}
	d.Conflicts = slices.Clone(d.Conflicts)
	for i := range d.Conflicts {
		d.Conflicts[i].Fingerprint = guardstate.Shorten(d.Conflicts[i].Fingerprint)
		d.Conflicts[i].Over = guardstate.Shorten(d.Conflicts[i].Over)
	}
	d.Contradictions = slices.Clone(d.Contradictions)
	for i := range d.Contradictions {
		d.Contradictions[i].Fingerprint = guardstate.Shorten(d.Contradictions[i].Fingerprint)
	}
	d.Layers = slices.Clone(d.Layers)
	for i := range d.Layers {
		d.Layers[i].Fingerprint = guardstate.Shorten(d.Layers[i].Fingerprint)
	}
	return d
}
