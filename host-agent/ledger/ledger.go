package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"guardring/shmproto"
)

// point is called before every system call that changes the directory, with
// its name. Tests set it to die there.
var point = func(name string) {}

// FullError: there is no room for a record. The ledger is as it was before;
// the same call may succeed later.
type FullError struct {
	File string
	Err  error
}

// Error names the file and the system's reason.
func (e *FullError) Error() string {
	return fmt.Sprintf("%s: %v: nothing is ordered that is not durable", e.File, e.Err)
}

// Unwrap returns the system's reason.
func (e *FullError) Unwrap() error { return e.Err }

// Hint says what the operator can do.
func (e *FullError) Hint() string {
	return "free space on the ledger's file system; ordering resumes by itself"
}

// Ledger is the file of one term, open for its coordinator. Not safe for
// concurrent use.
type Ledger struct {
	dir    *Dir
	header header
	f      *os.File
	size   int64 // end of the last durable line
	start  int64 // size after the snapshot
	buf    []byte
	broken error // after a failed sync or truncation nothing can be promised
}

// Create writes the ledger of a claimed term: header and snapshot become
// durable, then get their name, so that a ledger with a name is complete.
func (d *Dir) Create(t shmproto.Term, h History, snapshot json.RawMessage) (*Ledger, error) {
	l := &Ledger{dir: d, header: header{Format: formatVersion, Epoch: epochText(d.epoch), Term: t, Follows: h.Follows}}
	if err := l.write(snapshot); err != nil {
		return nil, err
	}
	return l, nil
}

// Compact replaces the file by one that starts with snapshot, which holds what h
// says of the terms before. On error the old one stays in use.
func (l *Ledger) Compact(h History, snapshot json.RawMessage) error {
	if l.broken != nil {
		return l.broken
	}
	old, header := l.f, l.header
	l.header.Cut++
	l.header.Follows = h.Follows
	if err := l.write(snapshot); err != nil {
		l.header = header
		return err
	}
	old.Close()
	return nil
}

// Due reports whether compaction would shrink the file enough to be worth it.
func (l *Ledger) Due() bool { return l.size > 256<<10 && l.size > 4*l.start }

func (l *Ledger) name() string {
	return fileName(shmproto.Epoch(l.header.Epoch), l.header.Term, ".ledger")
}

func (l *Ledger) write(snapshot json.RawMessage) error {
	head, err := json.Marshal(l.header)
	if err != nil {
		return err
	}
	data := appendLine(appendLine(nil, head), snapshot)
	path := l.dir.file(l.name())
	tmp := path + ".tmp"
	os.Remove(tmp) // of an attempt that failed
	f, err := writeNew(tmp, data)
	if err != nil {
		return err
	}
	point("rename ledger")
	if err := unix.Rename(tmp, path); err != nil {
		f.Close()
		return fmt.Errorf("rename %s: %w", tmp, err)
	}
	// From here on path is the new file.
	l.f, l.size, l.start = f, int64(len(data)), int64(len(data))
	if err := l.dir.sync(); err != nil {
		l.broken = err
		return err
	}
	return nil
}

// Append makes one line durable. A *FullError leaves the ledger as it was; any
// other error means that nothing can be promised any more, and every later call
// fails: stand down.
func (l *Ledger) Append(text json.RawMessage) error {
	if l.broken != nil {
		return l.broken
	}
	l.buf = appendLine(l.buf[:0], text)
	point("write line")
	if _, err := l.f.WriteAt(l.buf, l.size); err != nil {
		// The count is no help: os.File.WriteAt returns 0 after half a write.
		point("truncate line")
		if terr := l.f.Truncate(l.size); terr != nil {
			l.broken = fmt.Errorf("%s: take back half a line: %w", l.f.Name(), terr)
			return l.broken
		}
		return l.full(err)
	}
	point("sync line")
	if err := unix.Fdatasync(int(l.f.Fd())); err != nil {
		l.broken = fmt.Errorf("%s: sync: %w", l.f.Name(), err)
		return l.broken
	}
	l.size += int64(len(l.buf))
	return nil
}

func (l *Ledger) full(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG) {
		return &FullError{l.dir.file(l.name()), errors.Unwrap(err)}
	}
	l.broken = err
	return err
}

// Term returns the ledger's term.
func (l *Ledger) Term() shmproto.Term { return l.header.Term }

// Name returns the file's path.
func (l *Ledger) Name() string { return l.dir.file(l.name()) }

// Size returns the bytes of the file.
func (l *Ledger) Size() int64 { return l.size }

// Close closes the file; everything in it is durable already.
func (l *Ledger) Close() error { return l.f.Close() }

// writeNew makes a new file durable under a temporary name and leaves it open;
// on error it is removed.
func writeNew(path string, data []byte) (*os.File, error) {
	point("create file")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	point("write file")
	if _, err = f.Write(data); err == nil {
		point("sync file")
		err = f.Sync()
	}
	if err != nil {
		f.Close()
		os.Remove(path)
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG) {
			return nil, &FullError{path, errors.Unwrap(err)}
		}
		return nil, err
	}
	return f, nil
}
