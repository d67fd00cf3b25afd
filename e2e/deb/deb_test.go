//go:build e2e

// Package deb installs, upgrades, removes and purges the built Debian packages: in a
// copy-on-write view of this system, in namespaces of its own, without network. No
// systemd runs there; what the packages' scripts would have it do is written down.
package deb

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// built is where make deb puts the packages.
const built = "../../build/deb"

func TestChecksums(t *testing.T) {
	packages(t)
	cmd := exec.Command("sha256sum", "--check", "--strict", "SHA256SUMS")
	cmd.Dir = built
	if out, err := cmd.CombinedOutput(); err != nil || strings.Count(string(out), ": OK\n") != 4 {
		t.Errorf("%v\n%s", err, out)
	}
}

// packages are this machine's two, the guest's first.
func packages(t *testing.T) []string {
	t.Helper()
	debs, err := filepath.Glob(filepath.Join(built, "*_"+runtime.GOARCH+".deb"))
	if err != nil || len(debs) != 2 {
		t.Fatalf("packages in %s: %q, %v (try: make deb)", built, debs, err)
	}
	return debs
}

func TestLife(t *testing.T) {
	packages(t)
	if os.Geteuid() != 0 {
		t.Fatal("this is not root, who alone installs packages")
	}
	debs, err := filepath.Abs(built)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "--mount", "--net", "--pid", "--ipc", "--fork", "--kill-child", "--propagation", "private",
		"sh", "testdata/world.sh", t.TempDir(), debs, runtime.GOARCH)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	said := parts(out.String())
	for part, want := range map[string][]string{
		"install":               {"guardring-guest: next: guardring-guest join", "web is good", "runuser -u guardring", "highest term 0"},
		"joined":                {"%include /etc/tor/guardring/default.conf"},
		"upgrade":               {"web is good", "# mine"},
		"beside the CD's agent": {"the agent from the host's CD stays", "the CD's agent goes on"},
		"remove":                {"web is still a gateway", "removed the include line from /etc/tor/torrc"},
	} {
		for _, w := range want {
			if !strings.Contains(said[part], w) {
				t.Errorf("%s: no %q in\n%s", part, w, said[part])
			}
		}
	}
	if got := strings.TrimSpace(said["left"]); got != "" {
		t.Errorf("purged packages leave or take with them:\n%s", got)
	}
	server := func(part, verb string) bool { return asked(said[part+" systemctl"], verb, "guardring-server.service") }
	for _, c := range []struct {
		part, verb string
		want       bool
	}{
		{"install", "start", true}, {"upgrade", "restart", true}, {"remove", "stop", true},
		{"upgrade", "stop", false}, {"upgrade", "start", false}, {"install", "stop", false},
	} {
		if server(c.part, c.verb) != c.want {
			t.Errorf("%s: is the server asked to %s: want %t\n%s", c.part, c.verb, c.want, said[c.part+" systemctl"])
		}
	}
	// systemd reads all its files anew once for each package: with many units that takes long.
	for part, want := range map[string]int{"install": 2, "upgrade": 2, "remove": 2, "purge": 2} {
		calls := said[part+" systemctl"]
		if n := strings.Count(calls, "daemon-reload"); n != want {
			t.Errorf("%s: %d times daemon-reload, want %d:\n%s", part, n, want, calls)
		}
		for _, unit := range regexp.MustCompile(`\S+\.(service|socket|target)`).FindAllString(calls, -1) {
			if !strings.HasPrefix(unit, "guardring-") {
				t.Errorf("%s: %s is not ours:\n%s", part, unit, calls)
			}
		}
	}
}

// asked reports whether systemctl was called with a verb and a unit.
func asked(calls, verb, unit string) bool {
	for line := range strings.Lines(calls) {
		if words := strings.Fields(line); slices.Contains(words, verb) && slices.Contains(words, unit) {
			return true
		}
	}
	return false
}

// parts cuts what the script says at its headings.
func parts(out string) map[string]string {
	said := map[string]string{}
	name := ""
	for line := range strings.Lines(out) {
		if heading, ok := strings.CutPrefix(line, "== "); ok {
			name = strings.TrimSpace(heading)
			continue
		}
		said[name] += line
	}
	return said
}
