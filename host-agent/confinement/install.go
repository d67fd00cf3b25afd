package confinement

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"guardring/apparmor"
	"guardring/internal/hint"
)

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
	changes, profiles, err := s.changes(o, &r)
	if err != nil {
		return Report{}, err
	}
	_, parserErr := s.parser()
	if parserErr != nil && kernel.Enabled {
		return Report{}, parserErr
	}
	if parserErr != nil {
		r.note("the files are not judged: %s", parserErr)
	}
	var loads []Step
	if kernel.Enabled {
		loads = loadSteps(profiles, kernel)
	} else {
		r.note("nothing is loaded: %s; with AppArmor, the profiles are loaded when the system starts", kernel.Off)
	}
	r.Steps = slices.Concat(changes, loads)
	if o.DryRun {
		return r, nil
	}
	return r, s.install(ctx, changes, loads, profiles, parserErr == nil, kernel)
}

// changes are the steps that bring the files to where they should be, and the profiles
// to load then. What is left out, the report says.
func (s System) changes(o Options, r *Report) (steps []Step, profiles []string, err error) {
	var faults []error
	for _, f := range wanted(o) {
		var step Step
		var there bool
		if o.Keep && f.Name != apparmor.Configured {
			if step, there, err = s.kept(f); err == nil && !there {
				r.note("%s is not there, and is not put there: somebody has removed it", s.file(f.Name))
			}
		} else {
			step, there, err = s.change(f, o.Force)
		}
		if err != nil {
			faults = append(faults, err)
		}
		if err != nil || !there {
			continue
		}
		steps = append(steps, step)
		switch {
		case f.Profile == "":
		case s.disabled(f.Profile):
			r.note("%s is switched off by %s and is not loaded", f.Profile, s.file("disable/"+f.Profile))
		default:
			profiles = append(profiles, f.Profile)
		}
	}
	return steps, profiles, errors.Join(faults...)
}

// change is the step that brings one file to where it should be; false if there is
// nothing to say of it.
func (s System) change(f apparmor.File, force bool) (step Step, some bool, err error) {
	old, mode, there, err := s.look(f, force)
	if err != nil {
		return Step{}, false, err
	}
	step = Step{Action: "write", Target: s.file(f.Name), Text: f.Text, mode: mode, old: old}
	switch {
	case f.Text == "" && !there:
		return Step{}, false, nil
	case f.Text == "":
		step.Action = "remove"
	case there && old == f.Text:
		step.Text, step.Done = "", true
	case there:
		step.Action = "replace"
	}
	return step, true, nil
}

// loadSteps name each profile, also one that the kernel has: of what text that was
// made, it does not say. A package may have replaced the file, and the admin may have
// added to it (local/).
func loadSteps(profiles []string, kernel Kernel) (steps []Step) {
	for _, p := range profiles {
		step := Step{Action: "load", Target: p}
		if _, have := kernel.Loaded[p]; have {
			step.Action = "reload"
		}
		steps = append(steps, step)
	}
	return steps
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
	if err := s.load(ctx, profiles); err != nil {
		return errors.Join(undoAll(did, asRoot(err)), s.loadFormer(context.WithoutCancel(ctx), profiles, before))
	}
	return nil
}

// loadFormer brings the kernel back to where it was before these profiles were loaded,
// all or some. Their files are the former ones again.
func (s System) loadFormer(ctx context.Context, profiles []string, before Kernel) error {
	var had, hadNot []string
	for _, p := range profiles {
		if _, ok := before.Loaded[p]; ok {
			had = append(had, p)
		} else {
			hadNot = append(hadNot, p)
		}
	}
	var faults []error
	if len(had) > 0 {
		if err := s.load(ctx, had); err != nil {
			faults = append(faults, fmt.Errorf("load the former profiles again: %w", err))
		}
	}
	if now, err := s.Kernel(); err == nil {
		hadNot = slices.DeleteFunc(hadNot, func(p string) bool { _, ok := now.Loaded[p]; return !ok })
	}
	if len(hadNot) > 0 {
		if err := s.unload(ctx, hadNot); err != nil {
			faults = append(faults, fmt.Errorf("unload what was loaded: %w", err))
		}
	}
	return errors.Join(faults...)
}
