package report

import (
	"regexp"
	"strings"

	"guardring/internal/printable"
)

// painted is what paint's colours are for a terminal.
var painted = regexp.MustCompile(`\x1b\[(0|1|2|31|32|33)(;(1|2|31|32|33))*m`)

// printable is printable.Text for a page on which paint has been.
func (st Style) printable(page string) string {
	if !st.Color {
		return printable.Text(page)
	}
	var b strings.Builder
	at := 0
	for _, colour := range painted.FindAllStringIndex(page, -1) {
		b.WriteString(printable.Text(page[at:colour[0]]))
		b.WriteString(page[colour[0]:colour[1]])
		at = colour[1]
	}
	b.WriteString(printable.Text(page[at:]))
	return b.String()
}
