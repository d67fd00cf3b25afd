package include

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// ErrRelay: the Tor is a relay, which cannot be a member: Tor itself refuses
// Reachable*Addresses beside an ORPort, and would not start.
var ErrRelay = errors.New("this Tor is a relay")

// Result says what Join or Leave did, in sentences without a full stop.
type Result struct {
	Changed []string // what was changed, in order; empty: nothing had to be
	Next    []string // what the user must do now, and why
	// Folder: the include file's folder was made. A service that may only write where
	// something was when it started must be started anew.
	Folder bool
}

func (r *Result) changed(format string, args ...any) {
	r.Changed = append(r.Changed, fmt.Sprintf(format, args...))
}

func (r *Result) next(format string, args ...any) {
	r.Next = append(r.Next, fmt.Sprintf(format, args...))
}

// Join prepares a Tor: the include file with text (what an include file with
// nothing excluded holds), a backup of the torrc, the include line at its top.
// It changes nothing on a relay (ErrRelay). Run again, it does what is missing.
func Join(s Site, text string) (Result, error) {
	if err := s.validate(); err != nil {
		return Result{}, err
	}
	before, err := Inspect(s)
	if err != nil {
		return Result{}, err
	}
	if before.ORPort != "" {
		return Result{}, fmt.Errorf("%w: %s sets ORPort; nothing was changed", ErrRelay, before.ORPort)
	}
	if err := s.mayGive(); err != nil {
		return Result{}, err
	}
	var r Result
	// The file comes before the line that names it: Tor does not start without it.
	if err := r.makeInclude(s, text); err != nil {
		return r, err
	}
	if s.Folder != "" {
		err = r.addDropIn(s)
	} else {
		err = r.addBlock(s)
	}
	if err != nil {
		return r, err
	}
	after, err := Inspect(s)
	if err != nil {
		return r, err
	}
	if after.Problem != "" {
		return r, errors.New(after.Problem)
	}
	restart := len(r.Changed) > 0
	if err := r.giveFolder(s); err != nil {
		return r, err
	}
	if restart {
		if after.Sandbox {
			r.next("restart this Tor now: under Sandbox 1 it would end at its next reload, because it does not know the new file")
		} else {
			r.next("restart this Tor when it suits you; until then guardring works through the control port alone")
		}
	}
	return r, nil
}

// The folder holds the files of several instances, and each Tor runs as a user of
// its own, which reads its file at every HUP; one that cannot come to it ends
// there. So everybody may pass; who may read a file is up to the file.
const (
	folderMode = 0o751
	folderPass = 0o001
)

// mayGive refuses to give the agent a folder with what is not its own: who has the
// torrc's folder can replace the torrc, which Tor reads as root.
func (s Site) mayGive() error {
	folder := filepath.Dir(s.Include)
	st, err := os.Stat(folder)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !s.givesTo(st) {
		return nil
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(real, e.Name())
		torrc, _ := filepath.EvalSymlinks(s.Torrc) // "" if there is none
		ours := e.Type().IsRegular() && path != torrc && real != filepath.Clean(s.Folder) && (filepath.Ext(path) == ".conf" || e.Name()[0] == '.')
		if !ours && path != filepath.Join(real, filepath.Base(s.Include)) {
			return fmt.Errorf("the include file's folder %s must be its own, because it is given to the agent: it holds %s; set include: to a file in a folder of its own", folder, e.Name())
		}
	}
	return nil
}

// givesTo reports whether a folder is another user's than the agent's.
func (s Site) givesTo(st os.FileInfo) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && s.UID >= 0 && sys.Uid != uint32(s.UID)
}

// giveFolder gives the include file's folder to the agent, which may run as another
// user than when it was made. The agent replaces files whole, so the folder is
// enough; and root gives no file away in a folder that somebody else writes to.
func (r *Result) giveFolder(s Site) error {
	folder := filepath.Dir(s.Include)
	st, err := os.Stat(folder)
	if err != nil {
		return err
	}
	if !s.givesTo(st) {
		return nil
	}
	if err := os.Chown(folder, s.UID, -1); err != nil {
		return fmt.Errorf("give the include file's folder to the agent: %w", err)
	}
	r.changed("gave %s to the agent's user", folder)
	return nil
}

