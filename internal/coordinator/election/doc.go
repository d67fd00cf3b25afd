// Package election is the lease state machine of a coordinator: who acts, who
// stands by, when the lease is taken over, in which order. It is pure: ticks
// and readings of the lease board in, actions out.
//
//	           stale, or nobody acts         Claimed             Fenced
//	standby ───────────────────────► candidate ─────► candidate ────► fenced
//	   ▲          (ClaimTerm)           │  (FenceRegions)     (ReadLedger) │
//	   │ Taken, Failed ◄────────────────┘                      LedgerRead │
//	   │ StoodDown                                          (WriteLedger) ▼
//	deposed ◄── a higher lease, Failed, Stop ── acting ◄──────────── restoring
//	                                              (Act)  LedgerWritten
//
// Why at most one coordinator has effects although either may be stopped at any
// instruction and continue at any later one: each of the actions is done
// completely before the next event is given in. A term is held by whoever made
// it durable (ClaimTerm is exclusive). FenceRegions shows the new term in every
// region before the predecessors' ledgers are read, and whoever reads an order
// reads the leases after it: an order of a lower term that is still valid for
// its reader was therefore in the ledger that ReadLedger reads, and every order
// that comes later is dropped. The machine's own readings of the board only
// make it stand down sooner; safety does not rest on them.
//
// Trust: the lease board is host-only memory; the other coordinator is honest
// but may be stopped at any moment and continue at any later one.
package election
