package confinement

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
)

// Remove is the way back of Install: the kernel forgets the profiles, then the files
// go, and what apparmor.service has compiled of them. Processes that they confined run
// on unconfined; the report names them. The admin's files in local/ and disable/ stay.
func (s System) Remove(ctx context.Context, o Options) (Report, error) {
	r := Report{DryRun: o.DryRun, Steps: []Step{}, Notes: []string{}}
	if err := s.inside(); err != nil {
		return Report{}, err
	}
	kernel, err := s.Kernel()
	if err != nil {
		return Report{}, err
	}
	profiles, files, caches, err := s.removals(o, kernel, &r)
	if err != nil {
		return Report{}, err
	}
	if _, err := os.Lstat(s.path("/var/lib/dpkg/info/guardring.conffiles")); err == nil && len(files) > 0 {
		r.note("the files are the package guardring's: its upgrades leave them away from now on; guardring apparmor install brings them back")
	}
	if !kernel.Enabled {
		r.note("nothing is unloaded: %s", kernel.Off)
	}
	for _, p := range s.confinedBy(profiles) {
		r.note("process %d runs on without %s; only a start under the profile would confine it again", p.PID, p.Profile)
	}
	for _, p := range profiles {
		r.Steps = append(r.Steps, Step{Action: "unload", Target: p})
	}
	r.Steps = slices.Concat(r.Steps, files, caches)
	if o.DryRun {
		return r, nil
	}
	return r, s.remove(ctx, profiles, files, caches)
}

// removals are the profiles that the kernel has of ours, and the steps by which the
// files go, and what was compiled of them. What stays, the report says.
func (s System) removals(o Options, kernel Kernel, r *Report) (profiles []string, files, caches []Step, err error) {
	var faults []error
	for _, f := range slices.Backward(wanted(o)) {
		old, mode, there, err := s.look(f, o.Force)
		switch {
		case err != nil:
			faults = append(faults, err)
			continue
		case there:
			files = append(files, Step{Action: "remove", Target: s.file(f.Name), mode: mode, old: old})
		}
		if f.Profile == "" {
			continue
		}
		if _, ok := kernel.Loaded[f.Profile]; ok {
			profiles = append(profiles, f.Profile)
		}
		compiled, _ := filepath.Glob(s.path("/var/cache/apparmor/*/" + f.Profile)) // the pattern is well-formed
		for _, path := range compiled {
			caches = append(caches, Step{Action: "remove", Target: path})
		}
		for _, mine := range []string{"local/", "disable/", "force-complain/"} {
			if _, err := os.Lstat(s.file(mine + f.Profile)); err == nil {
				r.note("%s stays: it is not guardring's", s.file(mine+f.Profile))
			}
		}
	}
	return profiles, files, caches, errors.Join(faults...)
}

// remove unloads, then removes. When a file cannot be removed, files and kernel are as
// they were.
func (s System) remove(ctx context.Context, profiles []string, files, caches []Step) error {
	if len(profiles) > 0 {
		if err := s.unload(ctx, profiles); err != nil {
			return asRoot(err)
		}
	}
	for i, step := range files {
		if err := os.Remove(step.Target); err != nil {
			err = undoAll(files[:i], asRoot(err))
			if len(profiles) > 0 {
				err = errors.Join(err, s.load(context.WithoutCancel(ctx), profiles))
			}
			return err
		}
	}
	var faults []error
	for _, step := range caches { // made anew when they are missed
		faults = append(faults, os.Remove(step.Target))
	}
	return asRoot(errors.Join(faults...))
}
