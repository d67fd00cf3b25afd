package guardstate

import (
	"fmt"
	"slices"
	"strings"
)

// CircuitID is Tor's name of a circuit: 1 to 16 letters or digits.
type CircuitID string

// Circuit is one circuit as CIRC events and GETINFO circuit-status show it.
// bine's CircuitEvent.Path is always empty, so the raw text is read here.
type Circuit struct {
	ID         CircuitID
	Status     string        // LAUNCHED, BUILT, GUARD_WAIT, EXTENDED, FAILED or CLOSED
	Path       []Fingerprint // hops so far; the first is the guard
	BuildFlags []string      // for instance ONEHOP_TUNNEL, IS_INTERNAL, NEED_CAPACITY
	Purpose    string        // for instance GENERAL, HS_SERVICE_INTRO, CONFLUX_LINKED
	HSState    string        // for instance HSSI_ESTABLISHED
	ConfluxID  string        // the set that this circuit is a leg of, "" if none
	Reason     string        // why it FAILED or CLOSED
}

// First returns the first hop, and false while the circuit has none.
func (c Circuit) First() (Fingerprint, bool) {
	if len(c.Path) == 0 {
		return Fingerprint{}, false
	}
	return c.Path[0], true
}

// Gone reports whether the circuit has ended.
func (c Circuit) Gone() bool { return c.Status == "FAILED" || c.Status == "CLOSED" }

// OneHop reports whether the circuit is a directory fetch (BUILD_FLAGS has
// ONEHOP_TUNNEL), which is no use of a guard.
func (c Circuit) OneHop() bool { return slices.Contains(c.BuildFlags, "ONEHOP_TUNNEL") }

// Limits of what is read: far above what a Tor shows, low enough that a
// damaged control port cannot fill the memory.
const (
	maxCircuits = 8192
	maxStreams  = 65536
	maxPath     = 32
	maxWord     = 512
)

// ParseCircuitStatus reads the value of GETINFO circuit-status.
func ParseCircuitStatus(text string) ([]Circuit, error) {
	var out []Circuit
	for n, line := range lines(text) {
		if line == "" {
			continue
		}
		if len(out) == maxCircuits {
			return nil, fmt.Errorf("circuit-status: more than %d circuits", maxCircuits)
		}
		c, err := ParseCircuit(line)
		if err != nil {
			return nil, fmt.Errorf("circuit-status line %d: %w", n+1, err)
		}
		out = append(out, c)
	}
	return out, nil
}

// ParseCircuit reads one line of circuit-status, or of a CIRC event with or
// without its "650 CIRC " or "CIRC ". Unknown arguments are skipped.
func ParseCircuit(line string) (Circuit, error) {
	words, err := splitWords(strings.TrimPrefix(strings.TrimPrefix(line, "650 "), "CIRC "))
	if err != nil {
		return Circuit{}, err
	}
	if len(words) < 2 {
		return Circuit{}, fmt.Errorf("circuit %.60q without a status", line)
	}
	id := CircuitID(words[0])
	if !id.valid() {
		return Circuit{}, fmt.Errorf("circuit ID %.40q: want 1 to 16 letters or digits", words[0])
	}
	c := Circuit{ID: id, Status: words[1]}
	switch c.Status {
	case "LAUNCHED", "BUILT", "GUARD_WAIT", "EXTENDED", "FAILED", "CLOSED":
	default:
		return Circuit{}, fmt.Errorf("circuit %s: unknown status %.40q", id, c.Status)
	}
	rest := words[2:]
	if len(rest) > 0 && strings.HasPrefix(rest[0], "$") {
		if c.Path, err = parsePath(rest[0]); err != nil {
			return Circuit{}, fmt.Errorf("circuit %s: %w", id, err)
		}
		rest = rest[1:]
	}
	for _, w := range rest {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "BUILD_FLAGS":
			c.BuildFlags = strings.Split(value, ",")
		case "PURPOSE":
			c.Purpose = value
		case "HS_STATE":
			c.HSState = value
		case "CONFLUX_ID":
			c.ConfluxID = value
		case "REASON":
			c.Reason = value
		}
	}
	return c, nil
}

func parsePath(s string) ([]Fingerprint, error) {
	hops := strings.Split(s, ",")
	if len(hops) > maxPath {
		return nil, fmt.Errorf("path of %d hops, want at most %d", len(hops), maxPath)
	}
	path := make([]Fingerprint, len(hops))
	for i, h := range hops {
		var err error
		if path[i], err = ParseFingerprint(h); err != nil {
			return nil, fmt.Errorf("hop %d: %w", i+1, err)
		}
	}
	return path, nil
}

func (id CircuitID) valid() bool {
	if len(id) == 0 || len(id) > 16 {
		return false
	}
	for _, r := range id {
		if !(r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') {
			return false
		}
	}
	return true
}

// splitWords splits a control-port line at spaces; a quoted string inside a
// word (SOCKS_USERNAME="a b") is one piece, with \ escaping the next byte.
// Quotes stay in the word: nothing that we read is quoted.
func splitWords(line string) ([]string, error) {
	var words []string
	start, quoted := -1, false
	for i := 0; i < len(line); i++ {
		switch ch := line[i]; {
		case quoted && ch == '\\':
			i++
		case ch == '"':
			quoted = !quoted
			if start < 0 {
				start = i
			}
		case ch == ' ' && !quoted:
			if start >= 0 {
				words = append(words, line[start:i])
				start = -1
			}
		case start < 0:
			start = i
		}
	}
	if quoted {
		return nil, fmt.Errorf("line %.60q ends inside a quoted string", line)
	}
	if start >= 0 {
		words = append(words, line[start:])
	}
	return words, nil
}
