package report

import (
	"regexp"
	"strings"
	"unicode"
)

// Printable replaces what a terminal could take for commands. Lines and tabs stay.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// painted is what paint's colours are for a terminal.
var painted = regexp.MustCompile(`\x1b\[(0|1|2|31|32|33)(;(1|2|31|32|33))*m`)

// printable is Printable for a page on which paint has been.
func (st Style) printable(page string) string {
	if !st.Color {
		return Printable(page)
	}
	var b strings.Builder
	at := 0
	for _, colour := range painted.FindAllStringIndex(page, -1) {
		b.WriteString(Printable(page[at:colour[0]]))
		b.WriteString(page[colour[0]:colour[1]])
		at = colour[1]
	}
	b.WriteString(Printable(page[at:]))
	return b.String()
}
