package coordinator

import (
	"time"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// State is the whole present truth for status, sorted throughout. It holds
// fingerprints: who shows it shortens them unless asked not to.
type State struct {
	At        time.Time        `json:"at"` // of the last event
	Policy    Policy           `json:"policy"`
	Gateways  []GatewayStatus  `json:"gateways"`
	Members   []MemberStatus   `json:"members"`
	Conflicts []ConflictStatus `json:"conflicts"`
	// Contradictions: relays of which gateways state different facts.
	Contradictions []ContradictionStatus `json:"contradictions,omitempty"`
	// Layers: relays that several members pin in a further layer (vanguards).
	Layers []LayerStatus `json:"layers,omitempty"`
}

// ContradictionStatus is a relay of which two members state different facts. At
// Level it is compared with nothing.
type ContradictionStatus struct {
	Relay guardstate.Fingerprint `json:"relay"`
	Level Level                  `json:"level"`
	One   Member                 `json:"one"`
	Other Member                 `json:"other"` // zero: the operator's consensus file
}

// LayerStatus is a relay that members pin in one layer. It is reported, nothing
// is changed.
type LayerStatus struct {
	Relay   guardstate.Fingerprint `json:"relay"`
	Layer   int                    `json:"layer"` // 2 or 3
	Members []Member               `json:"members"`
}

// BudgetStatus is what is left of one budget of a member.
type BudgetStatus struct {
	Name  BudgetName `json:"name"`
	Left  int        `json:"left"`
	Burst int        `json:"burst"`
	Next  time.Time  `json:"next,omitzero"` // when it has one more; zero: it is full
	// Waiting: what the empty budget keeps from being done: conflicts, or guards.
	Waiting int `json:"waiting,omitempty"`
}

// GatewayStatus is one gateway.
type GatewayStatus struct {
	Gateway    string    `json:"gateway"`
	Present    bool      `json:"present"`
	Violations int       `json:"violations"` // since the coordinator's start
	Stale      int       `json:"stale"`      // publications of an earlier attachment, dropped
	Quarantine time.Time `json:"quarantine,omitzero"`
	Reason     string    `json:"reason,omitempty"` // of the last violation
}

// MemberStatus is one member.
type MemberStatus struct {
	Member      Member               `json:"member"`
	Slot        int                  `json:"slot"` // -1 while it is not shown
	Away        time.Time            `json:"away,omitzero"`
	Gone        bool                 `json:"gone,omitempty"` // has left on purpose
	State       shmproto.MemberState `json:"state"`
	Selection   shmproto.Selection   `json:"selection"`
	Flags       shmproto.MemberFlags `json:"flags"`
	NumPrimary  int                  `json:"num_primary"`
	Attachment  shmproto.Attachment  `json:"attachment"`    // of the publication
	Incarnation shmproto.Incarnation `json:"incarnation"`   // of the publication
	Seq         shmproto.Seq         `json:"seq"`           // of the publication
	Seen        time.Time            `json:"seen,omitzero"` // when it came
	TorVersion  string               `json:"tor_version,omitempty"`
	Role        string               `json:"role,omitempty"`
	Budgets     []BudgetStatus       `json:"budgets,omitempty"`
	Allowed     time.Time            `json:"allowed,omitzero"`     // the operator's leave to spend more, not spent yet
	CloneOf     Member               `json:"clone_of,omitzero"`    // shows the same sample as this member, which was there before
	RolledBack  time.Time            `json:"rolled_back,omitzero"` // when it came back with a state that it had left
	Gated       bool                 `json:"gated,omitempty"`      // its streams wait at its join gate
	Guards      []GuardStatus        `json:"guards"`               // shown, claimed or excluded; first the shown ones in order of preference
	Order       OrderStatus          `json:"order"`
	Excess      int                  `json:"excess,omitempty"` // guards beyond the claims: they protect nothing
	Stuck       string               `json:"stuck,omitempty"`  // why it is in conflict and not told to move
}

// GuardStatus is one guard of a member.
type GuardStatus struct {
	Fingerprint guardstate.Fingerprint `json:"fingerprint"`
	Flags       shmproto.GuardFlags    `json:"flags"`
	Shown       bool                   `json:"shown"` // is in the member's publication
	Claim       Stamp                  `json:"claim,omitzero"`
	Used        bool                   `json:"used,omitempty"`
	Left        time.Time              `json:"left,omitzero"`
	Excluded    time.Time              `json:"excluded,omitzero"` // ordered not to be used since
}

// OrderStatus is a member's order and its answer.
type OrderStatus struct {
	Seq        shmproto.Seq           `json:"seq"` // 0: never had one
	Exclusions []Exclusion            `json:"exclusions,omitempty"`
	Answer     shmproto.ReceiptStatus `json:"answer"` // to this order; ReceiptNone while unanswered
	Reason     shmproto.ReceiptReason `json:"reason,omitempty"`
	Tries      int                    `json:"tries,omitempty"`
	Unanswered bool                   `json:"unanswered,omitempty"` // the operator was told
}

// ConflictStatus is one member's claim on what another had first.
type ConflictStatus struct {
	Key    Key       `json:"key"`           // Mover's guard
	Level  Level     `json:"level"`         // in what respect it and Over are the same
	Over   Key       `json:"over,omitzero"` // Holder's guard, where it is another relay
	Due    time.Time `json:"due,omitzero"`  // Mover will be told then
	Holder Member    `json:"holder"`        // had it first and stays
	Since  Stamp     `json:"since"`         // Holder's claim
	Mover  Member    `json:"mover"`         // came later
	Later  Stamp     `json:"later"`         // Mover's claim: the conflict exists since then
	Told   time.Time `json:"told,omitzero"` // when Mover was told to give it up
	// Answer is Mover's to the order that told it.
	Answer shmproto.ReceiptStatus `json:"answer"`
	// Reason says why Mover is not told, when it is not.
	Reason string `json:"reason,omitempty"`
}
