package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"guardring/guest-agent/include"
	"guardring/shmproto"
)

// everybody stands in a request for all members.
const everybody = "*"

// writeRequest leaves word for the agent who must leave; no names: all. A request that
// was not taken yet is kept in it: two commands may come close together.
func writeRequest(path string, names []string) error {
	if len(names) == 0 {
		names = []string{everybody}
	}
	names = append(waiting(path), names...)
	// We may be root, and the folder the agent's: nothing that lies there is written through.
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, strings.Join(names, "\n")+"\n")
	err = errors.Join(err, f.Chmod(0o644)) // the agent reads it, whatever our umask
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(fresh, path)
}

// waiting returns the names in a request that was not taken yet. It is copied to where
// the agent's user can read it, and we may be root: so no link is followed, and nothing
// but names is taken.
func waiting(path string) (names []string) {
	there, err := os.Lstat(path)
	if err != nil || !there.Mode().IsRegular() {
		return nil
	}
	text, opened, err := include.ReadFile(path)
	if err != nil || !os.SameFile(there, opened) {
		return nil
	}
	for _, name := range strings.Fields(text) {
		if name == everybody || shmproto.ValidName(name) {
			names = append(names, name)
		}
	}
	return names
}

// takeRequest reads and removes such a file. No file is no request: it was taken
// together with another one, and must not be read as "all".
func takeRequest(path string) (names []string, all bool, err error) {
	text, _, err := include.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil {
		return nil, false, err
	}
	for _, name := range strings.Fields(text) {
		switch {
		case name == everybody:
			all = true
		case !shmproto.ValidName(name):
			return nil, false, fmt.Errorf("%s: %q is no instance name", path, name)
		default:
			names = append(names, name)
		}
	}
	return names, all, nil
}
