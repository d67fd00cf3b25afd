package include

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// line is one option of a configuration as Tor would read it.
type line struct {
	file   string
	number int
	key    string // lower case, without Tor's leading "+" or "/"
	value  string
}

// walk reads a torrc and what it includes in Tor's order, calling visit for
// each option; an %include is visited itself, with the key "%include" and the
// path of one file it leads to as value, before that file's lines.
func walk(torrc string, visit func(line)) error {
	w := walker{visit: visit}
	return w.file(torrc, 0)
}

type walker struct {
	visit func(line)
	files int
}

func (w *walker) file(path string, depth int) error {
	if w.files++; depth > maxDepth || w.files > maxFiles {
		return fmt.Errorf("%s: includes are nested too deep or too many", path)
	}
	text, _, err := ReadFile(path)
	if err != nil {
		return err
	}
	for _, l := range parseLines(path, text) {
		if l.key != "%include" {
			w.visit(l)
			continue
		}
		targets, err := includeTargets(l.value)
		if err != nil {
			return fmt.Errorf("%s:%d: %w", path, l.number, err)
		}
		for _, target := range targets {
			l.value = target
			w.visit(l)
			if err := w.file(target, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// includeTargets lists the files that an %include means: a file, a folder's
// files, or a pattern's matches; sorted, hidden files and links that lead nowhere
// left out, as in Tor.
func includeTargets(value string) ([]string, error) {
	path := strings.Trim(value, "\"")
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("%%include %q is not absolute: where it leads depends on Tor's working folder", path)
	}
	matches := []string{path}
	if strings.ContainsAny(path, "*?[") {
		var err error
		if matches, err = filepath.Glob(path); err != nil {
			return nil, fmt.Errorf("%%include %q: %w", path, err)
		}
	}
	slices.Sort(matches)
	var files []string
	for _, m := range matches {
		st, err := os.Stat(m)
		if err != nil {
			return nil, err
		}
		if !st.IsDir() {
			files = append(files, m)
			continue
		}
		entries, err := os.ReadDir(m) // sorted by name
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			file := filepath.Join(m, e.Name())
			st, err := os.Stat(file) // of what a link leads to: Tor reads that
			switch {
			case strings.HasPrefix(e.Name(), "."), errors.Is(err, fs.ErrNotExist):
			case err != nil:
				return nil, err
			case st.Mode().IsRegular():
				files = append(files, file)
			}
		}
	}
	return files, nil
}

// Status is what Inspect found. The zero value of Problem means that all is
// well.
type Status struct {
	Text     string // content of the include file
	Exists   bool   // it is a regular file
	Included bool   // the torrc leads to it
	First    bool   // no Reachable*Addresses line is read before it
	Sandbox  bool   // the torrc says Sandbox 1
	ORPort   string // "file:line" of the ORPort that makes this Tor a relay; "" for none
	Problem  string // why Exists, Included or First is false, and what to do
}

// Inspect reads the torrc as Tor would. An error means that it could not be
// read at all.
func Inspect(s Site) (Status, error) {
	var st Status
	var err error
	if st.Text, st.Exists, err = Read(s.Include); err != nil {
		st.Problem = err.Error()
	} else if !st.Exists {
		st.Problem = fmt.Sprintf("%s is missing: run guardring-guest join before Tor starts again", s.Include)
	}
	st.First = true
	before := ""
	err = walk(s.Torrc, func(l line) {
		switch l.key {
		case "%include":
			if l.value == s.Include && !st.Included {
				st.Included, st.First = true, before == ""
			}
		case "sandbox":
			st.Sandbox = l.value == "1"
		case "orport":
			if l.value != "0" && st.ORPort == "" {
				st.ORPort = fmt.Sprintf("%s:%d", l.file, l.number)
			}
		case "reachableoraddresses":
			if !st.Included && before == "" {
				before = fmt.Sprintf("%s:%d", l.file, l.number)
			}
		}
	})
	var missing *fs.PathError
	switch {
	case errors.As(err, &missing) && missing.Path == s.Include && !st.Exists:
		// The torrc names our missing file: already said.
		st.Included = true
		return st, nil
	case err != nil:
		return Status{}, fmt.Errorf("read Tor's configuration: %w", err)
	}
	st.First = st.First && st.Included
	switch {
	case st.Problem != "": // the file itself is at fault, which comes first
	case !st.Included:
		st.Problem = fmt.Sprintf("%s does not include %s: run guardring-guest join", s.Torrc, s.Include)
	case !st.First:
		st.Problem = fmt.Sprintf("%s sets ReachableORAddresses before %s is included, so guardring's lines never match: move the %%include line to the top", before, s.Include)
	}
	return st, nil
}
