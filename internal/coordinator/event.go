package coordinator

import (
	"time"

	"guardring/shmproto"
)

// Member names a Tor client: "gateway/instance" when printed.
type Member struct {
	Gateway  string `json:"gateway"`
	Instance string `json:"instance"`
}

// Event is a fact that happened. Times are the host's clock as the runner read
// it; the core compares them only with each other.
type Event interface {
	event()
	String() string
}

// Published: a gateway's member slot shows a new valid publication. The core
// copies what it keeps; the runner may reuse Publication afterwards.
type Published struct {
	At          time.Time
	Gateway     string
	Slot        int // member slot, 0 to shmproto.MaxMembers-1
	Publication *shmproto.Publication
}

// Tick: time passed. Retention, holds and unanswered orders are looked at.
type Tick struct{ At time.Time }

// GatewaySeen: a gateway is there: the runner has attached its region, and its
// guest seat is held. Present false: nobody is in its guest seat, so nothing in
// its region is new; or it has no region any more, because it is configured no
// more or its server has lost it.
type GatewaySeen struct {
	At      time.Time
	Gateway string
	Present bool
	// Generation is the VM generation ID of its domain, "" while it is not
	// known. It changes when a VM was cloned or rolled back.
	Generation string
}

// Allowed: the operator lets a gateway's members (or one: Instance) spend more
// than their budgets, for what is waiting now and nothing that comes later.
type Allowed struct {
	At       time.Time
	Gateway  string
	Instance string // "": all members
}

// ConsensusRead: the operator's own consensus file was read (again). What it
// says of a relay's addresses overrules every gateway; a relay that it does not
// list as a guard has no facts. Empty: there is no such file (any more).
type ConsensusRead struct {
	At     time.Time
	Guards []Facts // sorted by relay; Subnets only
}

// Violated: a gateway wrote what the protocol forbids. The runner counts; the
// core decides (quarantine after a limit, back on the next valid publication).
type Violated struct {
	At      time.Time
	Gateway string
	Slot    int
	Reason  string // from shmproto.ViolationError: our words, not the guest's
}

// Ready is what must be done now, in this order.
type Ready struct {
	// Save: append to the ledger and make durable BEFORE any order in Orders is
	// written. If saving fails, nothing else in this Ready may be done, and the
	// core must be thrown away and restored from the ledger.
	Save []Record
	// Orders: write into our own seat BEFORE any doorbell is rung. The runner
	// fills in Epoch and Term.
	Orders []SlotOrder
	// Notices: for the operator, BY NOW true (they speak of what Save holds).
	Notices []Notice
}

// SlotOrder is an order for the member in a slot of a gateway. After writing
// it, the runner appends to the ring and rings the gateway's doorbell.
type SlotOrder struct {
	Gateway string
	Slot    int
	Order   shmproto.Order
}
