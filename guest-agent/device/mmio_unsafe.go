package device

import "unsafe"

// load32 reads a device register with one 32-bit access.
//
//go:noinline
func load32(b []byte, off int) uint32 { return *(*uint32)(unsafe.Pointer(&b[off : off+4 : off+4][0])) }

// store32 writes a device register with one 32-bit access. Not inlined, so that
// the compiler can join it with nothing. Not sync/atomic: that is an XCHG on
// amd64, and a register is no place for a locked read-modify-write. Earlier stores
// to the region are ordered before it: by the processor on amd64, and by the full
// barrier in shmproto's Append elsewhere.
//
//go:noinline
func store32(b []byte, off int, v uint32) { *(*uint32)(unsafe.Pointer(&b[off : off+4 : off+4][0])) = v }
