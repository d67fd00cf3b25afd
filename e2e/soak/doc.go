// Package soak runs three gateways with real Tors for a long time, while everything is killed and stopped at random: agents,
// coordinators, the server with its descriptor store, Tors. Again and again one gateway leaves, gets a guard of another one planted as its
// own, and joins anew. At the end of each round Tor itself must show that exactly this guard was given up, and nothing else; at the end
// of all, that nothing has leaked, and that ledger and journal are consistent.
//
//	go test -tags e2e -v -timeout 40m ./e2e/soak -for 20m -seed 7
//
// A seed gives the same faults in the same order; when they strike is up to the machine.
//
// Trust: it drives the built binaries from outside; the oracle is Tor.
package soak
