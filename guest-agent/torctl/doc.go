// Package torctl is the agent's end of Tor's control port (control-spec). It is
// the only importer of github.com/cretz/bine.
//
// Trust: the control port belongs to the user's own Tor, but whatever listens
// there may refuse, close, hang, answer half, or send nonsense without end.
// Every request has a deadline; past it the connection is closed, because a late
// answer would be taken for the answer of the next request. Lines and replies
// have a size limit. Another Tor's cookie, or any other file, cannot be got from us by
// naming it: a cookie that the port names must belong to whoever listens, and is only
// proved, never sent. Nothing that is read reaches a panic, and nothing that is
// sent may contain a line break.
//
// What bine does here, and what it does not: it reads replies and PROTOCOLINFO.
// It has no deadline for a request and its events block its reader when nobody
// takes them, so this package reads in one goroutine of its own, hands events to
// a bounded queue and answers to whoever asked. Its Authenticate reads any path
// that the peer names, a FIFO too, and cannot be given another cookie path, so
// authentication is here. Its reader has no limit, so a framing reader below it
// enforces limits; the same reader can drop lines that nobody wants, because a
// whole consensus would not fit the agent's memory. bine's SendRequest is
// printf-like and its CircuitEvent.Path is always empty: neither is used.
//
// SETCONF replaces a whole option; "+SETCONF" opens a multi-line body that
// hangs a naive client and is refused here.
package torctl
