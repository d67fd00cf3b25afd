// Demo is `make demo`: the main job on real Tors, on one machine, without root. With -vm (`make demo VM=1`, as root) each gateway is a
// QEMU guest with Debian's kernel, a Tor of its own and the PCI device in between; everything else is the same.
//
// It starts a private Tor network and three gateways with one Tor each. Two of them, updates and browsing, are planted
// with a common guard and use it; the third, apps, shares nothing. Then it runs `guardring run` and one
// `guardring-guest run` per gateway, and waits until Tor itself (package oracle) shows the outcome.
//
// Exit code 0 with -policy disjoint means: in-use and primary guards of all gateways are disjoint; exactly one of the two
// gateways has changed, and has lost only what was in conflict; its other guards, and all guards of the other gateways, are as before
// in the same order. With -policy observe it means: the conflict is reported by `guardring status --json`, and nothing has changed for
// the settling time.
//
// # The report
//
// The file named by -out holds one JSON object:
//
//	policy        "disjoint" or "observe"
//	ok            whether the exit code is 0
//	faults        what the oracle found wrong, as sentences; empty when ok
//	common        the planted common guard's fingerprint
//	changed       the gateways whose primary guards differ from before
//	before,after  per gateway, by name: in_use (first hops of built circuits with more than one hop, sorted), primary (in
//	              Tor's order), sample (the state file's, in sampled order, with confirmed_on): all from Tor
//	cost          guards_changed (primaries lost, over all gateways), circuits_closed (circuits through the common guard that the
//	              moved gateway's Tor reported closed), first_sight_to_last_circuit_ms (from the coordinator's first
//	              sight of the conflict to Tor's report of the last circuit through it gone), doorbells (rung by the coordinator),
//	              requests and requests_failed (made over the three Tors meanwhile, through exits)
//	coordinator   epoch, term, as `guardring status --json` says
//	status        the whole answer of `guardring status --json --show-fingerprints` at the end, with every member's sequence numbers
//	seconds       how long each phase took
//
// Fields of before, after, common, changed and cost's circuits come from Tor; epoch, term, status, doorbells and the first sight
// come from guardring.
package main
