// Package hint joins an error with what the reader can do about it, writes
// both the way our commands do, and says with which code they end. Any error type
// takes part that has a method
// Hint() string.
//
// Trust: texts may quote what a guest or Tor said; Print writes no control
// characters.
package hint

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"guardring/internal/printable"
)

type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }
func (h hinted) Hint() string  { return h.hint }

// Wrap adds a remedy to an error: one sentence without a capital or full stop.
// The error's text stays as it is.
func Wrap(err error, remedy string) error { return hinted{err, remedy} }

// Errorf is Wrap of fmt.Errorf; the remedy stands first.
func Errorf(remedy, format string, args ...any) error {
	return hinted{fmt.Errorf(format, args...), remedy}
}

// Of returns the outermost remedy in err's tree, "" if there is none.
func Of(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

// Print writes "PROGRAM: error: ..." and, where there is a remedy, "PROGRAM:
// hint: ..." below it, for err or for each of the errors that were joined in it
// (errors.Join, configfile.Faults). An error whose text contains its remedy says
// with a method Summary() string how it reads without.
func Print(w io.Writer, program string, err error) {
	for _, e := range parts(err) {
		text := e.Error()
		if s, ok := e.(interface{ Summary() string }); ok {
			text = s.Summary()
		}
		say(w, program+": error: ", text)
		if h := Of(e); h != "" {
			say(w, program+": hint: ", h)
		}
	}
}

// parts takes joined errors apart. An error that wraps several in a text of its
// own stays whole.
func parts(err error) []error {
	m, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var texts []string
	for _, e := range m.Unwrap() {
		texts = append(texts, e.Error())
	}
	if strings.Join(texts, "\n") != err.Error() {
		return []error{err}
	}
	var all []error
	for _, e := range m.Unwrap() {
		all = append(all, parts(e)...)
	}
	return all
}

func say(w io.Writer, prefix, text string) {
	for line := range strings.SplitSeq(text, "\n") {
		// Nothing can be done about a standard error that takes no text.
		_, _ = fmt.Fprintln(w, prefix+printable.Line(line))
	}
}
