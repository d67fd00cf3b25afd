package domainxml

import (
	"fmt"
	"strings"
)

// UUID makes a version 4 UUID (RFC 9562) from random bytes, in libvirt's form.
func UUID(random [16]byte) string {
	b := random
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// validUUID reports whether id has libvirt's own form of a UUID.
func validUUID(id string) bool {
	if len(id) != 36 {
		return false
	}
	for i, c := range []byte(id) {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (c == '-') || !dash && !strings.ContainsRune("0123456789abcdefABCDEF", rune(c)) {
			return false
		}
	}
	return true
}
