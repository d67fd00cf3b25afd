package journal

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"guardring/internal/plainfile"
)

// HistorySize is how large one of the two files of a gateway's history grows, in
// bytes.
const HistorySize = 256 << 10

// What is read of one file at most. A history is far smaller, and a file without content
// can have any size.
const (
	maxRead    = 1 << 30
	maxHistory = 16 * HistorySize
)

// Note appends lines, each without a newline, to a gateway's history in dir.
// gateway is a valid name (shmproto.ValidName). A gateway's own lines push out
// nobody's but its own.
func Note(dir, gateway string, lines ...[]byte) error {
	path := historyFile(dir, gateway)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		f, err = os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	text := append(bytes.Join(lines, []byte{'\n'}), '\n')
	size := st.Size()
	if size > 0 {
		// A process that was killed, or a full /run, may have left half a line.
		var last [1]byte
		if _, err := f.ReadAt(last[:], size-1); err == nil && last[0] != '\n' {
			text = append([]byte{'\n'}, text...)
		}
	}
	n, err := f.Write(text)
	if err != nil {
		if n > 0 {
			_ = f.Truncate(size)
		}
		return err
	}
	if size+int64(n) < HistorySize {
		return nil
	}
	return os.Rename(path, olderFile(dir, gateway))
}

func historyFile(dir, gateway string) string { return filepath.Join(dir, gateway+".jsonl") }

// olderFile cannot be another gateway's historyFile: it ends otherwise.
func olderFile(dir, gateway string) string { return filepath.Join(dir, gateway+".old") }

// History returns the lines of every gateway's history in dir, each gateway's in
// their order; none if there is no such directory. Lines that are cut off are
// left out.
func History(dir string) ([][]byte, error) {
	items, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all [][]byte
	for _, suffix := range []string{".old", ".jsonl"} {
		for _, item := range items {
			if filepath.Ext(item.Name()) != suffix {
				continue
			}
			lines, _, err := readLines(filepath.Join(dir, item.Name()), maxHistory)
			if errors.Is(err, fs.ErrNotExist) {
				continue // it was renamed meanwhile
			}
			if err != nil {
				return nil, err
			}
			all = append(all, lines...)
		}
	}
	return all, nil
}

// Lines reads a file of lines. torn: the last one had no end, because its writer
// was killed or is writing it; it is left out.
func Lines(path string) (lines [][]byte, torn bool, err error) { return readLines(path, maxRead) }

// readLines is Lines for the first most bytes of a file.
func readLines(path string, most int64) (lines [][]byte, torn bool, err error) {
	f, _, err := plainfile.Open(path)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return nil, false, err
	}
	whole := bytes.LastIndexByte(data, '\n') + 1
	for line := range bytes.Lines(data[:whole]) {
		if line = bytes.TrimRight(line, "\n"); len(line) > 0 {
			lines = append(lines, line)
		}
	}
	return lines, whole < len(data), nil
}
