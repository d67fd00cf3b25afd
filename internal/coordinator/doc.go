// Package coordinator decides which member gives up which guard. It is a pure
// state machine in the manner of raft's RawNode: Step takes an Event and
// returns a Ready; the same events give the same output. It has no clock
// (events carry the time), goroutine, file or randomness, and no map's order
// shows in its output.
//
// Trust: publications come from possibly hostile gateways. They were checked
// for form (shmproto); what they say is believed only about the member itself.
// Who was first is decided by this package's own stamps, never by a date, a
// rank or a "used" that a guest states.
package coordinator
