// Package tornet runs a private Tor network on loopback: three directory authorities, guards, exits, and clients with
// control sockets. Nothing in it talks to an address outside 127.0.0.0/8 and ::1, or, if Config.Routable is set, outside the caller's network
// namespace.
//
// It exists so that tests and the demo meet real Tors. Its control client is its own and small: an oracle that used the
// code under test would prove nothing.
//
// Trust: everything runs as the caller's user on the caller's machine. Control answers are parsed strictly; a Tor that
// does not answer within its deadline is an error, never a wait for ever.
//
// Node N lives at 127.(10+N).0.1, so that every relay has a /16 of its own without any interface set-up; Config.SameSubnet puts some of
// them into one. All processes
// are children that die with us (Pdeathsig, __OwningControllerProcess), and Network.Stop ends them in every case.
package tornet
