// Package shmproto is the memory protocol between a gateway's guest agents and
// the host agents: what lies where in an ivshmem region, who writes it, in
// which order, and what makes a record valid. docs/LAYOUT.md is the normative
// byte table.
//
// Trust: the two sides distrust each other. ivshmem gives every peer read and
// write access to the whole region, so any byte may change at any moment to any
// value. Every peer-written word is loaded once into a local, the local is
// checked, the local is used; payloads are copied out before they are parsed;
// nothing that aliases the mapping leaves the package; every loop is bounded.
//
// There is no read-modify-write on shared memory, because LOCK-prefixed
// instructions do not hold between a TCG guest and the host and are bus locks on
// uncached mappings: each word has one writer, and only aligned loads and
// stores with acquire and release order are used. They are assembly, for amd64
// and arm64; big-endian machines are not supported.
//
//	0x00000  header             the server: magic, versions, features, sizes, name, attachment
//	0x10000  host area 0, 1     the coordinator in that seat
//	           lease cell       epoch, term, heartbeat
//	           8 order cells    one per member slot
//	           ring             host→guest journal
//	0x30000  guest area         the gateway's agents
//	           lock             a line per writer slot
//	           ring             guest→host journal
//	           8 publication cells
//	0xc0000  reserved
//
// The server calls Format and SetAttachment. Everybody else calls Open once and
// then takes a side: Region.Host or Region.Guest. A Host or Guest is for one
// goroutine. Reads that fail leave the caller's value as it was, so the last good
// one is kept by doing nothing.
package shmproto
