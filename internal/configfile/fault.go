package configfile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one mistake in a configuration file.
type Fault struct {
	File    string // as the caller named it
	Line    int    // counted from 1; 0 when the fault is not tied to a line
	Key     string // dotted path, list items as gateways[2]; "" for the whole file
	Problem string // what is wrong, with the value
	Remedy  string // what to do; may be empty
}

// Error returns "file:line: key: problem (remedy)".
func (f *Fault) Error() string {
	s := f.Summary()
	if f.Remedy != "" {
		s += " (" + f.Remedy + ")"
	}
	return s
}

// Hint returns the remedy (see package hint).
func (f *Fault) Hint() string { return f.Remedy }

// Summary is Error without the remedy, for callers that print it as a hint on
// a line of its own.
func (f *Fault) Summary() string {
	var b strings.Builder
	b.WriteString(f.File)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d", f.Line)
	}
	b.WriteString(": ")
	if f.Key != "" {
		b.WriteString(f.Key + ": ")
	}
	b.WriteString(f.Problem)
	return b.String()
}

// Faults is the error that Load returns: every fault of one or more files, in
// the order of files and lines. It is never empty.
type Faults []*Fault

// Error returns one line per fault.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find the first *Fault.
func (fs Faults) Unwrap() []error {
	errs := make([]error, len(fs))
	for i, f := range fs {
		errs[i] = f
	}
	return errs
}

// Join puts the faults of several files into one error, nil when there are
// none.
func Join(files ...*File) error {
	var all Faults
	for _, f := range files {
		all = append(all, f.sorted()...)
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

func (f *File) sorted() Faults {
	fs := slices.Clone(f.faults)
	slices.SortStableFunc(fs, func(a, b *Fault) int { return cmp.Compare(a.Line, b.Line) })
	return fs
}
