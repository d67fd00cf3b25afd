package coordinator

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"

	"guardring/internal/guardstate"
)

// Level says in what respect two guards are the same.
type Level uint8

// The levels, the strongest first.
const (
	LevelRelay  Level = 1 // the same relay, named by its RSA identity
	LevelFamily Level = 2 // one family: a mutual list, a family ID, or a group of the operator's
	LevelSubnet Level = 3 // one /16 (IPv4) or /32 (IPv6)
)

// String names the level as ledgers and notices do.
func (l Level) String() string {
	if l == LevelRelay {
		return "relay"
	}
	return fmt.Sprintf("level(%d)", uint8(l))
}

// Key is what is compared: two claims with the same Key are in conflict. It is
// comparable, so it can be the key of a map. ID is wide enough for a family's
// ed25519 identity; a relay fills the first 20 bytes.
type Key struct {
	Level Level
	ID    [32]byte
}

// RelayKey is the key of a relay.
func RelayKey(f guardstate.Fingerprint) Key {
	k := Key{Level: LevelRelay}
	copy(k.ID[:], f[:])
	return k
}

// Relay returns the fingerprint of a relay's key, and false for any other key.
func (k Key) Relay() (guardstate.Fingerprint, bool) {
	if k.Level != LevelRelay {
		return guardstate.Fingerprint{}, false
	}
	return guardstate.Fingerprint(k.ID[:20]), true
}

// Compare orders keys by level, then bytes: -1, 0 or +1.
func (k Key) Compare(l Key) int {
	if k.Level != l.Level {
		return int(k.Level) - int(l.Level)
	}
	return bytes.Compare(k.ID[:], l.ID[:])
}

// IsZero reports whether k is the zero value, which names nothing.
func (k Key) IsZero() bool { return k == Key{} }

// String returns "relay/" and the fingerprint. It is for ledgers and tests:
// logs must not show it unless the operator asks for fingerprints.
func (k Key) String() string {
	if f, ok := k.Relay(); ok {
		return k.Level.String() + "/" + f.String()
	}
	return k.Level.String() + "/" + strings.ToUpper(hex.EncodeToString(k.ID[:]))
}

// MarshalText writes the form of String.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText is the reverse of MarshalText. A level that this build does
// not know is an error: a ledger is never read in part.
func (k *Key) UnmarshalText(b []byte) error {
	level, id, ok := strings.Cut(string(b), "/")
	if !ok || level != LevelRelay.String() {
		return fmt.Errorf("conflict key %.60q: want relay/FINGERPRINT", b)
	}
	f, err := guardstate.ParseFingerprint(id)
	if err != nil {
		return fmt.Errorf("conflict key %.60q: %w", b, err)
	}
	*k = RelayKey(f)
	return nil
}
