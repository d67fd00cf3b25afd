#include "textflag.h"

// LDAR and STLR for single words. The copy loop is plain loads and stores with
// a load barrier behind it, because LDAR does not hold back earlier loads: what
// was copied was loaded before anything that follows.

// func loadAcquire64(p *byte) uint64
TEXT ·loadAcquire64(SB), NOSPLIT, $0-16
	MOVD p+0(FP), R0
	LDAR (R0), R1
	MOVD R1, ret+8(FP)
	RET

// func storeRelease64(p *byte, v uint64)
TEXT ·storeRelease64(SB), NOSPLIT, $0-16
	MOVD p+0(FP), R0
	MOVD v+8(FP), R1
	STLR R1, (R0)
	RET

// func copyWords(dst, src *byte, words int)
TEXT ·copyWords(SB), NOSPLIT, $0-24
	MOVD dst+0(FP), R0
	MOVD src+8(FP), R1
	MOVD words+16(FP), R2

four:
	CMP  $4, R2
	BLT  one
	MOVD (R1), R3
	MOVD 8(R1), R4
	MOVD 16(R1), R5
	MOVD 24(R1), R6
	MOVD R3, (R0)
	MOVD R4, 8(R0)
	MOVD R5, 16(R0)
	MOVD R6, 24(R0)
	ADD  $32, R1
	ADD  $32, R0
	SUB  $4, R2
	B    four

one:
	CMP  $0, R2
	BLE  done
	MOVD (R1), R3
	MOVD R3, (R0)
	ADD  $8, R1
	ADD  $8, R0
	SUB  $1, R2
	B    one

done:
	DMB $9 // ISHLD
	RET

// func fence()
TEXT ·fence(SB), NOSPLIT, $0-0
	DMB $11 // ISH
	RET
