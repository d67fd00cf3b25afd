package vmtest

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// qmp is a connection to QEMU's monitor (QEMU Machine Protocol). Commands are sent one at a time.
type qmp struct {
	in  *json.Decoder
	out io.Writer
	mu  sync.Mutex
}

// openQMP takes the greeting and leaves the negotiation mode.
func openQMP(rw io.ReadWriter) (*qmp, error) {
	m := &qmp{in: json.NewDecoder(rw), out: rw}
	var greeting struct{ QMP json.RawMessage }
	if err := m.in.Decode(&greeting); err != nil {
		return nil, fmt.Errorf("greeting of QEMU's monitor: %w", err)
	}
	_, err := m.do("qmp_capabilities", nil)
	return m, err
}

// do sends one command and returns what QEMU returns. Events that arrive meanwhile are passed over.
func (m *qmp) do(command string, arguments any) (json.RawMessage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{command, arguments})
	if err != nil {
		return nil, err
	}
	if _, err := m.out.Write(b); err != nil {
		return nil, fmt.Errorf("%s: %w", command, err)
	}
	for {
		var answer struct {
			Return json.RawMessage `json:"return"`
			Error  *struct {
				Desc string `json:"desc"`
			} `json:"error"`
		}
		if err := m.in.Decode(&answer); err != nil {
			return nil, fmt.Errorf("%s: %w", command, err)
		}
		if answer.Error != nil {
			return nil, fmt.Errorf("%s: %s", command, answer.Error.Desc)
		}
		if answer.Return != nil {
			return answer.Return, nil
		}
	}
}
