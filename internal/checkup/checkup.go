// Package checkup is the form in which our doctors report: lines of pass, warn,
// fail or skip, each with what to do, as text or JSON, and the exit code that
// goes with them. It finds nothing out by itself.
//
// Trust: texts may quote what a guest, Tor or libvirt said; Print writes no
// control characters.
package checkup

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"guardring/internal/hint"
	"guardring/internal/printable"
)

// State is how a check ended.
type State int

// States.
const (
	// Pass: all is well here.
	Pass State = iota
	// Skip: it could not be checked, or need not be; the text says why. Never bad.
	Skip
	// Warn: it works, but not as it should.
	Warn
	// Fail: the program cannot do its work before this is mended.
	Fail
)

var stateNames = [...]string{"pass", "skip", "warn", "fail"}

func (s State) String() string {
	if s < 0 || int(s) >= len(stateNames) {
		return fmt.Sprintf("State(%d)", int(s))
	}
	return stateNames[s]
}

// MarshalText writes the state as a word.
func (s State) MarshalText() ([]byte, error) {
	if s < 0 || int(s) >= len(stateNames) {
		return nil, fmt.Errorf("state %d is none", int(s))
	}
	return []byte(stateNames[s]), nil
}

// UnmarshalText reads the word.
func (s *State) UnmarshalText(text []byte) error {
	for i, name := range stateNames {
		if name == string(text) {
			*s = State(i)
			return nil
		}
	}
	return fmt.Errorf("%q is no state of a check", text)
}

// Line is the result of one check.
type Line struct {
	// Name says what was checked, in a few lower-case words: "iommu", "cookie of web".
	// It is the same whatever the result is, so that scripts can look for it.
	Name  string `json:"name"`
	State State  `json:"state"`
	// Text is what was found: one line, no full stop.
	Text string `json:"text"`
	// Remedy is what to do, in the words that must be typed or written where that is
	// possible; "" for pass, and where there is nothing to do.
	Remedy string `json:"remedy,omitempty"`
}

// Lines is a report. The zero value is empty and ready to use. It is not safe for
// concurrent use.
type Lines []Line

// Add appends a line.
func (l *Lines) Add(name string, s State, remedy, format string, args ...any) {
	*l = append(*l, Line{Name: name, State: s, Text: fmt.Sprintf(format, args...), Remedy: remedy})
}

// Pass appends a line that needs no remedy.
func (l *Lines) Pass(name, format string, args ...any) { l.Add(name, Pass, "", format, args...) }

// Skip appends a line about what was not checked, and why.
func (l *Lines) Skip(name, format string, args ...any) { l.Add(name, Skip, "", format, args...) }

// Warn appends a line about what should be otherwise.
func (l *Lines) Warn(name, remedy, format string, args ...any) {
	l.Add(name, Warn, remedy, format, args...)
}

// Fail appends a line about what must be otherwise.
func (l *Lines) Fail(name, remedy, format string, args ...any) {
	l.Add(name, Fail, remedy, format, args...)
}

// Worst returns the worst state of all lines; Pass if there are none, or if
// nothing was worse than a skip.
func (l Lines) Worst() State {
	worst := Pass
	for _, line := range l {
		if line.State >= Warn {
			worst = max(worst, line.State)
		}
	}
	return worst
}

// ExitCode is what a doctor's process ends with: 0 when all is well, 1 after a
// warning, 2 after a fail.
func (l Lines) ExitCode() int {
	switch l.Worst() {
	case Warn:
		return 1
	case Fail:
		return 2
	}
	return 0
}

// Print writes the lines for a terminal, and a last line with their counts.
func Print(w io.Writer, l Lines) error {
	width := 0
	for _, line := range l {
		width = max(width, utf8.RuneCountInString(line.Name))
	}
	var b strings.Builder
	var count [len(stateNames)]int
	for _, line := range l {
		if line.State >= 0 && int(line.State) < len(count) {
			count[line.State]++
		}
		fmt.Fprintf(&b, "%-4s  %-*s  %s\n", line.State, width, printable.Line(line.Name), printable.Line(line.Text))
		if line.Remedy != "" {
			fmt.Fprintf(&b, "      %-*s  -> %s\n", width, "", printable.Line(line.Remedy))
		}
	}
	fmt.Fprintf(&b, "\n%d passed, %d warnings, %d failed, %d skipped\n", count[Pass], count[Warn], count[Fail], count[Skip])
	_, err := io.WriteString(w, b.String())
	return err
}

// Document is the report as one JSON document.
type Document struct {
	Worst State `json:"worst"`
	Lines Lines `json:"checks"`
}

// PrintJSON writes the lines as a Document, indented.
func PrintJSON(w io.Writer, l Lines) error {
	if l == nil {
		l = Lines{}
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(Document{Worst: l.Worst(), Lines: l})
}

// Conclude returns nil where all is well, else the error that makes a process end
// with the report's exit code.
func Conclude(l Lines) error {
	if code := l.ExitCode(); code != 0 {
		return hint.Exit{Code: code}
	}
	return nil
}
