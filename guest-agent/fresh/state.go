package fresh

import "strings"

// renewed reports whether a selection's guards are given up, see the package.
func renewed(selection string) bool { return selection == "default" || selection == "restricted" }

// without returns a state file's text without the Guard lines that are given up,
// and how many there were. Precondition: ParseState accepts the text.
func without(text string) (rest string, n int) {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if givenUp(line) {
			n++
			continue
		}
		b.WriteString(line)
	}
	return b.String(), n
}

func givenUp(line string) bool {
	if !strings.HasPrefix(line, "Guard ") {
		return false
	}
	for _, w := range strings.Fields(line) {
		if selection, ok := strings.CutPrefix(w, "in="); ok {
			return renewed(selection)
		}
	}
	return false
}
