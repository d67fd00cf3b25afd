// Package domains makes gateways of libvirt's domains, and back: it creates,
// attaches, detaches, lists and removes them, and watches whether they run.
//
// A gateway exists twice: as a domain with our device (package domainxml writes
// it), and as a file in the configuration's gateways-dir, by which the server
// makes a region and socket and knows whose QEMU may take the seat. A command
// brings both to where they should be, step by step, in an order in which the
// server is ready before the domain can start; each step is there whole or not at
// all, and is left out when it is done already. So whatever interrupts a command,
// the same command finishes it, and a dry run is the list of steps.
//
// Trust: libvirtd, the administrator, and the files in gateways-dir. Documents of
// domains are bounded and checked by domainxml. What a guest does reaches this
// package only as its domain's state. Every call to libvirt has a limit in time.
package domains
