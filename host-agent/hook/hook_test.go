package hook

import (
	"os"
	"path/filepath"
	"testing"
)

// TestText: names with blanks and quotes stay one word of the shell's, and flags none
// of its own.
func TestText(t *testing.T) {
	const want = head + `[ "$2" = prepare ] && [ -x '/opt/it'\''s/guardring' ] || exit 0
'/opt/it'\''s/guardring' hook run --config '/a b.yaml' -- "$@"
[ $? -ne 3 ] || exit 1
exit 0
`
	if got := Text("/opt/it's/guardring", "--config", "/a b.yaml"); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestThereAndBack(t *testing.T) {
	dir := t.TempDir()
	text := Text("/usr/bin/guardring")
	for _, step := range []struct {
		what string
		do   func() (bool, error)
		want bool // changes
		left bool // the hook is there then
	}{
		{"remove nothing", func() (bool, error) { return Remove(dir, false) }, false, false},
		{"say install", func() (bool, error) { return Install(dir, text, true) }, true, false},
		{"install", func() (bool, error) { return Install(dir, text, false) }, true, true},
		{"install again", func() (bool, error) { return Install(dir, text, false) }, false, true},
		{"say remove", func() (bool, error) { return Remove(dir, true) }, true, true},
		{"remove", func() (bool, error) { return Remove(dir, false) }, true, false},
	} {
		changes, err := step.do()
		path, fault := State(dir, "/usr/bin/guardring")
		if err != nil || changes != step.want || (path != "") != step.left || fault != "" {
			t.Errorf("%s: changes %v, %v; then %q %q", step.what, changes, err, path, fault)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestFaults: what State says of a hook that is not ours, or not as it should be; and
// another's is left alone.
func TestFaults(t *testing.T) {
	for _, test := range []struct {
		text string
		mode os.FileMode
		want string
		ours bool
	}{
		{Text("/usr/bin/guardring"), 0o755, "", true},
		{Text("/usr/bin/guardring"), 0o644, "it is not executable, so libvirt does not run it", true},
		{Text("/opt/guardring"), 0o755, "it runs another guardring than this one", true},
		{"#!/bin/sh\n", 0o755, "it was not made by guardring", false},
	} {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Dir(Path(dir)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(Path(dir), []byte(test.text), test.mode); err != nil {
			t.Fatal(err)
		}
		if path, fault := State(dir, "/usr/bin/guardring"); path != Path(dir) || fault != test.want {
			t.Errorf("%s, %q; want %q", path, fault, test.want)
		}
		_, install := Install(dir, Text("/usr/bin/guardring", "--new"), true)
		_, remove := Remove(dir, true)
		if (install == nil) != test.ours || (remove == nil) != test.ours {
			t.Errorf("%q: install %v, remove %v", test.text, install, remove)
		}
	}
}
