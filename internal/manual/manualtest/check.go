package manualtest

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"guardring/internal/manual"
)

// checkCompletion asks for what can follow each command.
func checkCompletion(t *testing.T, want []one, ask func(words []string) []string) {
	for _, o := range want {
		if len(o.subs) > 0 {
			if got := ask(append(slices.Clone(o.path), "")); !contains(got, o.subs) {
				t.Errorf("after %q: %q, want %q", o.path, got, o.subs)
			}
		}
		got := ask(append(slices.Clone(o.path), "--"))
		var long []string
		for _, f := range o.flags {
			if strings.HasPrefix(f, "--") {
				long = append(long, f)
			}
		}
		if !contains(got, append(long, "--help")) {
			t.Errorf("after %q --: %q, want %q", o.path, got, long)
		}
		for _, w := range got {
			if !slices.Contains(append(o.flags, "--help", "-h"), w) {
				t.Errorf("after %q --: %s, which it does not know", o.path, w)
			}
		}
	}
	// The value of an option is a file, or what only the user knows; and it names no command.
	for _, o := range want {
		if len(o.takes) == 0 || len(o.subs) > 0 {
			continue
		}
		words := append(slices.Clone(o.path), o.takes[0], "")
		if got := ask(words); slices.ContainsFunc(got, func(w string) bool { return strings.HasPrefix(w, "--") }) {
			t.Errorf("after %q: %q", words, got)
		}
		if got := ask(append(slices.Clone(o.path), o.takes[0], want[0].subs[0], "--")); !slices.Contains(got, o.takes[0]) {
			t.Errorf("after %q and a value: %q", o.path, got)
		}
		break
	}
}

func contains(all, some []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}

// checkPages looks for every command, flag and word of the configuration in the pages
// as they are formatted.
func checkPages(t *testing.T, p manual.Program, want []one, page1, page5 string) {
	formatter, err := exec.LookPath("mandoc")
	if err != nil {
		t.Skip("skipping, no mandoc (try: apt-get install mandoc)")
	}
	for _, page := range []string{page1, page5} {
		if out, err := exec.Command(formatter, "-T", "lint", "-W", "warning", page).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%v\n%s", err, out)
		}
	}
	format := func(page string) string {
		out, err := exec.Command(formatter, "-T", "ascii", "-O", "width=1000", page).Output()
		if err != nil {
			t.Fatal(err)
		}
		return plain(string(out))
	}
	text := format(page1)
	for i, o := range want {
		if i == 0 {
			continue
		}
		_, part, ok := strings.Cut(text, "\n   "+strings.Join(o.path, " ")+"\n")
		if !ok {
			t.Errorf("%s has no command %q", page1, o.path)
			continue
		}
		part, _, _ = strings.Cut(part, "\n   "+next(want, i)+"\n")
		for _, f := range o.flags {
			if !strings.Contains(part, " "+f+" ") && !strings.Contains(part, " "+f+"\n") && !strings.Contains(part, " "+f+",") {
				t.Errorf("%s: %q lacks %s:\n%s", page1, o.path, f, part)
			}
		}
		if !strings.Contains(words(part), words(o.usage)) {
			t.Errorf("%s: %q lacks %q", page1, o.path, o.usage)
		}
	}
	// Nothing but line breaks and marks of comments may differ.
	text = words(format(page5))
	for line := range strings.Lines(p.Config.Example) {
		if line = words(strings.TrimPrefix(line, "# ")); !strings.Contains(text, line) {
			t.Errorf("%s lacks %q", page5, line)
		}
	}
	if b, err := os.ReadFile(page5); err != nil || !strings.Contains(string(b), ".SH \"SETTINGS\"") {
		t.Errorf("%s has no settings (%v)", page5, err)
	}
}

// next is the heading of the command behind i.
func next(want []one, i int) string {
	if i+1 < len(want) {
		return strings.Join(want[i+1].path, " ")
	}
	return "FILES"
}

// plain takes the overstrikes out that stand for bold text.
func plain(s string) string {
	var out []rune
	for _, r := range s {
		if r == '\b' && len(out) > 0 {
			out = out[:len(out)-1]
			continue
		}
		out = append(out, r)
	}
	return string(out)
}

// words are a text's words with one space between.
func words(s string) string { return strings.Join(strings.Fields(s), " ") }
