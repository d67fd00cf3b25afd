// Package consensusfile reads the consensus file that the operator names, again
// whenever it has changed.
//
// Trust: the operator names the file and answers for it. Its form is checked
// (internal/consensus); signatures are not, so it must come from a Tor that the
// operator trusts. Tor replaces it by rename, so a reader sees a whole file.
package consensusfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"guardring/internal/consensus"
	"guardring/internal/hint"
)

// maxSize is the largest file that is read, in bytes; a real one has some 3 MB.
const maxSize = 64 << 20

// File is one path, and what was last seen there.
type File struct {
	path string
	seen stamp
	file fs.FileInfo // what had the name then; nil: nothing
}

type stamp struct {
	changed time.Time
	size    int64
	missing bool
	fault   string
}

// New returns the file at path, which is not read yet.
func New(path string) *File { return &File{path: path} }

// Read returns the document if the file is another than at the last Read, and
// else nil. An error names the file, what is wrong and what to do; it comes again
// only when the file has changed again.
func (f *File) Read() (*consensus.Document, error) {
	st, err := os.Stat(f.path)
	now := stamp{missing: errors.Is(err, fs.ErrNotExist)}
	switch {
	case now.missing:
		err = hint.Errorf("put it there, or write consensus: \"\"", "%s: there is no such file", f.path)
	case err == nil && !st.Mode().IsRegular():
		err = fmt.Errorf("%s is no regular file", f.path)
	case err == nil && st.Size() > maxSize:
		err = fmt.Errorf("%s has %d bytes, more than any consensus", f.path, st.Size())
	}
	if st != nil {
		now.changed, now.size = st.ModTime(), st.Size()
	}
	if err != nil {
		now.fault = err.Error()
	}
	// Two files made at once can have the same date and size.
	if now == f.seen && (st == nil || f.file != nil && os.SameFile(st, f.file)) {
		return nil, nil
	}
	f.seen, f.file = now, st
	if err != nil {
		return nil, err
	}
	data, err := read(f.path)
	if err != nil {
		return nil, err
	}
	doc, err := consensus.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.path, err)
	}
	return doc, nil
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxSize))
}
