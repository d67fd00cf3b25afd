package guardstate

import (
	"fmt"
	"strings"
)

// Stream is one stream as STREAM events and GETINFO stream-status show it. Its
// target is not kept: we need to know that a circuit carries streams, not where to.
type Stream struct {
	ID      string
	Status  string    // NEW, SENTCONNECT, SUCCEEDED, DETACHED, FAILED, CLOSED, ...
	Circuit CircuitID // "" while it is attached to none (Tor writes 0)
	Purpose string    // of an event that begins one: USER, DNS_REQUEST, DIR_FETCH, ...; "" where Tor does not say
}

// Waits reports whether the stream is a user's, as far as Tor says, and is attached
// to no circuit yet.
func (s Stream) Waits() bool {
	switch s.Status {
	case "NEW", "NEWRESOLVE", "DETACHED", "CONTROLLER_WAIT":
		return s.Circuit == "" && !strings.HasPrefix(s.Purpose, "DIR")
	}
	return false
}

// Gone reports whether the stream has ended.
func (s Stream) Gone() bool { return s.Status == "FAILED" || s.Status == "CLOSED" }

// ParseStreamStatus reads the value of GETINFO stream-status.
func ParseStreamStatus(text string) ([]Stream, error) {
	var out []Stream
	for n, line := range lines(text) {
		if line == "" {
			continue
		}
		if len(out) == maxStreams {
			return nil, fmt.Errorf("stream-status: more than %d streams", maxStreams)
		}
		s, err := ParseStream(line)
		if err != nil {
			return nil, fmt.Errorf("stream-status line %d: %w", n+1, err)
		}
		out = append(out, s)
	}
	return out, nil
}

// ParseStream reads one line of stream-status, or of a STREAM event with or
// without its "650 STREAM " or "STREAM ".
func ParseStream(line string) (Stream, error) {
	words := strings.Fields(strings.TrimPrefix(strings.TrimPrefix(line, "650 "), "STREAM "))
	if len(words) < 3 {
		return Stream{}, fmt.Errorf("stream %.60q: want an ID, a status and a circuit", line)
	}
	if len(words[0]) > 16 || len(words[1]) > maxWord {
		return Stream{}, fmt.Errorf("stream ID %.40q or status %.40q too long", words[0], words[1])
	}
	s := Stream{ID: words[0], Status: words[1]}
	for _, w := range words[min(4, len(words)):] { // after the target, which an application chooses
		if p, ok := strings.CutPrefix(w, "PURPOSE="); ok && len(p) <= maxWord {
			s.Purpose = p
		}
	}
	if words[2] != "0" {
		if s.Circuit = CircuitID(words[2]); !s.Circuit.valid() {
			return Stream{}, fmt.Errorf("stream %s: circuit ID %.40q", s.ID, words[2])
		}
	}
	return s, nil
}
