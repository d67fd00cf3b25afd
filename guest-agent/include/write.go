package include

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/google/renameio/v2"

	"guardring/internal/killpoint"
)

// Read returns the include file's content and whether the file is there.
func Read(path string) (text string, exists bool, err error) {
	text, _, err = ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("read include file: %w", err)
	}
	return text, true, nil
}

// Write replaces the include file's content: a temporary file beside it, sync,
// rename, sync of the folder. Mode and, where permitted, owner stay. The file
// must exist: under Sandbox 1 Tor ends at the next HUP when a file appears that
// it did not know when it started.
func Write(path, text string) error {
	st, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("include file: %w (run guardring-guest join)", err)
	}
	if err := Replace(path, text, st); err != nil {
		return writeError(err)
	}
	return nil
}

// writeError says what else than a full disk and a wrong owner may be at fault: the
// agent's unit makes only those folders writable that are there when it starts.
func writeError(err error) error {
	if errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("write include file: %w (systemctl restart guardring-guest, if its folder is new; one elsewhere than in /etc/tor/guardring needs ReadWritePaths= in the unit and a rule in local/guardring-guest)", err)
	}
	return fmt.Errorf("write include file: %w", err)
}

// Replace puts a file in the place of another one, or of none, with the mode and
// owner of like. It is there whole or not at all.
func Replace(path, text string, like os.FileInfo) error {
	return replace(path, text, like.Mode().Perm(), owner(like))
}

// ids is an owner; -1 leaves a part as it is.
type ids struct{ uid, gid int }

func owner(st os.FileInfo) ids {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return ids{int(sys.Uid), int(sys.Gid)}
	}
	return ids{-1, -1}
}

// replace puts a file in the place of another one, or of none. The temporary
// name begins with a dot, so that neither a glob nor a folder include of Tor
// ever reads it half-written.
func replace(path, text string, mode os.FileMode, own ids) error {
	p, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(mode))
	if err != nil {
		return err
	}
	defer p.Cleanup() //nolint:errcheck // after a rename there is nothing left to clean up
	if _, err := p.WriteString(text); err != nil {
		return err
	}
	if st, err := p.Stat(); err != nil {
		return err
	} else if owner(st) != own && own != (ids{-1, -1}) {
		if err := p.Chown(own.uid, own.gid); err != nil {
			return fmt.Errorf("keep the owner of %s: %w", path, err)
		}
	}
	killpoint.Here("include-temp")
	if err := p.CloseAtomicallyReplace(); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
