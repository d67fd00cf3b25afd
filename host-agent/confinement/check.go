package confinement

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"syscall"

	"guardring/apparmor"
	"guardring/internal/checkup"
)

// Subject is a process that should be confined.
type Subject struct {
	// Name says what it is: "server", "gateway web".
	Name string
	// PID is its number; 0 if it is not known, and then a process with the label Want
	// is looked for.
	PID int
	// Want is the profile; "" for any but none.
	Want string
	// Remedy is what to do if it is not confined by it.
	Remedy string
	// Missing says why there may be no process.
	Missing string
}

// Process is a process and what confines it.
type Process struct {
	// Name is the subject's.
	Name string `json:"name,omitempty"`
	PID  int    `json:"pid"`
	// Profile is "unconfined" if none confines it.
	Profile string `json:"profile"`
	// Mode is "enforce", "complain", or "" if it is not confined.
	Mode string `json:"mode"`
}

// Check tells whether the profiles are in place and loaded, and whether each subject
// is really confined, and by which profile. configured is the text of the file
// apparmor.Configured that there should be.
func (s System) Check(configured string, subjects []Subject) (checkup.Lines, []Process) {
	var l checkup.Lines
	processes := []Process{}
	kernel, err := s.Kernel()
	switch {
	case err != nil:
		l.Fail("kernel", "run it as root", "%s", err)
		return l, processes
	case !kernel.Enabled:
		l.Fail("kernel", "start a kernel with AppArmor: apparmor=1 security=apparmor on its command line", "%s: nothing is confined", kernel.Off)
	default:
		l.Pass("kernel", "AppArmor is on, %d profiles are loaded", len(kernel.Loaded))
	}
	for _, f := range wanted(Options{Configured: configured}) {
		s.checkFile(&l, f, kernel)
	}
	if !kernel.Enabled {
		return l, processes
	}
	for _, want := range subjects {
		if p, ok := s.checkSubject(&l, want); ok {
			processes = append(processes, p)
		}
	}
	return l, processes
}

// checkFile judges one of our files, and the kernel's copy of it.
func (s System) checkFile(l *checkup.Lines, f apparmor.File, kernel Kernel) {
	name, path := "file "+f.Name, s.file(f.Name)
	if f.Profile != "" {
		name = "profile " + f.Profile
	}
	text, _, there, err := s.look(f, true)
	mode, loaded := kernel.Loaded[f.Profile]
	const install = "guardring apparmor install"
	switch {
	case err != nil:
		l.Fail(name, "move it away, then "+install, "%s", err)
	case f.Text == "" && !there:
	case f.Text == "":
		l.Warn(name, install, "%s is of a configuration that is not any more", path)
	case !there:
		l.Fail(name, install, "there is no %s", path)
	case text != f.Text:
		l.Warn(name, install+" --force", "%s is not as this build of guardring has it", path)
	case f.Profile == "" || !kernel.Enabled:
		l.Pass(name, "%s is in place", path)
	case s.disabled(f.Profile):
		l.Warn(name, "aa-enforce "+path, "somebody has switched it off (%s)", s.file("disable/"+f.Profile))
	case !loaded:
		l.Fail(name, install, "%s is in place, and the kernel does not have it", path)
	case mode != "enforce":
		l.Warn(name, "aa-enforce "+path, "it is loaded in mode %s: nothing is denied", mode)
	default:
		l.Pass(name, "%s is in place, and loaded in mode enforce", path)
	}
}

// checkSubject judges a process.
func (s System) checkSubject(l *checkup.Lines, want Subject) (Process, bool) {
	p := Process{Name: want.Name, PID: want.PID}
	if p.PID == 0 && want.Want != "" {
		for _, found := range s.confinedBy([]string{want.Want}) {
			p.PID = found.PID
		}
	}
	if p.PID == 0 {
		l.Skip(want.Name, "%s", want.Missing)
		return p, false
	}
	label, err := apparmor.LabelOf(s.Root, p.PID)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ESRCH):
		l.Skip(want.Name, "process %d has just ended", p.PID)
		return p, false
	case err != nil:
		l.Fail(want.Name, "run it as root", "process %d: %s", p.PID, err)
		return p, false
	}
	p.Profile, p.Mode = label.Profile, label.Mode
	switch {
	case label.Mode == "":
		l.Fail(want.Name, want.Remedy, "process %d is not confined (%s)", p.PID, label)
	case want.Want != "" && label.Profile != want.Want:
		l.Fail(want.Name, want.Remedy, "process %d is confined by %s, which is not %s", p.PID, label, want.Want)
	case label.Mode != "enforce":
		l.Warn(want.Name, "aa-enforce "+label.Profile, "process %d is confined by %s: nothing is denied", p.PID, label)
	default:
		l.Pass(want.Name, "process %d is confined by %s", p.PID, label)
	}
	return p, true
}

// confinedBy finds the processes that these profiles confine, in the order of their
// numbers.
func (s System) confinedBy(profiles []string) []Process {
	if len(profiles) == 0 {
		return nil
	}
	entries, err := os.ReadDir(s.path("/proc"))
	if err != nil {
		return nil
	}
	var all []Process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() && s.Root == "" {
			continue
		}
		label, err := apparmor.LabelOf(s.Root, pid)
		if err == nil && slices.Contains(profiles, label.Profile) {
			all = append(all, Process{PID: pid, Profile: label.Profile, Mode: label.Mode})
		}
	}
	slices.SortFunc(all, func(a, b Process) int { return a.PID - b.PID })
	return all
}

// State says in a few words how one of our files stands: in place, and loaded.
func (s System) State(f apparmor.File) string {
	text, _, there, err := s.look(f, true)
	state := "in place"
	switch {
	case err != nil:
		return err.Error()
	case !there:
		return "not installed"
	case text != f.Text:
		state = "installed, not as this build has it"
	}
	if f.Profile == "" {
		return state
	}
	kernel, err := s.Kernel()
	switch mode, ok := kernel.Loaded[f.Profile]; {
	case err != nil:
		return fmt.Sprintf("%s; %s", state, err)
	case !kernel.Enabled:
		return state + "; " + kernel.Off
	case !ok:
		return state + "; not loaded"
	default:
		return state + "; loaded, mode " + mode
	}
}
