package ledger

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"guardring/shmproto"
)

// ErrTaken: the term exists already; another coordinator holds it.
var ErrTaken = errors.New("term is taken")

// ErrInUse: coordinators run on this directory, or a rebuild does.
var ErrInUse = errors.New("ledger directory is in use")

// Dir is a ledger directory. Safe for use by two processes, each with a Dir of
// its own; one Dir is not safe for concurrent use.
type Dir struct {
	path  string
	lock  *os.File
	epoch shmproto.Epoch
}

// Open makes the directory if need be, takes the shared lock, and makes the
// epoch of an empty one; now is the clock to name it by.
func Open(path string, now time.Time) (*Dir, error) {
	d, err := open(path, unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	d.epoch, err = d.readEpoch()
	if errors.Is(err, fs.ErrNotExist) {
		if err = d.makeEpoch(newEpoch(now)); err == nil {
			d.epoch, err = d.readEpoch()
		}
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func newEpoch(now time.Time) shmproto.Epoch {
	var random [8]byte
	rand.Read(random[:]) // never fails (crypto/rand)
	return shmproto.Epoch{Number: uint64(max(now.UnixMilli(), 1)), Random: binary.LittleEndian.Uint64(random[:])}
}

func open(path string, how int) (*Dir, error) {
	d := &Dir{path: path}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make ledger directory: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return nil, &PermissionError{path, perm}
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return nil, ownerError(path, st.Uid)
	}
	d.lock, err = os.OpenFile(d.file("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock ledger directory: %w", err)
	}
	if err := unix.Flock(int(d.lock.Fd()), how|unix.LOCK_NB); err != nil {
		d.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w", path, ErrInUse)
		}
		return nil, fmt.Errorf("lock ledger directory: %w", err)
	}
	return d, nil
}

// PermissionError: others may look into the ledger directory.
type PermissionError struct {
	Dir  string
	Mode fs.FileMode
}

// Error names the directory and its mode.
func (e *PermissionError) Error() string {
	return fmt.Sprintf("ledger directory %s has mode %04o: it lists guards per activity and must be closed to others", e.Dir, e.Mode)
}

// Hint says what the operator can do.
func (e *PermissionError) Hint() string { return "chmod 0700 " + e.Dir }

// OwnerError: it is another user's ledger. Root would make files in it, which that
// user's coordinators could not open then.
type OwnerError struct {
	Dir  string
	UID  uint32 // the directory's owner
	User string // the owner's name, "" if it has none
	Self int    // who wanted to open it
}

// ownerError asks for the owner's name when the error is made: to look it up can
// take as long as a directory service takes, and whoever formats an error does not
// expect that.
func ownerError(dir string, uid uint32) *OwnerError {
	e := &OwnerError{Dir: dir, UID: uid, Self: os.Geteuid()}
	if u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10)); err == nil {
		e.User = u.Username
	}
	return e
}

// Error names the directory and its owner.
func (e *OwnerError) Error() string {
	if e.Self != 0 {
		return fmt.Sprintf("ledger directory %s belongs to user %d, and this is user %d", e.Dir, e.UID, e.Self)
	}
	return fmt.Sprintf("ledger directory %s belongs to user %d, and this is root, whose files that user's coordinators could not open", e.Dir, e.UID)
}

// Hint says what the operator can do.
func (e *OwnerError) Hint() string {
	if e.User != "" {
		return "run it as that user: runuser -u " + e.User + " -- guardring ..."
	}
	return fmt.Sprintf("run it as user %d, or give the directory to root", e.UID)
}

// Close lets the lock go. Ledgers that were opened stay usable.
func (d *Dir) Close() error { return d.lock.Close() }

// Epoch returns the ledger's epoch.
func (d *Dir) Epoch() shmproto.Epoch { return d.epoch }

// Highest returns the highest term that anybody claimed, 0 if none.
func (d *Dir) Highest() (shmproto.Term, error) {
	names, err := d.list()
	if err != nil {
		return 0, err
	}
	var high shmproto.Term
	for _, n := range names {
		if n.epoch == d.epoch {
			high = max(high, n.term)
		}
	}
	return high, nil
}

// Claim makes the term durably ours, or returns ErrTaken.
func (d *Dir) Claim(t shmproto.Term) error {
	path := d.file(fileName(d.epoch, t, ".term"))
	point("create term")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return ErrTaken
	}
	if err != nil {
		return fmt.Errorf("claim term %d: %w", t, err)
	}
	defer f.Close()
	point("sync term")
	if err := f.Sync(); err != nil {
		return fmt.Errorf("claim term %d: %w", t, err)
	}
	return d.sync()
}

