package include

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"guardring/internal/plainfile"
)

// Limits of what is read. Tor has no limit of its own for sizes; a torrc is a
// few kilobytes.
const (
	maxFileSize = 1 << 20
	maxDepth    = 31 // Tor's MAX_INCLUDE_RECURSION_LEVEL
	maxFiles    = 1000
)

// Site says where one Tor's files lie. All paths are absolute.
type Site struct {
	Torrc   string // the file that Tor is started with
	Include string // our include file; alone in a folder of its own that the agent may write to
	// Folder is a folder of settings that the torrc includes with a glob (Whonix);
	// then the line goes into a small file there, not into Torrc. "" for none.
	Folder string
	// UID and GID own the include file and its folder: the agent's user, and a
	// group that Tor is in. -1 leaves the creator's.
	UID, GID int
}

// dropIn is the name of our file in Folder: it sorts before the user's
// 50_user.conf, because the first match of a policy wins.
const dropIn = "05_guardring.conf"

// holder is the file that gets our include line.
func (s Site) holder() string {
	if s.Folder != "" {
		return filepath.Join(s.Folder, dropIn)
	}
	return s.Torrc
}

// block is what Join puts before everything else in the holder.
func (s Site) block() string {
	return "# guardring: keep this line first; \"guardring-guest leave\" removes it\n%include " + s.Include + "\n"
}

func (s Site) validate() error {
	var errs []error
	for _, p := range []struct{ what, path string }{{"torrc", s.Torrc}, {"include file", s.Include}, {"settings folder", s.Folder}} {
		switch {
		case p.path == "" && p.what == "settings folder":
		case !filepath.IsAbs(p.path):
			errs = append(errs, fmt.Errorf("%s %q: the path must be absolute", p.what, p.path))
		case strings.ContainsAny(p.path, "*?[\\\"'# \t\r\n"):
			// In an %include line Tor takes these for a pattern, a quote or a comment.
			errs = append(errs, fmt.Errorf("%s %q: the path has a character that Tor would misread in %%include", p.what, p.path))
		}
	}
	return errors.Join(errs...)
}

// ReadFile reads a regular file of at most maxFileSize bytes. It waits for nobody, as
// opening a FIFO would.
func ReadFile(path string) (string, os.FileInfo, error) {
	b, st, err := plainfile.Read(path, maxFileSize)
	return string(b), st, err
}
