//go:build e2e

package hostvm

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// picture is all that "guardring apparmor" could leave behind: files below the parser's directories with their modes, and what the kernel has.
// Not which processes there are: libvirtd ends when nobody wants it.
const picture = `find /etc/apparmor.d /etc/apparmor /var/cache/apparmor -mindepth 1 -printf '%p %y %m %u\n' | sort
find /etc/apparmor.d /etc/apparmor /var/cache/apparmor -type f -exec sha256sum {} + | sort
sort /sys/kernel/security/apparmor/profiles
aa-status | sed '/ processes have profiles/,$d'`

// TestApparmorCommand: "guardring apparmor" on a host without our packages: what it installs confines what is started then, it says so, and its
// removal leaves files and kernel as they were.
func TestApparmorCommand(t *testing.T) {
	h, ctx := host(t, booted)
	must(t, h, ctx, "dpkg-deb --extract /kit/guardring.deb /opt/unpacked; cp /opt/unpacked/usr/bin/guardring /usr/local/bin/")
	before := must(t, h, ctx, picture)
	since := mark(t, h, ctx)

	var shown struct {
		Files []struct{ Path, Profile, State string }
	}
	decode(t, must(t, h, ctx, "guardring apparmor show --json"), &shown)
	for _, f := range shown.Files {
		if f.State != "not installed" {
			t.Errorf("%s is %s", f.Path, f.State)
		}
	}
	if len(shown.Files) < 5 {
		t.Errorf("show names %d files", len(shown.Files))
	}
	if plan := steps(t, h, ctx, "install --dry-run --json"); !plan.DryRun || !slices.Contains(plan.names(), "load guardring-server") {
		t.Errorf("the plan is %+v", plan)
	}
	same(t, "a plan to install", before, must(t, h, ctx, picture))

	done := steps(t, h, ctx, "install --json")
	for _, s := range done.Steps {
		if s.Done {
			t.Errorf("%s %s was done before", s.Action, s.Target)
		}
	}
	during := must(t, h, ctx, picture)
	for _, s := range steps(t, h, ctx, "install --json").Steps {
		if !s.Done && s.Action != "reload" {
			t.Errorf("a second time: %s %s", s.Action, s.Target)
		}
	}
	same(t, "a second installation", during, must(t, h, ctx, picture))

	// What is started now is confined, each by its own profile.
	must(t, h, ctx, "systemd-run --quiet --unit=both guardring run")
	if err := h.Await(ctx, "a coordinator acts", "guardring status | grep -q acting"); err != nil {
		t.Fatal(err)
	}
	var checked struct {
		Processes []struct{ Name, Profile, Mode string }
	}
	decode(t, must(t, h, ctx, "guardring apparmor check --json"), &checked)
	got := map[string]string{}
	for _, p := range checked.Processes {
		got[p.Name] = p.Profile + " " + p.Mode
	}
	for name, profile := range map[string]string{"this command": "guardring", "server": "guardring-server", "coordinator 0": "guardring-coordinator"} {
		if got[name] != profile+" enforce" {
			t.Errorf("%s is confined by %q, of %v", name, got[name], got)
		}
	}
	must(t, h, ctx, "systemctl stop both")
	noDenials(t, h, ctx, since)

	if plan := steps(t, h, ctx, "remove --dry-run --json"); !plan.DryRun || !slices.Contains(plan.names(), "unload guardring-server") {
		t.Errorf("the plan is %+v", plan)
	}
	same(t, "a plan to remove", during, must(t, h, ctx, picture))
	steps(t, h, ctx, "remove --json")
	same(t, "removal", before, must(t, h, ctx, picture))
	noDenials(t, h, ctx, since)

	// Now it says so, with the exit code of a fault.
	r, err := h.Sh(ctx, "guardring apparmor check")
	if err != nil || r.Code != 2 || !strings.Contains(r.Stdout, "there is no /etc/apparmor.d/guardring-server") {
		t.Errorf("check after the removal: %+v, %v", r, err)
	}
}

// report is what install and remove say with --json.
type report struct {
	DryRun bool `json:"dry_run"`
	Steps  []struct {
		Action, Target string
		Done           bool
	}
}

func (r report) names() []string {
	var all []string
	for _, s := range r.Steps {
		all = append(all, s.Action+" "+s.Target)
	}
	return all
}

func steps(t *testing.T, h *Host, ctx context.Context, arguments string) report {
	t.Helper()
	var r report
	decode(t, must(t, h, ctx, "guardring apparmor "+arguments), &r)
	if len(r.Steps) == 0 {
		t.Errorf("guardring apparmor %s: no step", arguments)
	}
	return r
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
}

// same reports the lines by which two pictures differ.
func same(t *testing.T, what, before, after string) {
	t.Helper()
	b, a := strings.Split(before, "\n"), strings.Split(after, "\n")
	var diff strings.Builder
	for _, line := range b {
		if !slices.Contains(a, line) {
			fmt.Fprintf(&diff, "- %s\n", line)
		}
	}
	for _, line := range a {
		if !slices.Contains(b, line) {
			fmt.Fprintf(&diff, "+ %s\n", line)
		}
	}
	if diff.Len() > 0 {
		t.Errorf("%s changes:\n%s", what, diff.String())
	}
}
