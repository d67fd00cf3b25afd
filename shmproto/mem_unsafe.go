package shmproto

import "unsafe"

// The four ways in which this package touches shared memory. They are assembly
// because Go's atomic stores are XCHG on amd64, a locked read-modify-write, and
// because the compiler may split, merge or repeat plain Go accesses. The
// assembly is also invisible to the race detector, which would otherwise report
// every copy that a peer overlaps; the checksum of each record is what decides.
//
// The operands point into slices whose bounds were checked by the caller; see
// load, store, copyIn and copyOut.

//go:noescape
func loadAcquire64(p *byte) uint64

//go:noescape
func storeRelease64(p *byte, v uint64)

// copyWords copies whole 8-byte words with plain moves, in ascending order.
//
//go:noescape
func copyWords(dst, src *byte, words int)

// fence is a full barrier: no access moves across it in either direction.
func fence()

// store and copyIn are all stores into shared memory. They are variables so that
// a test's child process can count the stores and die at the n-th one, word by
// word, in the same binary that runs all other tests. An assembly function is
// never inlined, so production code pays one indirect call more, a few times a
// record.
var (
	// store writes the word at offset off of shared memory b, with release order.
	store = storeShared
	// copyIn copies len(src)/8 words of the private src to offset off of shared
	// memory b. The stores have no order among themselves; a store behind them has.
	copyIn = copyShared
)

func storeShared(b []byte, off int, v uint64) { storeRelease64(&b[off:][:8][0], v) }

func copyShared(b []byte, off int, src []byte) {
	if n := len(src) / 8; n > 0 {
		copyWords(&b[off:][:8*n][0], &src[0], n)
	}
}

// load returns the word at offset off of shared memory b, with acquire order.
func load(b []byte, off int) uint64 { return loadAcquire64(&b[off:][:8][0]) }

// copyOut copies len(dst)/8 words from offset off of shared memory b into the
// private dst. All of it is loaded before anything that follows.
func copyOut(dst, b []byte, off int) {
	if n := len(dst) / 8; n > 0 {
		copyWords(&dst[0], &b[off:][:8*n][0], n)
	}
}

// aligned reports whether b starts at a multiple of 8, as a mapping always does.
// Only aligned words are loaded and stored in one piece.
func aligned(b []byte) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(b)))%8 == 0
}

// Fence orders all of the caller's earlier loads and stores before all its
// later ones. A coordinator that takes over calls it between storing its lease
// and reading the ledger.
func Fence() { fence() }