func (r *Result) makeInclude(s Site, text string) error {
	folder := filepath.Dir(s.Include)
	if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
		if err := os.Mkdir(folder, folderMode); err != nil {
			return fmt.Errorf("make the include file's folder: %w", err)
		}
		if err := os.Chown(folder, s.UID, s.GID); err != nil {
			return fmt.Errorf("give the include file's folder to the agent: %w", err)
		}
		r.changed("made %s", folder)
		r.Folder = true
	}
	if st, err := os.Stat(folder); err != nil {
		return err
	} else if st.Mode().Perm()&folderPass != folderPass {
		if err := os.Chmod(folder, st.Mode().Perm()|folderPass); err != nil {
			return fmt.Errorf("let every Tor through the include file's folder: %w", err)
		}
	}
	if _, exists, err := Read(s.Include); err != nil || exists {
		return err
	}
	if err := replace(s.Include, text, 0o640, ids{s.UID, s.GID}); err != nil {
		return fmt.Errorf("make the include file: %w", err)
	}
	r.changed("made %s, which excludes nothing yet", s.Include)
	return nil
}

func (r *Result) addDropIn(s Site) error {
	path := s.holder()
	text, _, err := ReadFile(path)
	switch {
	case err == nil && text == s.block():
		return nil
	case err == nil:
		return fmt.Errorf("%s exists and is not guardring's: move it away, then run join again", path)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := replace(path, s.block(), 0o644, ids{-1, -1}); err != nil {
		return fmt.Errorf("add the include line: %w", err)
	}
	r.changed("made %s, which includes %s", path, s.Include)
	return nil
}

func (r *Result) addBlock(s Site) error {
	path, text, st, err := readTorrc(s)
	if err != nil {
		return err
	}
	if without(text, s) != text {
		return nil // the line is there; Inspect says whether it is first
	}
	copyPath, made, err := backup(path, text, st)
	if err != nil {
		return fmt.Errorf("back up %s: %w", path, err)
	}
	if made {
		r.changed("copied %s to %s", path, copyPath)
	}
	if err := Replace(path, s.block()+text, st); err != nil {
		return fmt.Errorf("add the include line to %s: %w", path, err)
	}
	r.changed("added the include line at the top of %s", path)
	return nil
}

// readTorrc reads the torrc and says where it really lies: one that is a link
// must be edited there, or the rename would cut the link.
func readTorrc(s Site) (path, text string, st os.FileInfo, err error) {
	if path, err = filepath.EvalSymlinks(s.Torrc); err != nil {
		return "", "", nil, err
	}
	text, st, err = ReadFile(path)
	return path, text, st, err
}

// without returns text without our block, or without our include line alone if
// the comment was edited away.
func without(text string, s Site) string {
	if before, after, found := strings.Cut(text, s.block()); found {
		return before + after
	}
	var kept []string
	lines := strings.SplitAfter(text, "\n")
	for _, l := range lines {
		if ls := parseLines("", l); len(ls) == 1 && ls[0].key == "%include" && strings.Trim(ls[0].value, "\"") == s.Include {
			continue
		}
		kept = append(kept, l)
	}
	if len(kept) == len(lines) {
		return text
	}
	return strings.Join(kept, "")
}

const backupSuffix = ".guardring-backup"

// BackupPaths are the names that backups of a file may have, in order.
func BackupPaths(path string) []string {
	names := []string{path + backupSuffix}
	for i := 2; i <= 9; i++ {
		names = append(names, fmt.Sprintf("%s%s.%d", path, backupSuffix, i))
	}
	return names
}

// BackupName returns under which name a file's text is kept, or is to be, and
// whether a copy with the same content is there. Nothing else ever has the name.
func BackupName(path, text string) (name string, there bool, err error) {
	for _, name := range BackupPaths(path) {
		old, _, err := ReadFile(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return name, false, nil
		case err != nil:
			return "", false, err
		case old == text:
			return name, true, nil
		}
	}
	return "", false, fmt.Errorf("%d backups exist already: look at %s* and remove what you do not need", len(BackupPaths(path)), path+backupSuffix)
}

// backup copies the file beside itself under a free name, unless a copy with
// the same content is there. An existing backup is never overwritten.
func backup(path, text string, st os.FileInfo) (name string, made bool, err error) {
	name, there, err := BackupName(path, text)
	if err != nil || there {
		return name, false, err
	}
	return name, true, Replace(name, text, st)
}
