package manualtest

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// CheckPage fails t where a shell block of a page written in Markdown calls the
// program with a command or flag that it does not have, and if none calls it.
func CheckPage(t *testing.T, app *cli.App, page string) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	want := defined(app)
	called := 0
	for _, line := range shellLines(string(text)) {
		words := strings.Fields(line)
		if i := slices.Index(words, "--"); i > 0 && words[0] == "runuser" {
			words = words[i+1:]
		}
		if len(words) == 0 || words[0] != app.Name {
			continue
		}
		called++
		if fault := misused(want, words[1:]); fault != "" {
			t.Errorf("%s: %q: %s", page, line, fault)
		}
	}
	if called == 0 {
		t.Errorf("%s never calls %s", page, app.Name)
	}
}

var fence = regexp.MustCompile("(?ms)^```sh[^\n]*\n(.*?)^```$")

// shellLines are the lines of a page's shell blocks, without comments.
func shellLines(page string) []string {
	var lines []string
	for _, block := range fence.FindAllStringSubmatch(page, -1) {
		for line := range strings.Lines(block[1]) {
			line, _, _ = strings.Cut(line, " #")
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// misused says what is wrong with a command line; "" if nothing is.
func misused(want []one, words []string) string {
	at := want[0]
	for len(words) > 0 && slices.Contains(at.subs, words[0]) {
		path := append(slices.Clone(at.path), words[0])
		at = want[slices.IndexFunc(want, func(o one) bool { return slices.Equal(o.path, path) })]
		words = words[1:]
	}
	if len(at.subs) > 0 {
		return "no such command"
	}
	for _, w := range words {
		if name, _, _ := strings.Cut(w, "="); strings.HasPrefix(w, "-") && !slices.Contains(at.flags, name) {
			return "no flag " + name
		}
	}
	return ""
}
