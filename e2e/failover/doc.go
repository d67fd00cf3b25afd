// Package failover replaces the coordinator, by every way in which it can stop: killed, killed between two effects, stopped and
// continued, starved, asked to end, upgraded from an older build, and two started at once. Server and coordinators are the built
// binaries as processes; the gateways are played by the test in their own seats, in the real memory, without a Tor.
//
// Two kinds of proof:
//
//   - Scenarios, one for each way: replaced within three heartbeats, what the replaced one writes late has no effect, and every order is
//     accounted for: obeyed, superseded, or in status.
//   - Linearizability: several gateways claim and give up the same few guards at once while coordinators are killed and stopped at
//     random. What they asked and were told is a history, and porcupine searches for an order of all questions, within the time that
//     each took, in which every answer is right for a register per guard that knows its first holder; and for a register per gateway
//     that knows the highest term and order seen in its memory.
//
// A checker that nothing fails is worthless: changed histories, and coordinators that are built without one of their rules, are refused.
//
//	go test -tags e2e -v ./e2e/failover -run TestLinearizable -for 2m -seed 7
//
// A seed gives the same faults in the same order; when they strike is up to the machine.
//
// Trust: it judges by what gateways see in their own memory, and by what status says. It speaks the protocol by its own library.
package failover
