package confinement

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"guardring/apparmor"
)

// Next has the next program that this thread starts run under a profile, if the
// present process is confined by the command's own. It is for "guardring run", whose
// two processes have profiles of their own; without AppArmor it does nothing.
//
// Preconditions: runtime.LockOSThread, and the thread starts nothing else afterwards.
func Next(profile string) error {
	own, err := apparmor.LabelOf("", os.Getpid())
	if err != nil || own.Profile != apparmor.CLI {
		return nil // not confined by us, or not at all
	}
	return next("/proc/thread-self/attr", profile)
}

// next writes to the thread's attributes in dir.
func next(dir, profile string) error {
	var err error
	for _, name := range []string{"/apparmor/exec", "/exec"} {
		err = write(dir+name, "exec "+profile)
		if err == nil || !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(name, "/apparmor") {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("start it under the profile %s: %w", profile, err)
	}
	return nil
}

// write is one write(2): the kernel takes each for a whole command.
func write(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
