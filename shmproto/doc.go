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
// stores with acquire and release order are used.
package shmproto
