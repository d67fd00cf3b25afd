// Package guardstate models one Tor client's guards in the terms of guard-spec:
// sampled, filtered, confirmed and primary. It is pure: it parses text and
// derives sets, and touches no file, socket or clock.
//
// Trust: the text comes from the user's own Tor (state file, control port). It
// may be damaged or half-written, so every parser returns an error instead of
// guessing, and keeps what it does not know.
package guardstate
