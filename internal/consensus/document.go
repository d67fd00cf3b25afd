package consensus

import (
	"fmt"
	"net/netip"
	"time"

	"guardring/internal/guardstate"
)

// Limits of what is accepted. The public network has about 8,000 relays in a
// document of 2 to 4 MiB.
const (
	MaxSize   = 32 << 20 // bytes of a document
	MaxRelays = 50_000
	MaxAddrs  = 9       // ORPort addresses of a relay: one of the r line, eight of a lines (Tor's own limit)
	maxLine   = 1 << 14 // bytes of a line that is looked into
)

// Flavour is one of the two kinds of consensus.
type Flavour string

// The flavours, as the first line names them.
const (
	NS        Flavour = "ns"
	Microdesc Flavour = "microdesc"
)

// Flags are the router status flags that matter here.
type Flags uint16

// The flags of the s line; others are skipped.
const (
	FlagGuard Flags = 1 << iota
	FlagExit
	FlagBadExit
	FlagRunning
	FlagValid
	FlagFast
	FlagStable
	FlagV2Dir
)

var flagNames = map[string]Flags{
	"Guard": FlagGuard, "Exit": FlagExit, "BadExit": FlagBadExit, "Running": FlagRunning,
	"Valid": FlagValid, "Fast": FlagFast, "Stable": FlagStable, "V2Dir": FlagV2Dir,
}

// Relay is one router status entry.
type Relay struct {
	Fingerprint guardstate.Fingerprint
	Nickname    string
	Addrs       []netip.AddrPort // ORPort addresses: the r line's, then those of the a lines
	Flags       Flags
	Bandwidth   uint64 // of the w line, in kilobytes per second; 0 without one
}

// Has reports whether r has all of the flags f.
func (r *Relay) Has(f Flags) bool { return r.Flags&f == f }

// Document is what is kept of a consensus.
type Document struct {
	Flavour    Flavour
	ValidAfter time.Time // UTC
	FreshUntil time.Time
	ValidUntil time.Time
	Relays     []Relay // in the document's order; no fingerprint twice
	// Weights are the values of the bandwidth-weights line by name (Wgg, Wgd,
	// …). Nil without such a line.
	Weights map[string]int
	// Params is the params line without its keyword, for guardstate.ParseParams.
	Params string
}

// WeightScale is what the values of the bandwidth-weights line are out of
// (dir-spec, the parameter bwweightscale's default).
const WeightScale = 10_000

// GuardWeight is the relative chance of r to be drawn into a Tor's sample:
// bandwidth times Wgg, or Wgd for an exit that is a guard (dir-spec, "computing
// bandwidth weights"; guard-spec, SAMPLE). 0 for what is no guard that runs.
// Without a bandwidth-weights line the bandwidth alone counts.
func (d *Document) GuardWeight(r *Relay) float64 {
	if !r.Has(FlagGuard | FlagRunning | FlagValid | FlagFast | FlagStable | FlagV2Dir) {
		return 0
	}
	name := "Wgg"
	if r.Has(FlagExit) && !r.Has(FlagBadExit) {
		name = "Wgd"
	}
	w, ok := d.Weights[name]
	if !ok {
		w = WeightScale
	}
	return float64(r.Bandwidth) * float64(w) / WeightScale
}

// An Error says what is wrong in which line.
type Error struct {
	Line   int // from 1; 0: the document as a whole
	Reason string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return "consensus: " + e.Reason
	}
	return fmt.Sprintf("consensus: line %d: %s", e.Line, e.Reason)
}
