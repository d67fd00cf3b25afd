// Package ivshmem speaks QEMU's ivshmem client-server protocol, version 0
// (qemu, docs/specs/ivshmem-spec, "Interrupts and the client-server protocol"),
// on both sides: Handshake and Send are the server's, Dial is the client's. It
// depends on nothing outside this module but golang.org/x/sys.
//
// The protocol is a stream of messages from server to client, each an 8-byte
// little-endian signed number, some with one descriptor:
//
//	0                     the protocol's version
//	own ID                0 to 65535
//	-1       + memory     the shared memory
//	peer ID  + eventfd    another peer's doorbell, once per vector, in order
//	own ID   + eventfd    the client's own vectors, in order
//
// and later, at any time: a peer ID with an eventfd (a new peer's next vector),
// or a bare peer ID (that peer has gone). guardring's server sends neither: its
// table of peers is fixed.
//
// A server of this package may send a Refusal in place of the version.
//
// Trust: a client never sends; a server that receives a byte closes the
// connection. The client trusts the server with the region, which may still be
// a wrong or broken one, so it checks each message: version, order, ranges, and
// that a descriptor of the right kind comes exactly where one is due.
package ivshmem

// Version is the protocol's version, the first message of a handshake.
const Version = 0

// PeerID names a peer of a region (ivshmem specification: "ID", 0 to 65535).
type PeerID uint16

// Vector numbers a peer's interrupts from 0.
type Vector uint16

// memoryMark is the message that carries the shared memory.
const memoryMark = -1

// Limits that the client sets to a server.
const (
	maxVectors = 64      // of one peer
	maxPeers   = 256     // besides the client
	maxMemory  = 1 << 30 // bytes of the region
	minMemory  = 4096
)
