package runner

import (
	"fmt"
	"strings"

	"guardring/guest-agent/rotation"
	"guardring/guest-agent/torctl"
	"guardring/internal/guardstate"
)

// translate turns an event of the control port into the core's. An event that
// does not concern us is nil.
func translate(e torctl.Event) (rotation.Event, error) {
	switch e.Name {
	case "CIRC":
		c, err := guardstate.ParseCircuit(e.Text)
		if err != nil {
			return nil, err
		}
		return rotation.CircuitChanged{Circuit: c}, nil
	case "STREAM":
		s, err := guardstate.ParseStream(e.Text)
		if err != nil {
			return nil, err
		}
		return rotation.StreamChanged{Stream: s}, nil
	case "GUARD": // ENTRY $FP~nickname STATUS
		words := strings.Fields(e.Text)
		if len(words) < 3 || words[0] != "ENTRY" {
			return nil, fmt.Errorf("guard event %.80q", e.Text)
		}
		f, err := guardstate.ParseFingerprint(words[1])
		if err != nil {
			return nil, err
		}
		return rotation.GuardChanged{Fingerprint: f, Status: words[2]}, nil
	case "NEWCONSENSUS":
		return rotation.ConsensusArrived{}, nil
	case "CONF_CHANGED":
		var keys []string
		for i, l := range e.Lines {
			key, _, _ := strings.Cut(l.Text, "=")
			if i == len(e.Lines)-1 && l.Text == "OK" {
				break
			}
			keys = append(keys, key)
		}
		return rotation.ConfChanged{Keys: keys}, nil
	}
	return nil, nil
}
