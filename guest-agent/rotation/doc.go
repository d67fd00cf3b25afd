// Package rotation decides what one Tor's guest agent publishes and how it gives
// up the guards that an order names. It is a pure state machine, one per member:
// Step takes the time and an Event and returns a Ready. It has no clock,
// goroutine, file or socket; the same events give the same actions.
//
// Trust: Tor's answers are the user's own Tor's, parsed and bounded by
// guardstate. Orders come from the host, whom the guest trusts with its guards;
// still an order is refused when obeying would cut the user off.
//
// What an exclusion does to Tor, in this order, is the package's contract:
// SETCONF is answered 250 OK, THEN the include file is written, THEN circuits
// are closed, THEN the receipt says applied.
//
// Nothing durable is kept but the include file: after kill -9 at any moment
// the state is derived again from GETCONF, the include file and the order.
package rotation
