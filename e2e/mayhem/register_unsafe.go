package main

import "unsafe"

// store writes a register of a PCI device with one access of 32 bits.
//
//go:noinline
func store(b []byte, off int, v uint32) { *(*uint32)(unsafe.Pointer(&b[off : off+4 : off+4][0])) = v }
