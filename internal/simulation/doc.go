// Package simulation measures what guardring buys and costs: several gateways
// live for months of virtual time, each with a model of Tor's guard selection,
// and the real coordinator core (package coordinator) decides about them as it
// does for the runner. It is pure and seeded: the same Config gives the same
// Result.
//
// What is real: every decision. What is a model, and where it simplifies, is
// said at the type in question: the network (Network), how relays and gateways
// come and go (Churn), Tor's guards (tor), the agent (gateway), and a gateway in
// the adversary's hand (hostile). docs/ANONYMITY.md gives the results.
//
// Trust: it reads no input but its Config. A consensus comes through package
// consensus, which checks it.
package simulation
