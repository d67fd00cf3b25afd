package include

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Leave undoes Join, also where the torrc has gone since: the include line goes first, then the include file, then
// the backup if the torrc is byte for byte what it was. If the user has edited
// the torrc since, only our line goes and the backup stays. The exclusions in
// the running Tor are the caller's to lift, before.
func Leave(s Site) (Result, error) {
	if err := s.validate(); err != nil {
		return Result{}, err
	}
	var r Result
	var err error
	if s.Folder != "" {
		err = r.dropDropIn(s)
	} else {
		err = r.dropBlock(s)
	}
	if err != nil {
		return r, err
	}
	return r, r.removeInclude(s)
}

// Forget removes the include file of a Tor whose torrc is gone, so that nothing
// reads it any more. It does nothing while there is a torrc.
func Forget(s Site) error {
	if _, err := os.Stat(s.Torrc); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return new(Result).removeInclude(s)
}

func (r *Result) removeInclude(s Site) error {
	if err := r.remove(s.Include); err != nil {
		return err
	}
	// Only an empty folder goes: it may hold other instances' files.
	folder := filepath.Dir(s.Include)
	if entries, err := os.ReadDir(folder); err == nil && len(entries) == 0 {
		if err := r.remove(folder); err != nil {
			return err
		}
	}
	return nil
}

func (r *Result) dropDropIn(s Site) error {
	path := s.holder()
	text, _, err := ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case text != s.block():
		return fmt.Errorf("%s was edited since join: remove the line \"%%include %s\" from it by hand, then run leave again", path, s.Include)
	}
	return r.remove(path)
}

func (r *Result) dropBlock(s Site) error {
	path, text, st, err := readTorrc(s)
	if errors.Is(err, fs.ErrNotExist) {
		for _, name := range BackupPaths(s.Torrc) {
			if _, err := os.Lstat(name); err == nil {
				r.next("%s is gone, and %s is what it was before join; keep it or remove it", s.Torrc, name)
			}
		}
		return nil // nothing names our file
	}
	if err != nil {
		return err
	}
	restored := without(text, s)
	if restored != text {
		if err := Replace(path, restored, st); err != nil {
			return fmt.Errorf("restore %s: %w", path, err)
		}
		r.changed("removed the include line from %s", path)
	}
	for _, name := range BackupPaths(path) {
		old, _, err := ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if old != restored {
			r.next("%s differs from %s, which you edited since; keep it or remove it", name, path)
			continue
		}
		if err := r.remove(name); err != nil {
			return err
		}
	}
	return nil
}

// remove deletes a file or an empty folder, if it is there.
func (r *Result) remove(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	r.changed("removed %s", path)
	return syncFolder(filepath.Dir(path))
}
