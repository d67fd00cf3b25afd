package apparmor

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Label is what confines a process.
type Label struct {
	// Profile is the profile's name; "unconfined" is the kernel's word for none.
	Profile string
	// Mode is "enforce" or "complain"; "" for a process that is not confined.
	Mode string
}

func (l Label) String() string {
	if l.Mode == "" {
		return l.Profile
	}
	return l.Profile + " (" + l.Mode + ")"
}

// LabelOf reads the label of a process below root, "" for the machine's own. The
// error is fs.ErrNotExist if there is no such process, and often EINVAL if the kernel
// has no AppArmor.
//
// Preconditions: the caller has a handle on the process, or can bear that its number
// has become another's.
func LabelOf(root string, pid int) (Label, error) {
	proc := filepath.Join("/", root, "proc", fmt.Sprint(pid), "attr")
	b, err := os.ReadFile(filepath.Join(proc, "apparmor", "current"))
	if errors.Is(err, fs.ErrNotExist) {
		b, err = os.ReadFile(filepath.Join(proc, "current"))
	}
	if err != nil {
		return Label{}, err
	}
	return ParseLabel(b), nil
}

// ParseLabel cuts "PROFILE (MODE)".
func ParseLabel(b []byte) Label {
	s := string(bytes.TrimRight(b, "\n\x00"))
	if i := strings.LastIndex(s, " ("); i >= 0 && strings.HasSuffix(s, ")") {
		return Label{s[:i], s[i+2 : len(s)-1]}
	}
	return Label{Profile: s}
}
