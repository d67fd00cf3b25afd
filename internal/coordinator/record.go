package coordinator

import (
	"cmp"
	"time"

	"guardring/shmproto"
)

// RecordVersion is the version of the records that this build writes, and the
// only one that it reads.
const RecordVersion = 1

// RecordKind says what a Record states.
type RecordKind string

// The kinds of records. Each states the whole present truth about its subject,
// so that a later record replaces an earlier one and a ledger can be cut down
// to the last of each.
const (
	RecordCounters RecordKind = "counters" // Stamp.Counter is the highest ever given out; Seq the highest of a Gateway's forgotten members
	RecordMember   RecordKind = "member"   // the member is known; Away says since when it is not shown
	RecordForget   RecordKind = "forget"   // the member is known no more, with all that belongs to it
	RecordClaim    RecordKind = "claim"    // the member claims Key since Stamp
	RecordRelease  RecordKind = "release"  // the member claims Key no more
	RecordOrder    RecordKind = "order"    // the member's order is Seq with Exclusions
	RecordBudget   RecordKind = "budget"   // the member's Account
)

// Record is one line of the ledger: what must survive a crash, and nothing
// else. The ledger's reader and writer do not interpret it.
type Record struct {
	Version  int        `json:"v"`
	Kind     RecordKind `json:"kind"`
	At       time.Time  `json:"at,omitzero"` // when it was decided (zero in a Snapshot)
	Gateway  string     `json:"gateway,omitempty"`
	Instance string     `json:"instance,omitempty"`

	Away time.Time `json:"away,omitzero"`  // member: since when it is not shown; zero while it is
	Gone bool      `json:"gone,omitempty"` // member: it has left on purpose

	Joined     uint64    `json:"joined,omitempty"`     // member: its place in the order in which members became known
	CloneOf    Member    `json:"clone_of,omitzero"`    // member: shows the same sample as this one, which was there before
	RolledBack time.Time `json:"rolled_back,omitzero"` // member: when it came back in an old state
	Freed      time.Time `json:"freed,omitzero"`       // member: when a new sample was not charged, because of a clone
	Obeyed     uint64    `json:"obeyed,omitempty"`     // member: the order that it had applied when it was last hidden
	Generation string    `json:"generation,omitempty"` // member: the generation of its VM

	Key   Key       `json:"key,omitzero"`    // claim, release
	Stamp Stamp     `json:"stamp,omitzero"`  // claim: first sight; counters: the highest counter
	Used  bool      `json:"used,omitempty"`  // claim: was in use at some time
	Left  time.Time `json:"left,omitzero"`   // claim: since when the used guard is neither in use nor primary
	Facts *Facts    `json:"facts,omitempty"` // claim: what the member stated of the guard, as far as it is compared
	// Due and Allowed: of a claim that is to be given up, when; and when the
	// operator allowed that it be done without charge.
	Due     time.Time `json:"due,omitzero"`
	Allowed time.Time `json:"allowed,omitzero"`

	Seq        uint64           `json:"seq,omitempty"`        // order; counters: the highest seq of any forgotten member
	Answers    shmproto.Answers `json:"answers,omitzero"`     // order: the publication that it was decided on
	Exclusions []Exclusion      `json:"exclusions,omitempty"` // order
	// Late: a stopped coordinator wrote it after its successor had read its ledger. Set by
	// whoever replays the ledger, in no ledger itself.
	Late bool `json:"-"`

	Account *Account `json:"account,omitempty"` // budget
}

// Stamp says when the coordinator saw a claim first. Counter alone decides who
// was first; At is for people and for nothing else.
type Stamp struct {
	Counter uint64    `json:"n"`
	At      time.Time `json:"at"`
}

// Why says for what reason a guard is in an order.
type Why string

// The reasons of an exclusion.
const (
	WhyConflict  Why = "conflict"  // the member held it, and another had it first
	WhySuccessor Why = "successor" // it would have come next, and another holds it
	WhyReserved  Why = "reserved"  // it would have come next, and another is on its way to it
	WhyPossible  Why = "possible"  // it would have come next, and may be another's primary
	WhyAdopted   Why = "adopted"   // it was in force when this epoch's first publication came (a rebuilt ledger)
)

// Exclusion is one guard of an order, with the decision that put it there.
type Exclusion struct {
	Key   Key       `json:"key"`
	Since time.Time `json:"since"`
	Why   Why       `json:"why"`
	// For is the member that keeps the guard. While the exclusion lasts, For is
	// never told to give this guard up because of the excluded member.
	For Member `json:"for"`
	// Stamp is For's claim when it was decided (zero for reserved and possible).
	Stamp Stamp `json:"stamp,omitzero"`
	// Level and Over: at which level, and over which guard of For's, where that is
	// not Key itself.
	Level Level `json:"level,omitempty"`
	Over  Key   `json:"over,omitzero"`
	// Obeyed: the member has answered an order with this exclusion with "applied".
	// It is noted when a later order is made.
	Obeyed bool `json:"obeyed,omitempty"`
}

// member names the member that the record is about.
func (r *Record) member() Member { return Member{r.Gateway, r.Instance} }

// Compare orders members by gateway, then instance: -1, 0 or +1.
func (m Member) Compare(n Member) int {
	if c := cmp.Compare(m.Gateway, n.Gateway); c != 0 {
		return c
	}
	return cmp.Compare(m.Instance, n.Instance)
}

// String returns "gateway/instance".
func (m Member) String() string { return m.Gateway + "/" + m.Instance }

// IsZero reports whether m names nobody.
func (m Member) IsZero() bool { return m == Member{} }
