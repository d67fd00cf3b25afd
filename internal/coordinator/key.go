package coordinator

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
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

// levelListed is the level of index keys that never leave this package: the
// relays whose family list names the relay in the key.
const levelListed Level = 0xff

var levelNames = map[Level]string{LevelRelay: "relay", LevelFamily: "family", LevelSubnet: "subnet"}

// String names the level as ledgers and notices do.
func (l Level) String() string {
	if name, ok := levelNames[l]; ok {
		return name
	}
	return fmt.Sprintf("level(%d)", uint8(l))
}

// MarshalText writes the form of String, and nothing for the zero level.
func (l Level) MarshalText() ([]byte, error) {
	if l == 0 {
		return nil, nil
	}
	if _, ok := levelNames[l]; !ok {
		return nil, fmt.Errorf("level %d has no name", uint8(l))
	}
	return []byte(l.String()), nil
}

// UnmarshalText is the reverse of MarshalText.
func (l *Level) UnmarshalText(b []byte) error {
	switch string(b) {
	case "":
		*l = 0
	case "relay":
		*l = LevelRelay
	case "family":
		*l = LevelFamily
	case "subnet":
		*l = LevelSubnet
	default:
		return fmt.Errorf("level %.20q: want relay, family or subnet", b)
	}
	return nil
}

// Key names what guards are compared by. Claims and exclusions are on relays;
// the keys of the other levels follow from what is known of a relay (Facts). It
// is comparable, so it can be the key of a map. ID is wide enough for a family's
// ed25519 identity; a relay fills the first 20 bytes, a subnet 3 or 5.
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

// FamilyKey is the key of a family that has an ed25519 identity (family-ids in
// dir-spec).
func FamilyKey(id [32]byte) Key { return Key{LevelFamily, id} }

// GroupKey is the key of a group of relays that the operator named.
func GroupKey(name string) Key {
	return FamilyKey(sha256.Sum256([]byte("operator group " + name)))
}

// SubnetKey is the key of the /16 (IPv4) or /32 (IPv6) of a relay's address. It
// is false for an address that says nothing about where a relay is: reserved for
// documentation, private, link-local, or no unicast address. Loopback addresses
// are keys, because private test networks live there.
func SubnetKey(a netip.Addr) (Key, bool) {
	s := subnetOf(a)
	return s.key(), s != 0
}

// listedKey files the relays whose family list names f.
func listedKey(f guardstate.Fingerprint) Key {
	k := RelayKey(f)
	k.Level = levelListed
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

// String returns the level, a slash, and the fingerprint of a relay, the identity
// of a family in hex, or a subnet's prefix: "subnet/10.1.0.0/16". It is for
// ledgers and tests: logs must not show it unless the operator asks for
// fingerprints.
func (k Key) String() string {
	if f, ok := k.Relay(); ok {
		return k.Level.String() + "/" + f.String()
	}
	if k.Level == LevelSubnet {
		return k.Level.String() + "/" + subnetFrom(k).prefix().String()
	}
	return k.Level.String() + "/" + strings.ToUpper(hex.EncodeToString(k.ID[:]))
}

// MarshalText writes the form of String.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText is the reverse of MarshalText, and takes nothing else: a key has
// one text. A level that this build does not know is an error: a ledger is never
// read in part.
func (k *Key) UnmarshalText(b []byte) error {
	level, id, _ := strings.Cut(string(b), "/")
	var read Key
	switch level {
	case "relay":
		f, err := guardstate.ParseFingerprint(id)
		if err != nil {
			return fmt.Errorf("conflict key %.60q: %w", b, err)
		}
		*k = RelayKey(f) // fingerprints are read in either case
		return nil
	case "family":
		raw, err := hex.DecodeString(id)
		if err != nil || len(raw) != len(read.ID) {
			return fmt.Errorf("conflict key %.90q: want %d hex digits", b, 2*len(read.ID))
		}
		read = FamilyKey([32]byte(raw))
	case "subnet":
		p, err := netip.ParsePrefix(id)
		if err != nil {
			return fmt.Errorf("conflict key %.60q: %w", b, err)
		}
		read = prefixSubnet(p.Addr()).key()
	default:
		return fmt.Errorf("conflict key %.60q: want relay/, family/ or subnet/", b)
	}
	if read.String() != string(b) {
		return fmt.Errorf("conflict key %.90q: want %s", b, read)
	}
	*k = read
	return nil
}

// subnet is the prefix of an address in one word: the family (4 or 6) above the
// prefix's bits. Zero is none.
type subnet uint64

// subnetOf returns the subnet of a relay's address, or 0 if it says nothing about
// where a relay is. Pluggable transports put such addresses into the place of a
// bridge's. It is asked for every address of every publication, so it goes by the
// bytes.
func subnetOf(a netip.Addr) subnet {
	a = a.Unmap()
	switch {
	case a.Is4():
		b := a.As4()
		if noFact4(b) {
			return 0
		}
		return 4<<32 | subnet(binary.BigEndian.Uint16(b[:]))
	case a.Is6():
		b := a.As16()
		s := 6<<32 | subnet(binary.BigEndian.Uint32(b[:]))
		const documentation = 6<<32 | 0x20010db8
		if s == documentation || a.IsUnspecified() || b[0]&0xfe == 0xfc || b[0] == 0xff || b[0] == 0xfe && b[1]&0xc0 == 0x80 {
			return 0
		}
		return s
	}
	return 0
}

// noFact4: 0.0.0.0/8, 10/8, 100.64/10, 169.254/16, 172.16/12, 192.168/16, the
// three TEST-NETs, and 224.0.0.0 and above.
func noFact4(b [4]byte) bool {
	switch b[0] {
	case 0, 10:
		return true
	case 100:
		return b[1]&0xc0 == 64
	case 169:
		return b[1] == 254
	case 172:
		return b[1]&0xf0 == 16
	case 192:
		return b[1] == 168 || b[1] == 0 && b[2] == 2
	case 198:
		return b[1] == 51 && b[2] == 100
	case 203:
		return b[1] == 0 && b[2] == 113
	}
	return b[0] >= 224
}

// prefixSubnet is subnetOf for any address.
func prefixSubnet(a netip.Addr) subnet {
	if a.Is4() {
		b := a.As4()
		return 4<<32 | subnet(binary.BigEndian.Uint16(b[:]))
	}
	b := a.As16()
	return 6<<32 | subnet(binary.BigEndian.Uint32(b[:]))
}

func (s subnet) key() Key {
	if s == 0 {
		return Key{}
	}
	k := Key{Level: LevelSubnet}
	k.ID[0] = byte(s >> 32)
	if k.ID[0] == 4 {
		binary.BigEndian.PutUint16(k.ID[1:], uint16(s))
	} else {
		binary.BigEndian.PutUint32(k.ID[1:], uint32(s))
	}
	return k
}

// subnetFrom is the reverse of key. A key that is no subnet's gives one that
// prints as such.
func subnetFrom(k Key) subnet {
	if k.ID[0] == 4 {
		return 4<<32 | subnet(binary.BigEndian.Uint16(k.ID[1:]))
	}
	return 6<<32 | subnet(binary.BigEndian.Uint32(k.ID[1:]))
}

func (s subnet) prefix() netip.Prefix {
	if s>>32 == 4 {
		var b [4]byte
		binary.BigEndian.PutUint16(b[:], uint16(s))
		return netip.PrefixFrom(netip.AddrFrom4(b), 16)
	}
	var b [16]byte
	binary.BigEndian.PutUint32(b[:], uint32(s))
	return netip.PrefixFrom(netip.AddrFrom16(b), 32)
}
