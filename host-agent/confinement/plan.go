package confinement

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/renameio/v2"

	"guardring/apparmor"
	"guardring/internal/hint"
)

// Options are what Install and Remove are told.
type Options struct {
	// Configured is the text of the file apparmor.Configured; "" for none.
	Configured string
	// DryRun: say what would be done, and change nothing.
	DryRun bool
	// Force: also replace or remove a file of ours that is not as this build has it.
	Force bool
	// Keep is for a package whose files these are: what lies there stays, whatever is
	// in it, what does not lie there stays away, and what there is is loaded. Only the
	// configuration's file is written.
	Keep bool
}

// Step is one thing that is done, or found done.
type Step struct {
	// Action is "write", "replace", "keep" (it differs from this build's, and stays),
	// "remove", "load", "reload" (the kernel has one of this name) or "unload".
	Action string `json:"action"`
	// Target is a path, or the name of a profile in the kernel.
	Target string `json:"target"`
	// Text is what is written; "" if nothing is.
	Text string `json:"text,omitempty"`
	// Done: it was so already, and nothing was changed.
	Done bool `json:"done"`

	mode fs.FileMode // of the file that is replaced or removed
	old  string
}

// Report is what was done, or with DryRun would be.
type Report struct {
	DryRun bool   `json:"dry_run"`
	Steps  []Step `json:"steps"`
	// Notes say what was left out and why: whole sentences for the admin.
	Notes []string `json:"notes"`
}

func (r *Report) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// wanted are the files that there should be; the one of the configuration has no text
// if there should be none.
func wanted(o Options) []apparmor.File {
	return append([]apparmor.File{{Name: apparmor.Configured, Text: o.Configured}}, apparmor.HostFiles()...)
}

// look reads what lies in the place of one of our files. What we did not make is an
// error, and without force also what this build would not have made.
func (s System) look(f apparmor.File, force bool) (text string, mode fs.FileMode, there bool, err error) {
	path := s.file(f.Name)
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", 0, false, nil
	case err != nil:
		return "", 0, false, err
	case !info.Mode().IsRegular():
		return "", 0, false, hint.Errorf("move it away, or leave it and do without this command", "%s is no regular file", path)
	}
	b, err := os.ReadFile(path)
	switch {
	case err != nil:
		return "", 0, false, err
	case !apparmor.Ours(string(b)):
		return "", 0, false, hint.Errorf("move it away, or leave it and do without this command", "%s was not made by guardring", path)
	case string(b) != f.Text && !force && f.Name != apparmor.Configured:
		return "", 0, false, hint.Errorf("if it is an older version, add --force; if somebody has edited it, first move the additions to "+filepath.Join(apparmor.Dir, "local"),
			"%s is not as this build of guardring has it", path)
	}
	return string(b), info.Mode().Perm(), true, nil
}

// kept is one of our files as it lies there, for Options.Keep.
func (s System) kept(f apparmor.File) (step Step, there bool, err error) {
	path := s.file(f.Name)
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Step{}, false, nil
	case err != nil:
		return Step{}, false, err
	case string(b) != f.Text:
		return Step{Action: "keep", Target: path, Done: true}, true, nil
	}
	return Step{Action: "write", Target: path, Done: true}, true, nil
}

// write puts a file in place as a whole.
func (s Step) write() error {
	return asRoot(replace(s.Target, s.Text, 0o644))
}

// replace makes a file beside its place, whatever the environment says of temporary
// files, and moves it there.
func replace(path, text string, mode fs.FileMode) error {
	return renameio.WriteFile(path, []byte(text), mode, renameio.IgnoreUmask(), renameio.WithTempDir(filepath.Dir(path)))
}

// undo brings back what a step has replaced, made or removed.
func (s Step) undo() error {
	switch s.Action {
	case "write":
		return os.Remove(s.Target)
	case "replace", "remove":
		return replace(s.Target, s.old, s.mode)
	}
	return nil
}

// undoAll undoes steps, the last first, and joins what fails to the error that is
// the reason.
func undoAll(steps []Step, why error) error {
	for _, step := range slices.Backward(steps) {
		if err := step.undo(); err != nil {
			why = errors.Join(why, fmt.Errorf("bring back %s: %w", step.Target, err))
		}
	}
	return why
}

func asRoot(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return hint.Wrap(err, "run it as root")
	}
	return err
}
