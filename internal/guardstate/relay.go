package guardstate

import (
	"net/netip"
)

// Relay is what the consensus and the microdescriptor say of one relay.
type Relay struct {
	Fingerprint Fingerprint
	Nickname    string
	Listed      bool             // in the live consensus, running and valid, with the Guard flag
	Addrs       []netip.AddrPort // every ORPort address, IPv4 first; nil if unknown
	FamilyIDs   [][32]byte       // ed25519 family identities, sorted
	Family      []Fingerprint    // declared family list, sorted; nicknames are left out
	Country     string           // two lower-case letters, "" if not asked for or unknown
}
