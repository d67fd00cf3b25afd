package guardstate

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
)

// Fingerprint is a relay's RSA identity digest (dir-spec, "fingerprint"), 20
// bytes. It names a relay everywhere in guardring; addresses and nicknames do
// not, because their owner can change them.
type Fingerprint [20]byte

// ParseFingerprint reads 40 hexadecimal digits of either case, with or without
// the control port's leading "$". Anything after "~" or "=" (the nickname of
// control-spec's LongName) is ignored.
func ParseFingerprint(s string) (Fingerprint, error) {
	s = strings.TrimPrefix(s, "$")
	if i := strings.IndexAny(s, "~="); i >= 0 {
		s = s[:i]
	}
	var f Fingerprint
	if len(s) != hex.EncodedLen(len(f)) {
		return Fingerprint{}, fmt.Errorf("fingerprint of %d characters, want %d hexadecimal digits", len(s), hex.EncodedLen(len(f)))
	}
	if _, err := hex.Decode(f[:], []byte(s)); err != nil {
		return Fingerprint{}, fmt.Errorf("fingerprint: %w", err)
	}
	return f, nil
}

// String returns the 40 upper-case digits that Tor prints, without "$".
func (f Fingerprint) String() string { return strings.ToUpper(hex.EncodeToString(f[:])) }

// Short returns the first eight digits: enough to tell guards apart on a
// screen, and what status and logs print unless fingerprints are asked for.
func (f Fingerprint) Short() string { return Shorten(f.String()) }

// Shorten is Short for a fingerprint that is text already. Shorter text stays as
// it is.
func Shorten(fingerprint string) string { return fingerprint[:min(len(fingerprint), 8)] }

// IsZero reports whether f is the zero value, which names no relay.
func (f Fingerprint) IsZero() bool { return f == Fingerprint{} }

// Compare orders fingerprints by their bytes: -1, 0 or +1. Output that would
// otherwise follow a map's order is sorted with it.
func (f Fingerprint) Compare(g Fingerprint) int { return bytes.Compare(f[:], g[:]) }

// MarshalText and UnmarshalText make fingerprints readable in JSON.
func (f Fingerprint) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText is the reverse of MarshalText.
func (f *Fingerprint) UnmarshalText(b []byte) error {
	g, err := ParseFingerprint(string(b))
	if err != nil {
		return err
	}
	*f = g
	return nil
}
