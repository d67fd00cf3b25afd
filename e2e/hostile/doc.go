// Package hostile plays a compromised gateway against the real host binaries: server and coordinator as processes, honest gateways that
// are scripted but speak the real protocol, and e2e/mayhem in one seat. No Tor, machine or root is needed: what a taken-over QEMU can do
// to the host is done by any process that holds its seat.
//
// Each scenario has a phase in which the hostile gateway merely spins, and one in which it misbehaves, in one run of the same host. In
// both an honest gateway again and again gets a duplicate guard and must be told to give up exactly that one. What the misbehaviour costs
// the host, and how long honest gateways wait, is measured side by side and shown by go test -v ("figures").
//
// Trust: mayhem is the untrusted side; the tests judge by what honest gateways see in their own memory, and by what status says.
package hostile
