// Package election is the lease state machine of a coordinator: who acts, who
// stands by, when the lease is taken over, in which order. It is pure: ticks
// and readings of the lease board in, actions out.
//
// Trust: the lease board is host-only memory; the other coordinator is honest
// but may be stopped at any moment and continue at any later one.
package election
