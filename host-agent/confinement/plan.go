package confinement

import (
	"context"
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

// Install puts the profiles in place and has the kernel load them. When anything
// fails, files and kernel are as they were. What is there already is left as it is.
func (s System) Install(ctx context.Context, o Options) (Report, error) {
	r := Report{DryRun: o.DryRun, Notes: []string{}}
	if _, err := os.Stat(s.path(apparmor.Dir)); err != nil {
		return Report{}, hint.Wrap(err, "apt-get install apparmor")
	}
	if err := s.inside(); err != nil {
		return Report{}, err
	}
	kernel, err := s.Kernel()
	if err != nil {
		return Report{}, err
	}
	var changes []Step // of files
	var profiles []string
	var faults []error
	for _, f := range wanted(o) {
		if o.Keep && f.Name != apparmor.Configured {
			kept, there, err := s.kept(f)
			if err != nil {
				faults = append(faults, err)
			} else if there {
				changes = append(changes, kept)
				profiles = append(profiles, f.Profile)
			} else {
				r.note("%s is not there, and is not put there: somebody has removed it", s.file(f.Name))
			}
			continue
		}
		old, mode, there, err := s.look(f, o.Force)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		step := Step{Action: "write", Target: s.file(f.Name), Text: f.Text, Done: there && old == f.Text, mode: mode, old: old}
		switch {
		case f.Text == "" && !there:
			continue
		case f.Text == "":
			step.Action = "remove"
			step.Done = false
		case step.Done:
			step.Text = ""
		case there:
			step.Action = "replace"
		}
		changes = append(changes, step)
		profiles = append(profiles, f.Profile)
	}
	if err := errors.Join(faults...); err != nil {
		return Report{}, err
	}
	r.Steps = changes
	profiles = slices.DeleteFunc(profiles, func(p string) bool {
		if p != "" && s.disabled(p) {
			r.note("%s is switched off by %s and is not loaded", p, s.file("disable/"+p))
			return true
		}
		return p == ""
	})
	_, parserErr := s.parser()
	if parserErr != nil && kernel.Enabled {
		return Report{}, parserErr
	}
	if parserErr != nil {
		r.note("the files are not judged: %s", parserErr)
	}
	if !kernel.Enabled {
		r.note("nothing is loaded: %s; with AppArmor, the profiles are loaded when the system starts", kernel.Off)
	}
	for _, p := range profiles {
		// Also one that the kernel has: of what text that was made, it does not say. A
		// package may have replaced the file, and the admin may have added to it (local/).
		step := Step{Action: "load", Target: p}
		if _, have := kernel.Loaded[p]; have {
			step.Action = "reload"
		}
		if kernel.Enabled {
			r.Steps = append(r.Steps, step)
		}
	}
	if o.DryRun {
		return r, nil
	}
	return r, s.install(ctx, r.Steps[:len(changes)], r.Steps[len(changes):], profiles, parserErr == nil, kernel)
}

// install performs the changes of files, then loads.
func (s System) install(ctx context.Context, changes, loads []Step, profiles []string, judge bool, before Kernel) error {
	var did []Step
	for _, step := range changes {
		if step.Done {
			continue
		}
		err := error(nil)
		if step.Action == "remove" {
			err = asRoot(os.Remove(step.Target))
		} else {
			err = step.write()
		}
		if err != nil {
			return undoAll(did, err)
		}
		did = append(did, step)
	}
	if judge && len(did)+len(loads) > 0 && len(profiles) > 0 {
		if err := s.judge(ctx, profiles); err != nil {
			return undoAll(did, err)
		}
	}
	if len(loads) == 0 {
		return nil
	}
	err := s.load(ctx, profiles)
	if err == nil {
		return nil
	}
	err = undoAll(did, asRoot(err))
	// The kernel may have some of the new ones.
	var had, hadNot []string
	for _, p := range profiles {
		if _, ok := before.Loaded[p]; ok {
			had = append(had, p)
		} else {
			hadNot = append(hadNot, p)
		}
	}
	ctx = context.WithoutCancel(ctx)
	if len(had) > 0 {
		if again := s.load(ctx, had); again != nil {
			err = errors.Join(err, fmt.Errorf("load the former profiles again: %w", again))
		}
	}
	if now, asked := s.Kernel(); asked == nil {
		hadNot = slices.DeleteFunc(hadNot, func(p string) bool { _, ok := now.Loaded[p]; return !ok })
	}
	if len(hadNot) > 0 {
		if out := s.unload(ctx, hadNot); out != nil {
			err = errors.Join(err, fmt.Errorf("unload what was loaded: %w", out))
		}
	}
	return err
}
