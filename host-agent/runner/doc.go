// Package runner is the coordinator process: it owns the election machine and
// the coordinator core, feeds them, and does what they say, in their order.
//
// One goroutine (loop) owns all state. Around it, each attached region has two:
// one that waits for its doorbell and one that rings its guest, so that a
// hostile eventfd blocks nothing but its own gateway; and dialling happens
// aside, so that a stalled handshake blocks nobody. Everything is level-triggered:
// a doorbell only makes the loop look, and every Config.Rescan it looks anyway.
//
// Order of effects (docs/DESIGN.md): ledger durable → order in our seat → ring →
// doorbell. Before each of these groups the lease board is read, and a
// coordinator that is outranked stops there.
//
// Trust: regions are guest-writable; what is in them is read only through
// shmproto. Doorbells are paced by a token bucket per gateway. Nothing that a
// guest wrote is logged; fingerprints only if Config.ShowFingerprints is set.
package runner
