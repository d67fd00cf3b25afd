// Package printable makes of a text that somebody else wrote one that a terminal
// only shows: whatever is no letter, mark, number, sign or blank becomes a question
// mark, escape sequences among it.
//
// Trust: guests, Tors, libvirt and files may say anything; what is returned is safe to
// print. It is not safe for a shell, and not a way to compare texts.
package printable

import (
	"strings"
	"unicode"
)

// Text is s with its lines and tabs.
func Text(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return r
		}
		return one(r)
	}, s)
}

// Line is s on one line: where a line ends and at a tab there is a blank.
func Line(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		return one(r)
	}, s)
}

func one(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return '?'
}
