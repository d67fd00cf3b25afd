package ledger

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"

	"guardring/shmproto"
)

// formatVersion is the version of the files that this build writes, and the
// only one that it reads.
const formatVersion = 1

const (
	sumLen  = 8          // hexadecimal digits of the checksum
	lineMin = sumLen + 2 // checksum, space, newline
	lineMax = 1 << 30    // bounds what a damaged file can make us allocate
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CorruptError names a damaged place in a ledger that a crash cannot explain.
type CorruptError struct {
	File   string
	Line   int // counted from 1; 0 for the file as a whole
	Reason string
}

// Error returns "file:line: reason".
func (e *CorruptError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Reason)
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Reason)
}

// Hint says what the operator can do.
func (e *CorruptError) Hint() string {
	return "restore the file from a backup, or stop the coordinators and run \"guardring ledger rebuild\": it starts a new epoch from the guests' publications"
}

// Position says how far a term's ledger was read by its successor.
type Position struct {
	Term shmproto.Term `json:"term"`
	Cut  uint64        `json:"cut"`  // how often that file had been compacted
	Size int64         `json:"size"` // bytes read of it
}

type header struct {
	Format  int           `json:"format"`
	Epoch   epochText     `json:"epoch"`
	Term    shmproto.Term `json:"term"`
	Cut     uint64        `json:"cut"`
	Follows []Position    `json:"follows,omitempty"`
}

// appendLine appends the line of one JSON text to dst.
func appendLine(dst []byte, text []byte) []byte {
	var sum [4]byte
	s := crc32.Checksum(text, castagnoli)
	sum[0], sum[1], sum[2], sum[3] = byte(s>>24), byte(s>>16), byte(s>>8), byte(s)
	dst = hex.AppendEncode(dst, sum[:])
	dst = append(dst, ' ')
	dst = append(dst, text...)
	return append(dst, '\n')
}

// parseLine returns the JSON of one line (without its newline).
func parseLine(line []byte) ([]byte, error) {
	if len(line) < sumLen+1 || line[sumLen] != ' ' {
		return nil, fmt.Errorf("no checksum at the start of the line")
	}
	text := line[sumLen+1:]
	var want [4]byte
	if _, err := hex.Decode(want[:], line[:sumLen]); err != nil || !bytes.Equal(bytes.ToLower(line[:sumLen]), line[:sumLen]) {
		return nil, fmt.Errorf("no checksum at the start of the line")
	}
	s := crc32.Checksum(text, castagnoli)
	if [4]byte{byte(s >> 24), byte(s >> 16), byte(s >> 8), byte(s)} != want {
		return nil, fmt.Errorf("the checksum does not fit the line")
	}
	if bytes.IndexByte(text, '\r') >= 0 || !json.Valid(text) {
		return nil, fmt.Errorf("not JSON")
	}
	return text, nil
}

// zeroed reports whether a bad line can come from a crash: some of its blocks
// were not yet written when its last one was. A good line before the first zero
// byte means that its newline was damaged instead.
func zeroed(line []byte) bool {
	i := bytes.IndexByte(line, 0)
	if i < 0 {
		return false
	}
	_, err := parseLine(line[:i])
	return err != nil
}

// file is a parsed ledger file.
type file struct {
	header header
	lines  []json.RawMessage // snapshot, then steps
	ends   []int64           // where each of lines ends in the file
	size   int64             // bytes up to the end of the last whole line
	torn   bool              // there was more: a line that a crash cut off
}

// parseFile reads a ledger's content; name stands in errors.
func parseFile(name string, data []byte) (*file, error) {
	f := &file{}
	for n := 1; len(data) > 0; n++ {
		line, rest, whole := bytes.Cut(data, []byte{'\n'})
		last := len(rest) == 0
		text, err := []byte(nil), error(nil)
		if whole {
			text, err = parseLine(line)
		}
		switch {
		case last && (!whole || err != nil && zeroed(line)):
			f.torn = true
		case err != nil:
			return nil, &CorruptError{name, n, err.Error()}
		case n == 1:
			if err := json.Unmarshal(text, &f.header); err != nil {
				return nil, &CorruptError{name, n, "header: " + err.Error()}
			}
			if f.header.Format != formatVersion {
				return nil, &CorruptError{name, n, fmt.Sprintf("format %d, this build reads %d", f.header.Format, formatVersion)}
			}
		default:
			f.lines = append(f.lines, json.RawMessage(text))
			f.ends = append(f.ends, f.size+int64(len(line))+1)
		}
		if f.torn {
			break
		}
		f.size += int64(len(line)) + 1
		data = rest
	}
	// Header and snapshot are complete before the file gets its name.
	if len(f.lines) == 0 {
		return nil, &CorruptError{name, 0, "header or snapshot is missing"}
	}
	return f, nil
}
