// Package runner is the guest agent at work: one loop owns the rotation machines
// (one per Tor) and the region, and performs what the machines ask for. It
// decides nothing about guards.
//
// Goroutines: the loop; per Tor a link, which alone talks to the control port and
// writes the include file, and a watcher of the state file; one that takes the
// guest seat, with back-off for ever; per device one that waits for the doorbell
// and one that rings. Everything that happens reaches the loop as a function to
// call in its goroutine, in order. A Tor that hangs holds up its own link only.
//
// Nothing runs while nothing happens, but the slow tick.
package runner
