package guardstate

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Relay is what the consensus and the microdescriptor say of one relay.
type Relay struct {
	Fingerprint Fingerprint
	Nickname    string
	Listed      bool             // in the consensus with the flags Guard, Running and Valid
	Addrs       []netip.AddrPort // every ORPort address, IPv4 first, sorted, without repetition; nil if unknown
	FamilyIDs   [][32]byte       // ed25519 family identities, sorted
	Family      []Fingerprint    // declared family list, sorted; nicknames are left out, as Tor never matches an unresolved one
	// FamilyKnown: FamilyIDs and Family are all that the relay's microdescriptor
	// declares. Not so while Tor has no microdescriptor, or if there are too many to read.
	FamilyKnown bool
	Country     string // two lower-case letters, "" if not asked for or unknown
}

// Limits of one relay. A microdescriptor with more is read in part, and its family
// is not known then.
const (
	maxRelayAddrs = 8
	maxFamily     = 1024
	maxFamilyIDs  = 16
)

// ParseRelay reads the values of GETINFO ns/id/$FP (r, a and s lines) and
// md/id/$FP (a, family and family-ids lines; "" if Tor has none). An empty ns is
// a relay that the consensus does not have: the zero Relay, no error.
func ParseRelay(ns, md string) (Relay, error) {
	var r Relay
	for n, line := range lines(ns) {
		if err := r.nsLine(line); err != nil {
			return Relay{}, fmt.Errorf("ns line %d: %w", n+1, err)
		}
	}
	if r.Fingerprint.IsZero() {
		if strings.TrimSpace(ns) != "" {
			return Relay{}, fmt.Errorf("ns entry without an r line")
		}
		return Relay{}, nil
	}
	r.FamilyKnown = strings.TrimSpace(md) != ""
	for _, line := range lines(md) {
		r.mdLine(line)
	}
	r.normalize()
	return r, nil
}

// nsLine takes one line of a router status entry (dir-spec, "r", "a", "s").
func (r *Relay) nsLine(line string) error {
	switch {
	case strings.HasPrefix(line, "r "):
		// r nickname identity digest date time IP ORPort DirPort; the digest is left out in microdescriptor consensuses.
		f := strings.Fields(line)
		if len(f) != 8 && len(f) != 9 {
			return fmt.Errorf("r line of %d words, want 8 or 9", len(f))
		}
		id, err := base64.RawStdEncoding.DecodeString(f[2])
		if err != nil || len(id) != len(r.Fingerprint) {
			return fmt.Errorf("identity %.40q", f[2])
		}
		*r = Relay{Nickname: f[1], Fingerprint: Fingerprint(id)}
		return r.addAddr(f[len(f)-3] + ":" + f[len(f)-2])
	case strings.HasPrefix(line, "a "):
		return r.addAddr(strings.TrimSpace(line[2:]))
	case strings.HasPrefix(line, "s ") || line == "s":
		f := strings.Fields(line)
		r.Listed = slices.Contains(f, "Guard") && slices.Contains(f, "Running") && slices.Contains(f, "Valid")
	}
	return nil
}

// mdLine takes one line of a microdescriptor. Its words are the relay
// operator's: what cannot be read, or names no relay, is skipped.
func (r *Relay) mdLine(line string) {
	switch {
	case strings.HasPrefix(line, "a "):
		_ = r.addAddr(strings.TrimSpace(line[2:]))
	case strings.HasPrefix(line, "family "):
		for _, name := range strings.Fields(line)[1:] {
			fp, err := ParseFingerprint(name)
			switch {
			case err != nil || fp.IsZero():
			case len(r.Family) == maxFamily:
				r.FamilyKnown = false
			default:
				r.Family = append(r.Family, fp)
			}
		}
	case strings.HasPrefix(line, "family-ids "):
		for _, id := range strings.Fields(line)[1:] {
			b64, ok := strings.CutPrefix(id, "ed25519:")
			key, err := base64.RawStdEncoding.DecodeString(b64)
			switch {
			case !ok || err != nil || len(key) != 32:
			case len(r.FamilyIDs) == maxFamilyIDs:
				r.FamilyKnown = false
			default:
				r.FamilyIDs = append(r.FamilyIDs, [32]byte(key))
			}
		}
	}
}

func (r *Relay) addAddr(s string) error {
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return fmt.Errorf("address %.60q: %w", s, err)
	}
	if ap.Port() != 0 && len(r.Addrs) < maxRelayAddrs {
		r.Addrs = append(r.Addrs, netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port()))
	}
	return nil
}

func (r *Relay) normalize() {
	r.Addrs = SortAddrs(r.Addrs)
	slices.SortFunc(r.Family, Fingerprint.Compare)
	r.Family = slices.Compact(r.Family)
	slices.SortFunc(r.FamilyIDs, func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) })
	r.FamilyIDs = slices.Compact(r.FamilyIDs)
}

// SortAddrs sorts addresses, IPv4 first, and leaves out repetitions. It reuses the slice.
func SortAddrs(addrs []netip.AddrPort) []netip.AddrPort {
	slices.SortFunc(addrs, netip.AddrPort.Compare) // netip orders by length of address first
	return slices.Compact(addrs)
}

// NetworkReader reads GETINFO ns/all line by line, which is megabytes, and keeps the
// relays with the flags Guard, Running and Valid. The zero value is ready. Lines that
// cannot be read drop their relay: one odd entry must not hide the network.
type NetworkReader struct {
	cur    Relay
	bad    bool
	guards []Relay
}

// maxNetworkGuards bounds the result: several times the network of today.
const maxNetworkGuards = 50000

// Line takes the next line. It keeps nothing of line's memory.
func (r *NetworkReader) Line(line []byte) {
	if len(line) > maxGuardLine {
		return
	}
	s := string(bytes.TrimRight(line, "\r\n"))
	if strings.HasPrefix(s, "r ") {
		r.flush()
	}
	if err := r.cur.nsLine(s); err != nil {
		r.bad = true
	}
}

// Guards ends the reading and returns the guards in the order met.
func (r *NetworkReader) Guards() []Relay {
	r.flush()
	return r.guards
}

func (r *NetworkReader) flush() {
	if r.cur.Listed && !r.bad && !r.cur.Fingerprint.IsZero() && len(r.guards) < maxNetworkGuards {
		r.cur.normalize()
		r.guards = append(r.guards, r.cur)
	}
	r.cur, r.bad = Relay{}, false
}

// parsePort reads a TCP port from 1 to 65535.
func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("port %.20q: want 1 to 65535", s)
	}
	return uint16(n), nil
}
