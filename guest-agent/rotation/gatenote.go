package rotation

import (
	"slices"
	"strings"
	"time"
)

// gateNote is the line of the include file about the join gate: the one thing that is
// durable of it.
type gateNote struct {
	state noteState
	since time.Time // noteClosed: when; zero if not known
	why   gateWhy   // noteOpening, notePassed
}

type noteState uint8

const (
	noteNone noteState = iota
	noteClosed
	noteOpening
	notePassed
)

const gateWord = "# guardring gate "

// line is the note as the file has it, "" for none.
func (n gateNote) line() string {
	switch n.state {
	case noteClosed:
		s := gateWord + "closed"
		if !n.since.IsZero() {
			s += " since=" + n.since.UTC().Format(time.RFC3339)
		}
		return s + "\n"
	case noteOpening:
		return gateWord + "opening why=" + string(n.why) + "\n"
	case notePassed:
		return gateWord + "passed why=" + string(n.why) + "\n"
	}
	return ""
}

// parseGate reads the note. A damaged one counts as closed: then the option is ours,
// and is reset in time.
func parseGate(text string) (n gateNote) {
	for line := range strings.SplitSeq(text, "\n") {
		rest, ok := strings.CutPrefix(strings.TrimSuffix(line, "\r"), gateWord)
		if !ok {
			continue
		}
		n = gateNote{state: noteClosed}
		for i, w := range strings.Fields(rest) {
			key, value, _ := strings.Cut(w, "=")
			switch {
			case i == 0 && w == "opening":
				n.state = noteOpening
			case i == 0 && w == "passed":
				n.state = notePassed
			case key == "since":
				n.since, _ = time.Parse(time.RFC3339, value) // zero: not known
			case key == "why" && len(value) <= 32:
				n.why = gateWhy(value)
			}
		}
	}
	return n
}

// withGate puts the note into the text of an include file, in the place of the one
// that is there.
func withGate(text string, n gateNote) string {
	var b strings.Builder
	if text == "" {
		text = includeHead
	}
	head, rest := "", text
	if after, ok := strings.CutPrefix(text, includeHead); ok {
		head, rest = includeHead, after
	}
	b.WriteString(head)
	b.WriteString(n.line())
	for line := range strings.Lines(rest) {
		if !strings.HasPrefix(line, gateWord) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// writeGate asks for the note to be written, unless a write has just failed.
func (m *Machine) writeGate(n gateNote) {
	if m.writeAt.IsZero() && m.tor.include.Exists {
		m.change = change{id: m.id(), kind: changeGateFile, text: withGate(m.tor.include.Text, n)}
		m.do(WriteInclude{ID: m.change.id, Text: m.change.text})
	}
}

func sortedKeys(set map[string]bool) []string {
	out := make([]string, 0, len(set))
	for k := range set {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
