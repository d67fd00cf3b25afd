package shmproto

import (
	"net/netip"

	"guardring/internal/guardstate"
)

// Limits of one region. They are part of the layout: a change needs a new
// incompatible feature bit.
const (
	MaxMembers    = 8  // members (Tor clients) of one gateway
	MaxGuards     = 60 // guards in a publication: the most that Tor samples (guard-spec, MAX_SAMPLE_SIZE)
	MaxAddrs      = 4  // ORPort addresses of one guard
	MaxLayer      = 16 // pinned guards of one further layer (HSLayer2Nodes, HSLayer3Nodes)
	MaxExclusions = 20 // guards in one order
	MaxWriters    = 4  // agents that may contend for one gateway's lock
	MaxNameLen    = 32 // bytes of a member or gateway name
)

type (
	// Attachment counts the connections of the guest seat since the region was
	// made; the server writes it.
	Attachment uint64
	// Incarnation is the random number of one start of a guest agent.
	Incarnation uint64
	// Seq counts one member's publications within an incarnation. It grows only
	// when what is compared (the guards and their flags, not receipts) changed.
	Seq uint64
	// Term counts elections within an Epoch. 0 is never a valid term.
	Term uint64
	// Generation is a lock ticket: it grows with each acquisition, see Lock.
	Generation uint64
)

// Epoch names a ledger. A rebuilt ledger has a new epoch with a higher Number.
type Epoch struct {
	Number uint64 // milliseconds since 1970 on the host when the ledger was made; orders epochs
	Random uint64 // tells apart two ledgers made in one millisecond
}

// MemberState says whether a member takes part.
type MemberState uint8

// The states of a member, as it states them itself.
const (
	MemberAbsent      MemberState = iota // the slot is free
	MemberPresent                        // publishes and obeys orders
	MemberObserveOnly                    // publishes, obeys nothing (bridges)
	MemberRefused                        // must not be a member (a relay); Guards is empty
	MemberLeft                           // has left on purpose: its exclusions are lifted, its claims may go
)

// Selection is Tor's active guard selection (guard-spec: default, restricted,
// bridges).
type Selection uint8

// The guard selections of guard-spec.
const (
	SelectionUnknown Selection = iota
	SelectionDefault
	SelectionRestricted
	SelectionBridges
)

// MemberFlags are facts about a member's Tor besides its guards.
type MemberFlags uint32

// The flags of a member.
const (
	MemberDormant         MemberFlags = 1 << iota // Tor is dormant: nothing in use does not mean "left"
	MemberAmbiguous                               // the agent has not seen this Tor's primaries being chosen: some guards are PossiblePrimary
	MemberNoConsensus                             // Tor has no live consensus
	MemberUnreachable                             // the control port does not answer: the guards are the last good ones
	MemberFewGuards                               // a firewall, EntryNodes or a small network leaves too few guards: the member refuses further exclusions
	MemberOnionService                            // Tor runs at least one onion service
	MemberTruncated                               // guards, addresses or pinned layers were left out for want of room
	MemberGated                                   // streams wait at the join gate until an order answers this incarnation (Order.Answers)
	MemberFamiliesLeftOut                         // a guard that can matter next has a family that did not fit
)

// GuardFlags are one guard's properties (guard-spec's terms).
type GuardFlags uint32

// The flags of a guard.
const (
	GuardConfirmed       GuardFlags = 1 << iota // was used at some time (history, not a sign of present use)
	GuardListed                                 // is in the consensus as a guard
	GuardFiltered                               // passes the member's filter without guardring's own exclusions
	GuardPrimary                                // is a primary guard now
	GuardPossiblePrimary                        // may be a primary guard (MemberAmbiguous), or is next in line
	GuardInUse                                  // first hop of a circuit that is not a directory fetch
	GuardExcluded                               // guardring's exclusion is in force for it
	GuardDown                                   // Tor believes that it is down
	GuardBridge                                 // a bridge: never compared
	GuardFamilyStated                           // FamilyIDs and Family are the whole truth as this Tor knows it, also when they are empty
)

// Guard is one sampled guard of a member.
type Guard struct {
	Fingerprint guardstate.Fingerprint
	Flags       GuardFlags
	Addrs       []netip.AddrPort         // ORPort addresses, IPv4 first, at most MaxAddrs
	FamilyIDs   [][32]byte               // ed25519 family identities (dir-spec, family-ids), sorted
	Family      []guardstate.Fingerprint // declared family list, sorted; mutuality is the reader's business
}

// Publication is a member's guard state: the whole current truth, not a change.
// Guards are in the member's order of preference (sampled order), best first.
type Publication struct {
	Attachment  Attachment
	Incarnation Incarnation
	Seq         Seq
	Member      string // instance name; "default" for a gateway's only Tor
	State       MemberState
	Selection   Selection
	Flags       MemberFlags
	NumPrimary  uint8  // how many primary guards this Tor keeps (guard-spec, NUM_PRIMARY_GUARDS)
	PassPercent uint8  // share of listed guards that pass the member's own filter, 0 to 100
	TorVersion  string // as GETINFO version gives it, cut to MaxNameLen
	Role        string // what the member is for, for people: "updates", "browsing"; a name (ValidName) or ""
	Receipt     Receipt
	Guards      []Guard
	// Layer2 and Layer3 are the relays that HSLayer2Nodes and HSLayer3Nodes pin
	// (vanguards), sorted, at most MaxLayer each. They are compared and reported,
	// never changed.
	Layer2, Layer3 []guardstate.Fingerprint
}

// ReceiptStatus is a member's answer to an order.
type ReceiptStatus uint8

// The answers to an order.
const (
	ReceiptNone    ReceiptStatus = iota // no order seen yet
	ReceiptPending                      // seen, being applied
	ReceiptApplied                      // Tor shows that no excluded guard is primary or carries a circuit that may get a new stream
	ReceiptRefused                      // obeying would harm (see Reason); nothing was changed
	ReceiptFailed                       // tried, Tor would not (see Reason)
)

// ReceiptReason says why an order was refused or failed. It is a number and not
// text, so that no guest writes into the host's log.
type ReceiptReason uint16

// The reasons of a refusal or failure.
const (
	ReasonNone ReceiptReason = iota
	ReasonTooFewGuards
	ReasonRestrictedSelection
	ReasonBridges
	ReasonRelay
	ReasonControlPort    // the control port is away, refuses or hangs
	ReasonSetconf        // Tor refused the option
	ReasonIncludeFile    // the include file cannot be written, or is not read by Tor, or not first
	ReasonUnknownAddress // an excluded guard's address is not known (no consensus)
	ReasonOverridden     // another controller or the user's configuration changes the option
	ReasonObserve        // the agent is configured to observe only
	ReasonStillInUse     // linger: circuits with streams still go through the guard
)

// Receipt answers one order.
type Receipt struct {
	Epoch  Epoch
	Term   Term
	Seq    Seq // the order's
	Digest [16]byte
	Status ReceiptStatus
	Reason ReceiptReason
}
