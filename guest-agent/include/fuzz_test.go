package include

import (
	"strings"
	"testing"
)

// FuzzParseLines: any text is split in one pass, into lines whose keys are words and whose numbers are lines of it.
func FuzzParseLines(f *testing.F) {
	for _, s := range []string{"", "A b\n", "X # \\\nY 1\n", "K \\\n# c\n v\n", "\\\n", "Q \"a\\\"b\" # c\n", "+K v\r\n/K\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		most := strings.Count(text, "\n") + 1
		last := 0
		for _, l := range parseLines("torrc", text) {
			if l.number < last || l.number < 1 || l.number > most {
				t.Fatalf("line %d after line %d, of %d", l.number, last, most)
			}
			if last = l.number; strings.ContainsAny(l.key, " \t\n\r\v\f#") || strings.Contains(l.value, "\\\n") && !strings.HasPrefix(l.value, `"`) {
				t.Fatalf("line %d: key %q, value %q", l.number, l.key, l.value)
			}
		}
	})
}
