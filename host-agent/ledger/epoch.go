package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"guardring/shmproto"
)

const epochFile = "epoch"

// epochText is an epoch in a file: "1732183200000.0123456789abcdef".
type epochText shmproto.Epoch

// FormatEpoch returns the text of an epoch in file names.
func FormatEpoch(e shmproto.Epoch) string { return fmt.Sprintf("%d.%016x", e.Number, e.Random) }

// MarshalText implements encoding.TextMarshaler.
func (e epochText) MarshalText() ([]byte, error) { return []byte(FormatEpoch(shmproto.Epoch(e))), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (e *epochText) UnmarshalText(b []byte) error {
	number, random, ok := strings.Cut(string(b), ".")
	n, err1 := strconv.ParseUint(number, 10, 64)
	r, err2 := strconv.ParseUint(random, 16, 64)
	if back := FormatEpoch(shmproto.Epoch{Number: n, Random: r}); !ok || err1 != nil || err2 != nil || back != string(b) {
		return fmt.Errorf("epoch %q", b)
	}
	*e = epochText{Number: n, Random: r}
	return nil
}

// fileName is the name of a term's file: "EPOCH-TERM.ledger".
func fileName(e shmproto.Epoch, t shmproto.Term, suffix string) string {
	return fmt.Sprintf("%s-%010d%s", FormatEpoch(e), t, suffix)
}

// parseName is the reverse of fileName.
func parseName(name string) (e shmproto.Epoch, t shmproto.Term, suffix string, ok bool) {
	suffix = filepath.Ext(name)
	epoch, term, found := strings.Cut(strings.TrimSuffix(name, suffix), "-")
	n, err := strconv.ParseUint(term, 10, 64)
	if !found || err != nil || n == 0 || (*epochText)(&e).UnmarshalText([]byte(epoch)) != nil {
		return shmproto.Epoch{}, 0, "", false
	}
	return e, shmproto.Term(n), suffix, true
}

// readEpoch returns the directory's epoch.
func (d *Dir) readEpoch() (shmproto.Epoch, error) {
	path := d.file(epochFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return shmproto.Epoch{}, err
	}
	var e epochText
	text, err := parseLine([]byte(strings.TrimSuffix(string(data), "\n")))
	if err == nil {
		err = json.Unmarshal(text, &e)
	}
	if err != nil {
		return shmproto.Epoch{}, &CorruptError{path, 1, err.Error()}
	}
	return shmproto.Epoch(e), nil
}

// makeEpoch gives a new directory its epoch. Of two that do it at once one
// wins, because link(2) does not replace; both then use the winner's.
func (d *Dir) makeEpoch(e shmproto.Epoch) error {
	names, err := d.list()
	if err != nil {
		return err
	}
	if len(names) > 0 {
		return &CorruptError{d.file(epochFile), 0, "is missing beside ledgers"}
	}
	text, err := json.Marshal(epochText(e))
	if err != nil {
		return err
	}
	tmp := d.file(fmt.Sprintf("%s.%d.tmp", epochFile, os.Getpid()))
	f, err := writeNew(tmp, appendLine(nil, text))
	if err != nil {
		return err
	}
	f.Close()
	defer os.Remove(tmp)
	point("link epoch")
	if err := os.Link(tmp, d.file(epochFile)); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("name the epoch: %w", err)
	}
	return d.sync()
}

// replaceEpoch is makeEpoch for Rebuild: the old epoch ends.
func (d *Dir) replaceEpoch(e shmproto.Epoch) error {
	text, err := json.Marshal(epochText(e))
	if err != nil {
		return err
	}
	tmp := d.file(epochFile + ".tmp")
	os.Remove(tmp) // left by an interrupted rebuild
	f, err := writeNew(tmp, appendLine(nil, text))
	if err != nil {
		return err
	}
	f.Close()
	point("rename epoch")
	if err := unix.Rename(tmp, d.file(epochFile)); err != nil {
		return fmt.Errorf("rename %s: %w", tmp, err)
	}
	return d.sync()
}
