package hostvm

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const adminPage = "../../docs/ADMIN.md"

// kinds of blocks in the page. The first four are run; of the others only commands and flags are checked.
var kinds = []string{"", "repair", "gateway", "gateway package", "build", "whonix", "example"}

func TestBlocks(t *testing.T) {
	page := "text\n```sh\na\nb\n```\n\n```text\nx … y\nz\n```\n```sh gateway\nc\n```\nmore\n```sh\nd\n```\n```text ends with 1\nw\n```\n"
	got, err := Blocks(page)
	want := []Block{{Line: 3, Script: "a\nb\n", Shows: []string{"x … y", "z"}}, {Kind: "gateway", Line: 12, Script: "c\n"},
		{Line: 16, Script: "d\n", Shows: []string{"w"}, Code: 1}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	for _, bad := range []string{"```sh\n", "```text\nx\n```\n", "```sh\na\n```\nmore\n```text\nx\n```\n", "```sh\na\n```\n```text ends badly\nx\n```\n", "```go\n```\n"} {
		if b, err := Blocks(bad); err == nil {
			t.Errorf("%q: %v", bad, b)
		}
	}
}

func TestMissing(t *testing.T) {
	const output = "  one two  \nthree\nfour five six\n"
	for _, c := range []struct{ patterns, want string }{
		{"one two\nthree", ""}, {"one  two\nfour … six", ""}, {"…two", ""}, {"four…", ""}, {"…", ""}, {"fo…ve…x", ""},
		{"one", "one"}, {"three\none two", "one two"}, {"four … five", "four … five"}, {"four … four…", "four … four…"}, {"three\nthree", "three"},
	} {
		if got := missing(output, strings.Split(c.patterns, "\n")); got != c.want {
			t.Errorf("%q: %q is missing, want %q", c.patterns, got, c.want)
		}
	}
}

func TestAdminPageIsMarked(t *testing.T) {
	count := map[string]int{}
	for _, b := range pageBlocks(t) {
		count[b.Kind]++
		if !slices.Contains(kinds, b.Kind) {
			t.Errorf("line %d: a block for %q", b.Line, b.Kind)
		}
	}
	for _, k := range kinds {
		if count[k] == 0 {
			t.Errorf("no block for %q", k)
		}
	}
}

// pageBlocks are the page's blocks of some kinds, in its order; of all kinds if none is named.
func pageBlocks(t *testing.T, kinds ...string) []Block {
	t.Helper()
	page, err := os.ReadFile(adminPage)
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := Blocks(string(page))
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(blocks, func(b Block) bool { return len(kinds) > 0 && !slices.Contains(kinds, b.Kind) })
}
