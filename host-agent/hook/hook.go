// Package hook is the file in libvirt's folder of hooks by which a gateway's start
// is stopped, with clear words, while guardring's server is away: what it says, where
// it lies, and whether it is in order. What it asks is "guardring hook run".
//
// Trust: root's folder. What lies there and was not made by us is neither replaced
// nor removed.
package hook

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"guardring/internal/hint"
)

// Dir is where libvirt looks for hooks, once, when it starts.
const Dir = "/etc/libvirt/hooks"

// Stops is the one exit code of "guardring hook run" that stops a start. Any other is
// a fault of ours (libvirtd's AppArmor profile may not let it run our program; another
// version does not know the flags), for which no domain may have to stay off.
const Stops = 3

const head = "#!/bin/sh\n# Made by \"guardring hook install\"; \"guardring hook remove\" takes it away.\n"

// Path is where the hook lies in a folder of hooks.
func Path(dir string) string { return filepath.Join(dir, "qemu.d", "guardring") }

// Text is the hook that runs the program exe with these arguments behind "hook run".
// It lets every start pass that is not a gateway's, whatever is wrong with us.
func Text(exe string, args ...string) string {
	quoted := ""
	for _, a := range args {
		if !strings.HasPrefix(a, "-") {
			a = quote(a)
		}
		quoted += " " + a
	}
	return fmt.Sprintf("%s[ \"$2\" = prepare ] && [ -x %s ] || exit 0\n%s%s -- \"$@\"\n[ $? -ne %d ] || exit 1\nexit 0\n",
		head, quote(exe), called(exe), quoted, Stops)
}

// called is how the hook calls a program.
func called(exe string) string { return quote(exe) + " hook run" }

// quote is for a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// Install writes the hook, unless it is there already; with dry it only finds out
// whether it would.
func Install(dir, text string, dry bool) (changes bool, err error) {
	path := Path(dir)
	now, err := os.ReadFile(path)
	switch {
	case err == nil && string(now) == text:
		return false, nil
	case err == nil && !strings.HasPrefix(string(now), head):
		return false, hint.Errorf("remove it, or give another --hooks-dir", "%s was not made by guardring", path)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, err
	case dry:
		return true, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, hint.Wrap(err, "run it as root")
	}
	if err := renameio.WriteFile(path, []byte(text), 0o755, renameio.IgnoreUmask()); err != nil {
		return false, hint.Wrap(err, "run it as root")
	}
	return true, nil
}

// Remove removes the hook, if there is one; with dry it only finds out whether it
// would.
func Remove(dir string, dry bool) (changes bool, err error) {
	path := Path(dir)
	now, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case !strings.HasPrefix(string(now), head):
		return false, hint.Errorf("remove it by hand if nobody needs it", "%s was not made by guardring", path)
	case dry:
		return true, nil
	}
	if err := os.Remove(path); err != nil {
		return false, hint.Wrap(err, "run it as root")
	}
	// Install may have made the folder. One with another's hooks in it stays, by this error.
	_ = os.Remove(filepath.Dir(path))
	return true, nil
}

// State is where the hook is ("" if it is not installed), and what is wrong with it;
// exe is the program that it should run.
func State(dir, exe string) (path, fault string) {
	path = Path(dir)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", ""
	case err != nil:
		return path, err.Error()
	case info.Mode().Perm()&0o111 == 0:
		return path, "it is not executable, so libvirt does not run it"
	}
	text, err := os.ReadFile(path)
	switch {
	case err != nil:
		return path, err.Error()
	case !strings.HasPrefix(string(text), head):
		return path, "it was not made by guardring"
	case !strings.Contains(string(text), "\n"+called(exe)):
		return path, "it runs another guardring than this one"
	}
	return path, ""
}