// History is what the ledgers before a term say.
type History struct {
	// Term is the newest term with a ledger, 0 if there is none.
	Term shmproto.Term
	// Lines are the JSON texts given to Create and Append, in the order in
	// which they are to be replayed.
	Lines []json.RawMessage
	// Late counts the lines after the first one that older coordinators appended after
	// their successors had read them.
	Late int
	// Follows says how far each file was read; Create keeps it.
	Follows []Position
	// Torn: a last line that a crash cut off was dropped.
	Torn bool
}

// Read returns the history of all terms below before: the newest ledger, and
// between its snapshot and its steps whatever older coordinators appended after
// their successors had read them. The error is a *CorruptError for damage.
func (d *Dir) Read(before shmproto.Term) (History, error) {
	names, err := d.list()
	if err != nil {
		return History{}, err
	}
	var h History
	for _, n := range names {
		if n.epoch == d.epoch && n.suffix == ".ledger" && n.term < before {
			h.Term = max(h.Term, n.term)
		}
	}
	if h.Term == 0 {
		return h, nil
	}
	newest, err := d.parse(h.Term)
	if err != nil {
		return History{}, err
	}
	h.Torn = newest.torn
	h.Lines = append(h.Lines, newest.lines[0])
	for _, pos := range newest.header.Follows {
		tail, now, err := d.tail(pos)
		if err != nil {
			return History{}, err
		}
		h.Lines = append(h.Lines, tail...)
		h.Late += len(tail)
		h.Follows = append(h.Follows, now)
	}
	h.Lines = append(h.Lines, newest.lines[1:]...)
	h.Follows = append(h.Follows, Position{h.Term, newest.header.Cut, newest.size})
	return h, nil
}

// Grown reports whether any ledger that h was read from has more in it now:
// then h is to be read again.
func (d *Dir) Grown(h History) (bool, error) {
	for _, pos := range h.Follows {
		tail, _, err := d.tail(pos)
		if err != nil || len(tail) > 0 {
			return err == nil, err
		}
	}
	return false, nil
}

// tail returns the lines beyond pos, and the position after them. A file that
// was compacted since then counts whole; one that is gone has none.
func (d *Dir) tail(pos Position) ([]json.RawMessage, Position, error) {
	f, err := d.parse(pos.Term)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, pos, nil
	}
	if err != nil {
		return nil, pos, err
	}
	now := Position{pos.Term, f.header.Cut, f.size}
	if f.header.Cut != pos.Cut {
		return f.lines, now, nil
	}
	for i, end := range f.ends {
		if end > pos.Size {
			return f.lines[i:], now, nil
		}
	}
	return nil, now, nil
}

func (d *Dir) parse(t shmproto.Term) (*file, error) {
	path := d.file(fileName(d.epoch, t, ".ledger"))
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f, err := parseFile(path, data)
	if err != nil {
		return nil, err
	}
	if f.header.Term != t || f.header.Epoch != epochText(d.epoch) {
		return nil, &CorruptError{path, 1, "the header names another term or epoch than the file's name"}
	}
	return f, nil
}

// Sweep removes the files of terms below keep, of other epochs, and what
// interrupted writers left. The caller's own term and its predecessor's must
// not be below keep. Errors are not fatal: what stays is swept next time.
func (d *Dir) Sweep(keep shmproto.Term) error {
	names, err := d.list()
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range names {
		if n.term < keep || n.epoch != d.epoch {
			errs = append(errs, os.Remove(d.file(n.name)))
		}
	}
	return errors.Join(errs...)
}

type entry struct {
	name   string
	epoch  shmproto.Epoch
	term   shmproto.Term
	suffix string
}

// list returns the files of all terms and epochs, sorted.
func (d *Dir) list() ([]entry, error) {
	items, err := os.ReadDir(d.path)
	if err != nil {
		return nil, fmt.Errorf("list ledger directory: %w", err)
	}
	var all []entry
	for _, item := range items {
		if e, t, suffix, ok := parseName(item.Name()); ok {
			all = append(all, entry{item.Name(), e, t, suffix})
		}
	}
	slices.SortFunc(all, func(a, b entry) int {
		return cmp.Or(a.epoch.Compare(b.epoch), cmp.Compare(a.term, b.term), cmp.Compare(a.suffix, b.suffix))
	})
	return all, nil
}

func (d *Dir) file(name string) string { return filepath.Join(d.path, name) }

// sync makes names durable.
func (d *Dir) sync() error {
	point("sync directory")
	f, err := os.Open(d.path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync ledger directory: %w", err)
	}
	return nil
}
