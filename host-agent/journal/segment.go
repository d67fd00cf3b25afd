package journal

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// keep is how many segments there are at most: the one that grows, and the one
// before it.
const keep = 2

// Journal is a directory of segments journal.N.jsonl, of which the highest N
// grows. It is not safe for concurrent use. Two processes may have the same
// directory: each writes to segments of its own.
type Journal struct {
	dir   string
	size  int64 // of a segment
	f     *os.File
	n     uint64
	bytes int64
	limit int64 // of the present segment
}

// New returns a journal in dir whose segments grow up to size bytes. Nothing is
// made before the first Begin.
func New(dir string, size int64) *Journal { return &Journal{dir: dir, size: size} }

// Ready reports whether a line can be appended: a segment was begun, and is not
// full.
func (j *Journal) Ready() bool { return j.f != nil && j.bytes < j.limit }

// Begin starts a new segment with its first line, which must say all that its
// readers need to know of before, and removes the oldest ones. A first line that
// takes more than half of a segment makes that segment larger, by what a half
// holds.
func (j *Journal) Begin(header []byte) error {
	j.End()
	if err := os.Mkdir(j.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	old, err := Segments(j.dir)
	if err != nil {
		return err
	}
	for _, s := range old {
		j.n = max(j.n, s.N)
	}
	// Room first: the new one may be what does not fit any more.
	for len(old) > keep-1 {
		if err := os.Remove(old[0].Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		old = old[1:]
	}
	j.n++
	path := filepath.Join(j.dir, fmt.Sprintf("journal.%d.jsonl", j.n))
	f, err := create(path, header)
	if err != nil {
		return err
	}
	j.f, j.bytes = f, int64(len(header))+1
	j.limit = max(j.size, j.bytes+j.size/2)
	return nil
}

// create makes a file that appears under its name when its first line is in it.
func create(path string, line []byte) (*os.File, error) {
	temporary := path + ".new"
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(append(slices.Clip(line), '\n'))
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		_ = f.Close()
		_ = os.Remove(temporary)
		return nil, err
	}
	return f, nil
}

// Append adds a line, which holds no newline. After an error the segment has
// ended, for what follows a gap cannot be replayed: it is Ready again after the
// next Begin.
func (j *Journal) Append(line []byte) error {
	if j.f == nil {
		return os.ErrClosed
	}
	n, err := j.f.Write(append(slices.Clip(line), '\n'))
	if err != nil {
		if n > 0 {
			_ = j.f.Truncate(j.bytes) // a reader drops the torn line if this fails
		}
		j.End()
		return err
	}
	j.bytes += int64(n)
	return nil
}

// End closes the present segment.
func (j *Journal) End() {
	if j.f != nil {
		_ = j.f.Close()
		j.f = nil
	}
}

// Segment is a file of a journal.
type Segment struct {
	N    uint64
	Path string
}

// Segments lists the segments in dir, the oldest first; none if there is no such
// directory.
func Segments(dir string) ([]Segment, error) {
	items, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []Segment
	for _, item := range items {
		rest, ok := strings.CutPrefix(item.Name(), "journal.")
		number, ok2 := strings.CutSuffix(rest, ".jsonl")
		n, err := strconv.ParseUint(number, 10, 63)
		if ok && ok2 && err == nil {
			all = append(all, Segment{n, filepath.Join(dir, item.Name())})
		}
	}
	slices.SortFunc(all, func(a, b Segment) int { return cmp.Compare(a.N, b.N) })
	return all, nil
}
