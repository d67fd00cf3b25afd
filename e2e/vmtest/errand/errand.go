// Package errand is how a test has things done inside a guest: requests and replies, one JSON object per line, over a
// virtio-serial port.
//
// Both sides skip a line that they cannot read: a guest that was reset leaves half a line behind. Each reply carries its request's
// token, so that a late reply is never taken for another's.
//
// Trust: a test and its own guest; neither is hostile.
package errand

import (
	"bufio"
	"encoding/json"
	"io"
	"sync"
)

// Port is the virtio-serial port's name.
const Port = "org.guardring.errand"

// Request asks for one thing: to run Argv, to write Write, to read Read, or to pass on TCP connections from Listen to Target.
type Request struct {
	Token uint64 `json:"token"`
	// Argv is a command; Stdin is what it reads.
	Argv  []string `json:"argv,omitempty"`
	Stdin []byte   `json:"stdin,omitempty"`
	// Write is a file to be written with Data and Mode.
	Write string `json:"write,omitempty"`
	Data  []byte `json:"data,omitempty"`
	Mode  uint32 `json:"mode,omitempty"`
	// Read is a file whose content is returned as Stdout.
	Read string `json:"read,omitempty"`
	// Listen is a TCP address in the guest whose connections go to the unix socket Target.
	Listen string `json:"listen,omitempty"`
	Target string `json:"target,omitempty"`
	// Cancel ends the command with this token.
	Cancel uint64 `json:"cancel,omitempty"`
}

// Reply answers a request. A reply with Hello says that the guest has started, and answers nothing.
type Reply struct {
	Token  uint64 `json:"token"`
	Stdout []byte `json:"stdout,omitempty"`
	Stderr []byte `json:"stderr,omitempty"`
	// Code is the exit code; 128+n for a command that signal n ended.
	Code int `json:"code,omitempty"`
	// Error says why the request could not be carried out at all.
	Error string `json:"error,omitempty"`
	// Hello is the kernel's boot ID.
	Hello string `json:"hello,omitempty"`
}

// Line sends values as lines. Send may be called by several goroutines.
type Line struct {
	W  io.Writer
	mu sync.Mutex
}

// Send writes one value.
func (l *Line) Send(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err = l.W.Write(append(b, '\n'))
	return err
}

// Receive calls f with every value that arrives, until the stream ends.
func Receive[T any](r io.Reader, f func(T)) error {
	in := bufio.NewReader(r)
	for {
		b, err := in.ReadBytes('\n')
		if err != nil {
			return err
		}
		var v T
		if json.Unmarshal(b, &v) == nil {
			f(v)
		}
	}
}
