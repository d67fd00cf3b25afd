package guardstate

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// State is Tor's state file. It prints back to exactly what was read, also lines
// and keys that we do not know.
//
// Invariant: every element of Guards belongs to one of lines.
type State struct {
	Guards     []StateGuard // in the file's order
	TorVersion string       // as written, "Tor 0.4.9.11"
	Written    time.Time    // LastWritten, UTC
	lines      []string     // every line; a Guard line is "" and rendered from its guard
	guardAt    map[int]int  // line index -> index in Guards
}

// StateGuard is one Guard line, with the state file's names. Dates are randomly
// backdated by Tor and say nothing about who was first.
type StateGuard struct {
	In            string // the selection: default, restricted or bridges
	RSAID         Fingerprint
	Nickname      string
	SampledOn     time.Time
	SampledIdx    int // -1 if not given; the order of preference
	SampledBy     string
	Listed        bool
	UnlistedSince time.Time // zero: listed, or never unlisted
	ConfirmedOn   time.Time // zero: never confirmed
	ConfirmedIdx  int       // -1 if never confirmed
	BridgeAddr    string    // "" unless a bridge
	PathBias      []Field   // the pb_ keys, in order, values as written
	Extra         []Field   // keys that we do not know, in order

	fields []Field // everything as written: what String prints
}

// Field is one key=value of a Guard line.
type Field struct{ Key, Value string }

// Confirmed reports whether the guard was used at some time.
func (g StateGuard) Confirmed() bool { return g.ConfirmedIdx >= 0 }

// Limits of a state file.
const (
	maxStateBytes = 4 << 20
	maxGuardLine  = 4096
)

const stateRemedy = "keep using the last good state; Tor writes the file anew at its next change"

// ParseState reads a state file. A damaged or half-written one is an error that
// names the line; the caller keeps its last good State. Tor replaces the file by
// rename, so half a file means that something else wrote it: it is told by a
// missing last newline, or by a missing LastWritten or TorVersion, which Tor
// always writes and, as options are sorted, after the Guard lines.
func ParseState(text string) (State, error) {
	if len(text) > maxStateBytes {
		return State{}, fmt.Errorf("state file of %d bytes, want at most %d: %s", len(text), maxStateBytes, stateRemedy)
	}
	if !strings.HasSuffix(text, "\n") {
		return State{}, fmt.Errorf("state file line %d: not ended by a newline, the file is half-written: %s", strings.Count(text, "\n")+1, stateRemedy)
	}
	s := State{lines: strings.Split(strings.TrimSuffix(text, "\n"), "\n"), guardAt: map[int]int{}}
	for n, line := range s.lines {
		key, value, _ := strings.Cut(line, " ")
		var err error
		switch key {
		case "Guard":
			var g StateGuard
			if len(s.Guards) == maxEntryGuards {
				err = fmt.Errorf("more than %d guards", maxEntryGuards)
			} else if g, err = parseStateGuard(value); err == nil {
				s.guardAt[n] = len(s.Guards)
				s.Guards = append(s.Guards, g)
			}
		case "LastWritten":
			s.Written, err = time.Parse("2006-01-02 15:04:05", strings.TrimSuffix(value, "\r"))
		case "TorVersion":
			s.TorVersion = value
		default:
			if strings.ContainsRune(line, 0) {
				err = fmt.Errorf("a zero byte")
			}
		}
		if err != nil {
			return State{}, fmt.Errorf("state file line %d: %w: %s", n+1, err, stateRemedy)
		}
	}
	if s.Written.IsZero() || s.TorVersion == "" {
		return State{}, fmt.Errorf("state file line %d: ends without LastWritten and TorVersion, the file is half-written: %s", len(s.lines), stateRemedy)
	}
	return s, nil
}

// String prints the file exactly as it was read.
func (s State) String() string {
	var b strings.Builder
	for n, line := range s.lines {
		if i, ok := s.guardAt[n]; ok {
			line = s.Guards[i].String()
		}
		b.WriteString(line)
		b.WriteByte('\n')
	}
	return b.String()
}

// String prints the Guard line exactly as it was read.
func (g StateGuard) String() string {
	var b strings.Builder
	b.WriteString("Guard")
	for _, f := range g.fields {
		b.WriteByte(' ')
		b.WriteString(f.Key)
		b.WriteByte('=')
		b.WriteString(f.Value)
	}
	return b.String()
}

func parseStateGuard(value string) (StateGuard, error) {
	if len(value) > maxGuardLine {
		return StateGuard{}, fmt.Errorf("guard of %d bytes, want at most %d", len(value), maxGuardLine)
	}
	g := StateGuard{SampledIdx: -1, ConfirmedIdx: -1}
	seen := map[string]bool{}
	for _, word := range strings.Split(value, " ") {
		key, val, ok := strings.Cut(word, "=")
		if !ok || key == "" {
			return StateGuard{}, fmt.Errorf("%.40q is not key=value", word)
		}
		f := Field{Key: key, Value: val}
		g.fields = append(g.fields, f)
		if !known[key] {
			if strings.HasPrefix(key, "pb_") {
				g.PathBias = append(g.PathBias, f)
			} else {
				g.Extra = append(g.Extra, f)
			}
			continue
		}
		if seen[key] {
			return StateGuard{}, fmt.Errorf("%s is given twice", key)
		}
		seen[key] = true
		if err := g.set(f); err != nil {
			return StateGuard{}, fmt.Errorf("%s=%.60s: %w", key, val, err)
		}
	}
	if g.In == "" || g.RSAID.IsZero() && g.BridgeAddr == "" {
		return StateGuard{}, fmt.Errorf("guard without in= and rsa_id= or bridge_addr=")
	}
	return g, nil
}

// known are the keys with a field of their own; pb_ keys and others are kept.
var known = map[string]bool{
	"in": true, "rsa_id": true, "nickname": true, "sampled_on": true, "sampled_idx": true, "sampled_by": true, "listed": true,
	"unlisted_since": true, "confirmed_on": true, "confirmed_idx": true, "bridge_addr": true,
}

func (g *StateGuard) set(f Field) (err error) {
	switch f.Key {
	case "in":
		g.In = f.Value
	case "rsa_id":
		g.RSAID, err = ParseFingerprint(f.Value)
	case "nickname":
		g.Nickname = f.Value
	case "sampled_on":
		g.SampledOn, err = parseISO(f.Value)
	case "sampled_idx":
		g.SampledIdx, err = parseIndex(f.Value)
	case "sampled_by":
		g.SampledBy = f.Value
	case "listed":
		g.Listed = f.Value != "0" // as Tor reads it
	case "unlisted_since":
		g.UnlistedSince, err = parseISO(f.Value)
	case "confirmed_on":
		g.ConfirmedOn, err = parseISO(f.Value)
	case "confirmed_idx":
		g.ConfirmedIdx, err = parseIndex(f.Value)
	case "bridge_addr":
		g.BridgeAddr = f.Value
	}
	return err
}

func parseISO(s string) (time.Time, error) { return time.Parse("2006-01-02T15:04:05", s) }

func parseIndex(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("want a number from 0 up")
	}
	return int(n), nil
}

// Selections returns the guards' fingerprints per selection name, in the file's order.
func (s State) Selections() map[string][]Fingerprint {
	out := map[string][]Fingerprint{}
	for _, g := range s.Guards {
		out[g.In] = append(out[g.In], g.RSAID)
	}
	return out
}
