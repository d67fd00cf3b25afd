package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"guardring/guest-agent/discovery"
	"guardring/guest-agent/include"
)

// TestAdminPageWhonix: what docs/ADMIN.md says of Whonix-Gateway, where no test runs it: Tor's unit, user, files and socket are those that we look for
// in a tree like Whonix's, and join makes the two files there that the page names, and no other.
func TestAdminPageWhonix(t *testing.T) {
	page, err := os.ReadFile("../docs/ADMIN.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## In each gateway: Whonix-Gateway\n")
	section, _, _ = strings.Cut(section, "\n## ")
	named := func(what, path string) {
		t.Helper()
		if !strings.Contains(section, "`"+path+"`") {
			t.Errorf("the page does not name %s, %s", what, path)
		}
	}
	root := t.TempDir()
	torrc := "%include " + root + "/usr/local/etc/torrc.d/*.conf\n" // by /etc/torrc.d, in truth
	for path, text := range map[string]string{"etc/tor/torrc": torrc, "usr/local/etc/torrc.d/50_user.conf": "# mine\n"} {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	files := func() map[string]bool {
		all := map[string]bool{}
		if err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				all[strings.TrimPrefix(path, root)] = true
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return all
	}
	before := files()
	tors, err := discovery.Find(root)
	if err != nil || len(tors) != 1 {
		t.Fatal(tors, err)
	}
	tor := tors[0]
	named("the torrc", strings.TrimPrefix(tor.Torrc, root))
	named("the control socket", strings.TrimPrefix(tor.Control, root))
	named("Tor's unit", strings.TrimSuffix(tor.Unit, ".service"))
	named("Tor's user", tor.User)
	site := include.Site{Torrc: tor.Torrc, Include: tor.Include, Folder: tor.Folder, UID: -1, GID: -1}
	if _, err := include.Join(site, ""); err != nil {
		t.Fatal(err)
	}
	made := 0
	for path := range files() {
		if !before[path] {
			named("a file that join makes", path)
			made++
		}
	}
	if made != 2 {
		t.Errorf("join has made %d files", made)
	}
	if got, err := os.ReadFile(tor.Torrc); err != nil || string(got) != torrc {
		t.Errorf("torrc does not stay as it is: %q, %v", got, err)
	}
}
