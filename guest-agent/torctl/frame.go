package torctl

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
)

// Limits of what a control port may send. A circuit list of a busy client is
// some hundred kilobytes, a consensus three megabytes.
const (
	maxLine  = 256 << 10 // bytes of one line
	maxKept  = 4 << 20   // bytes of one reply that are kept
	maxReply = 64 << 20  // bytes of one reply, with the lines that a filter drops
)

// ErrTooLarge marks a line or reply beyond the limits. The connection is closed.
var ErrTooLarge = errors.New("control port reply too large")

// frames is a reader between the socket and bine. It gives at most one line per
// Read, so that nothing is read ahead of the reply that is being parsed, and
// enforces the limits. It follows the framing of replies only so far as needed:
// where one ends, and which lines are data.
type frames struct {
	src     *bufio.Reader
	line    []byte // the current line, with its end
	pending []byte // the part of line that was not handed out yet

	inData  bool // between "250+key=" and "."
	inReply bool
	event   bool // the reply is an event: its lines are never dropped
	kept    int
	total   int

	// keep is set while a request that wants only some data lines is under way.
	keep atomic.Pointer[func(line []byte) bool]
}

func newFrames(r io.Reader) *frames { return &frames{src: bufio.NewReader(r)} }

// Read implements io.Reader.
func (f *frames) Read(p []byte) (int, error) {
	for len(f.pending) == 0 {
		wanted, err := f.next()
		if err != nil {
			return 0, err
		}
		if wanted {
			f.pending = f.line
		}
	}
	n := copy(p, f.pending)
	f.pending = f.pending[n:]
	return n, nil
}

// next reads one line and reports whether it is to be handed out.
func (f *frames) next() (bool, error) {
	if cap(f.line) > 16<<10 {
		f.line = nil // a long line's buffer is not kept for ever
	}
	f.line = f.line[:0]
	for {
		part, err := f.src.ReadSlice('\n')
		if len(f.line)+len(part) > maxLine {
			return false, fmt.Errorf("%w: a line of more than %d bytes", ErrTooLarge, maxLine)
		}
		f.line = append(f.line, part...)
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			if errors.Is(err, io.EOF) && len(f.line) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return false, err
		}
	}
	if !f.inReply {
		f.inReply, f.kept, f.total = true, 0, 0
		f.event = bytes.HasPrefix(f.line, []byte("650"))
	}
	if f.total += len(f.line); f.total > maxReply {
		return false, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, maxReply)
	}
	// One form of line end, so that bine and we agree on where a data reply ends:
	// net/textproto does not see a "." after an empty line that ends in a bare LF.
	text := bytes.TrimSuffix(bytes.TrimSuffix(f.line, []byte("\n")), []byte("\r"))
	f.line = append(text, '\r', '\n')
	text = f.line[:len(text)]
	switch {
	case f.inData && len(text) == 1 && text[0] == '.':
		f.inData = false
	case f.inData:
		if keep := f.keep.Load(); keep != nil && !f.event && !(*keep)(text) {
			return false, nil
		}
	case len(text) > 3 && text[3] == '+':
		f.inData = true
	case len(text) > 3 && text[3] == '-':
	default:
		f.inReply = false // the last line, or nonsense that bine will refuse
	}
	if f.kept += len(f.line); f.kept > maxKept {
		return false, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, maxKept)
	}
	return true, nil
}
