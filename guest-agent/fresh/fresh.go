package fresh

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"guardring/guest-agent/include"
	"guardring/internal/guardstate"
	"guardring/internal/killpoint"
)

// markSuffix names the file beside the state file that says when the sample was
// given up. The backup has include.BackupPaths.
const markSuffix = ".guardring-fresh"

// ErrRunning: Tor runs, and would write its own sample over ours.
var ErrRunning = errors.New("this Tor runs")

// ErrDone: this sample is a new one already.
var ErrDone = errors.New("this Tor was given a new sample before")

// Site says where one Tor's files lie. Paths are absolute.
type Site struct {
	State   string // the state file; its folder is Tor's DataDirectory
	Control string // control socket or host:port: who answers there runs; "" if not known
	Include string // our include file; "" if not known
	Empty   string // what an include file with nothing excluded holds
}

// Options say how.
type Options struct {
	DryRun bool      // look and tell, change nothing
	Again  bool      // also when it was done before
	Now    time.Time // noted in the mark
}

// Result says what was done, or would be, in sentences without a full stop.
type Result struct {
	Changed []string
	Guards  int // that were taken out of the state file
}

func (r *Result) changed(format string, args ...any) {
	r.Changed = append(r.Changed, fmt.Sprintf(format, args...))
}

// step marks that an effect is there; tests stop after one.
var step = killpoint.Here

// Run does it. ErrRunning and ErrDone mean that nothing was changed.
func Run(s Site, o Options) (Result, error) {
	var r Result
	release, err := s.lock()
	if err != nil {
		return r, err
	}
	defer release()
	l, err := os.Lstat(s.State)
	if err == nil && !l.Mode().IsRegular() {
		return r, fmt.Errorf("%s is no regular file: Tor did not make it; nothing was changed", s.State)
	}
	text, st, err := include.ReadFile(s.State)
	if errors.Is(err, fs.ErrNotExist) {
		return r, fmt.Errorf("%w: this Tor has no sample yet", err)
	} else if err != nil {
		return r, err
	}
	if !os.SameFile(l, st) { // its folder is Tor's user's, and we may be root
		return r, fmt.Errorf("%s was replaced while it was read; nothing was changed", s.State)
	}
	state, err := guardstate.ParseState(text)
	if err != nil {
		return r, fmt.Errorf("%s: %w; nothing was changed", s.State, err)
	}
	if err := s.once(state, o.Again); err != nil {
		return r, err
	}
	rest, n := without(text)
	if r.Guards = n; n > 0 {
		if err := s.renew(&r, o, text, rest, st); err != nil {
			return r, err
		}
	}
	return r, s.emptyInclude(&r, o)
}

// renew backs the state file up, leaves the mark, and replaces it by rest.
func (s Site) renew(r *Result, o Options, text, rest string, st os.FileInfo) error {
	name, there, err := include.BackupName(s.State, text)
	if err != nil {
		return fmt.Errorf("back up %s: %w", s.State, err)
	}
	if !there {
		r.changed("copied %s to %s", s.State, name)
		if !o.DryRun {
			if err := include.Replace(name, text, st); err != nil {
				return fmt.Errorf("back up %s: %w", s.State, err)
			}
			step("fresh-backup")
		}
	}
	r.changed("took the sample (%d) out of %s; every other line is as it was", r.Guards, s.State)
	if o.DryRun {
		return nil
	}
	mark := fmt.Sprintf("guardring-guest fresh gave up this Tor's guard sample at %s. The old state file is %s.\n",
		o.Now.UTC().Format(time.RFC3339), filepath.Base(name))
	if err := include.Replace(s.State+markSuffix, mark, st); err != nil {
		return fmt.Errorf("note that it is done: %w", err)
	}
	step("fresh-marked")
	if err := include.Replace(s.State, rest, st); err != nil {
		return fmt.Errorf("write %s: %w", s.State, err)
	}
	step("fresh-state")
	return nil
}

// emptyInclude takes our exclusions out of the include file and keeps the file:
// Tor's configuration names it.
func (s Site) emptyInclude(r *Result, o Options) error {
	if s.Include == "" {
		return nil
	}
	text, exists, err := include.Read(s.Include)
	if err != nil || !exists || text == s.Empty || text == "" {
		return err
	}
	r.changed("took the exclusions out of %s, which name guards of the old sample", s.Include)
	if o.DryRun {
		return nil
	}
	return include.Write(s.Include, s.Empty)
}

// once refuses a sample that was drawn since it was done: every further one is
// another draw of guards, any of which may be bad.
func (s Site) once(state guardstate.State, again bool) error {
	mark, _, err := include.ReadFile(s.State + markSuffix)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && again:
		return nil
	case err != nil:
		return err
	}
	drawn := map[origin]bool{}
	for _, g := range state.Guards {
		if renewed(g.In) {
			drawn[originOf(g)] = true
		}
	}
	if len(drawn) == 0 {
		return nil // killed before the rest was done, or Tor was not started since
	}
	for _, name := range include.BackupPaths(s.State) {
		text, _, err := include.ReadFile(name)
		if err != nil {
			continue
		}
		old, err := guardstate.ParseState(text)
		if err != nil {
			continue
		}
		for _, g := range old.Guards {
			if drawn[originOf(g)] {
				return nil // killed in between, or the old state was put back
			}
		}
	}
	return fmt.Errorf("%w: %s says: %s", ErrDone, s.State+markSuffix, mark)
}

// origin tells one draw of a guard from another draw of the same.
type origin struct {
	in string
	id guardstate.Fingerprint
	on time.Time
}

func originOf(g guardstate.StateGuard) origin { return origin{g.In, g.RSAID, g.SampledOn} }
