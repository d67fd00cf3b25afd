package confinement

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"guardring/apparmor"
	"guardring/internal/checkup"
	"guardring/internal/hint"
)

// parserText stands for apparmor_parser and the kernel behind it: what it loads
// appears in the kernel's list. DIR/refuse holds the step, and for -r the profile, at
// which it fails; with DIR/lies it does nothing and reports success.
const parserText = `#!/bin/sh

list=DIR/sys/kernel/security/apparmor/profiles
echo "$1" >>DIR/calls
refuse=$(cat DIR/refuse 2>/dev/null)
[ ! -e DIR/lies ] || exit 0
case $1 in
-Q) [ "$refuse" != judge ] || { echo "syntax error"; exit 1; } ;;
-r)
	for file; do
		name=${file##*/}
		case $file in -*|*/apparmor.d) continue ;; esac
		[ "$refuse" != "$name" ] || { echo "no room"; exit 1; }
		grep -v "^$name (" "$list" >"$list.new"
		echo "$name (enforce)" >>"$list.new"
		mv "$list.new" "$list"
	done ;;
-R)
	sort | while read -r word name rest; do # in the parser's own order
		[ -z "$bare" ] || { echo "attempted to load a profile while confined?"; exit 243; }
		[ "$name" != guardring ] || bare=yes # by this the parser itself is confined
		grep -q "^$name (" "$list" || { echo "no $name"; exit 1; }
		grep -v "^$name (" "$list" >"$list.new"
		mv "$list.new" "$list"
	done ;;
*) exit 2 ;;
esac
`

// machine makes up a system with AppArmor.
func machine(t *testing.T) System {
	t.Helper()
	root := t.TempDir()
	s := System{Root: root, Parser: filepath.Join(root, "parser")}
	for path, text := range map[string]string{
		"/sys/module/apparmor/parameters/enabled":   "Y\n",
		"/sys/kernel/security/apparmor/profiles":    "libvirtd (enforce)\n",
		"/etc/apparmor.d/tunables/global":           "global\n",
		"/etc/apparmor.d/abstractions/base":         "base\n",
		"/etc/apparmor.d/local/README":              "yours\n",
		"/proc/1/attr/current":                      "unconfined\n",
		"/var/cache/apparmor/26b63962.0/usr.sbin.x": "x",
	} {
		put(t, s, path, text)
	}
	if err := os.WriteFile(s.Parser, []byte(strings.ReplaceAll(parserText, "DIR", root)), 0o755); err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t *testing.T, s System, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(s.path(path)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.path(path), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// state is everything in the tree, the kernel's list included, but for what the
// parser was called with.
func state(t *testing.T, s System) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(s.Root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Base(path) == "calls" {
			return err
		}
		info, err := d.Info()
		text := []byte{}
		if err == nil && d.Type().IsRegular() {
			text, err = os.ReadFile(path)
		}
		all[strings.TrimPrefix(path, s.Root)] = fmt.Sprintf("%s %s", info.Mode(), text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// calls are the steps that the parser was asked for since the last time.
func calls(t *testing.T, s System) string {
	t.Helper()
	b, err := os.ReadFile(s.path("/calls"))
	if err != nil {
		return ""
	}
	_ = os.Remove(s.path("/calls"))
	return strings.Join(strings.Fields(string(b)), " ")
}

func install(t *testing.T, s System, o Options) Report {
	t.Helper()
	r, err := s.Install(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRemoveIsTheExactReverse(t *testing.T) {
	s := machine(t)
	before := state(t, s)
	configured := "# Profiles of guardring: what the configuration says\n"
	install(t, s, Options{Configured: configured})
	if got := calls(t, s); got != "-Q -r" {
		t.Errorf("calls %q", got)
	}
	installed := state(t, s)
	for _, f := range wanted(Options{Configured: configured}) {
		if got := installed[filepath.Join(apparmor.Dir, f.Name)]; got != "-rw-r--r-- "+f.Text {
			t.Errorf("%s: %q", f.Name, got)
		}
	}
	kernel, err := s.Kernel()
	want := map[string]string{"libvirtd": "enforce", apparmor.Server: "enforce", apparmor.Coordinator: "enforce", apparmor.CLI: "enforce"}
	if diff := cmp.Diff(want, kernel.Loaded); diff != "" || err != nil {
		t.Errorf("%s %v", diff, err)
	}

	again := install(t, s, Options{Configured: configured})
	for _, step := range again.Steps {
		if !step.Done && step.Action != "reload" {
			t.Errorf("done again: %+v", step)
		}
	}
	if got := calls(t, s); got != "-Q -r" || !maps.Equal(installed, state(t, s)) {
		t.Errorf("the second install: %q", got)
	}

	put(t, s, "/var/cache/apparmor/26b63962.0/"+apparmor.Server, "compiled")
	put(t, s, "/proc/44/attr/current", apparmor.Server+" (enforce)\n")
	r, err := s.Remove(t.Context(), Options{})
	if err != nil || !strings.Contains(strings.Join(r.Notes, "\n"), "process 44 runs on without "+apparmor.Server) {
		t.Errorf("%v, notes %q", err, r.Notes)
	}
	if err := os.RemoveAll(s.path("/proc/44")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, state(t, s)); diff != "" {
		t.Error(diff)
	}
	if r, err := s.Remove(t.Context(), Options{}); err != nil || len(r.Steps) != 0 {
		t.Errorf("a second remove: %+v, %v", r, err)
	}
}

func TestADryRunChangesNothing(t *testing.T) {
	s := machine(t)
	before := state(t, s)
	r := install(t, s, Options{DryRun: true})
	if len(r.Steps) != len(apparmor.HostFiles())+3 || calls(t, s) != "" || !maps.Equal(before, state(t, s)) {
		t.Errorf("install: %+v", r)
	}
	install(t, s, Options{})
	calls(t, s)
	before = state(t, s)
	r, err := s.Remove(t.Context(), Options{DryRun: true})
	if err != nil || len(r.Steps) != len(apparmor.HostFiles())+3 || calls(t, s) != "" || !maps.Equal(before, state(t, s)) {
		t.Errorf("remove: %+v, %v", r, err)
	}
}

// TestAFailedInstallLeavesNothing fails each step, on a system without us, and on one
// with an older version.
func TestAFailedInstallLeavesNothing(t *testing.T) {
	older := "# Profile of \"guardring serve\", of last year\n"
	for name, fail := range map[string]func(*testing.T, System){
		"judge":       func(t *testing.T, s System) { put(t, s, "/refuse", "judge") },
		"load first":  func(t *testing.T, s System) { put(t, s, "/refuse", apparmor.Server) },
		"load last":   func(t *testing.T, s System) { put(t, s, "/refuse", apparmor.CLI) },
		"parser lies": func(t *testing.T, s System) { put(t, s, "/lies", "") },
		"no directory": func(t *testing.T, s System) {
			if err := os.RemoveAll(s.file("abstractions")); err != nil {
				t.Fatal(err)
			}
		},
	} {
		for _, upgrade := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, upgrade %t", name, upgrade), func(t *testing.T) {
				s := machine(t)
				if upgrade {
					put(t, s, "/etc/apparmor.d/"+apparmor.Server, older)
					put(t, s, "/sys/kernel/security/apparmor/profiles", "libvirtd (enforce)\n"+apparmor.Server+" (enforce)\n")
				}
				fail(t, s)
				before := state(t, s)
				if _, err := s.Install(t.Context(), Options{Force: true}); err == nil && !(name == "parser lies" && upgrade) {
					t.Error("no error")
				} else if err == nil {
					t.Error("no error, though the kernel lacks two profiles")
				}
				if diff := cmp.Diff(before, state(t, s)); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

func TestAnOlderVersionNeedsForce(t *testing.T) {
	s := machine(t)
	older := "# Profile of \"guardring serve\", of last year\n"
	put(t, s, "/etc/apparmor.d/"+apparmor.Server, older)
	before := state(t, s)
	_, err := s.Install(t.Context(), Options{})
	if err == nil || !strings.Contains(hint.Of(err), "--force") {
		t.Errorf("install: %v", err)
	}
	if _, err := s.Remove(t.Context(), Options{}); err == nil || !strings.Contains(hint.Of(err), "--force") {
		t.Errorf("remove: %v", err)
	}
	if diff := cmp.Diff(before, state(t, s)); diff != "" {
		t.Error(diff)
	}
	r := install(t, s, Options{Force: true})
	if got := r.Steps[2]; got.Action != "replace" || got.Done || calls(t, s) != "-Q -r" {
		t.Errorf("%+v", got)
	}
}

// TestAPackagesFiles: dpkg has put a new version there, the admin has edited one file
// and removed another. The kernel must get what lies there, and nothing else.
func TestAPackagesFiles(t *testing.T) {
	s := machine(t)
	install(t, s, Options{})
	put(t, s, "/etc/apparmor.d/"+apparmor.Server, "# Profile of \"guardring serve\", edited\n")
	put(t, s, "/sys/kernel/security/apparmor/profiles", "libvirtd (enforce)\n"+apparmor.Server+" (complain)\n")
	if err := os.Remove(s.file(apparmor.CLI)); err != nil {
		t.Fatal(err)
	}
	calls(t, s)
	configured := "# Profiles of guardring: what the configuration says\n"
	before := state(t, s)
	r := install(t, s, Options{Keep: true, Configured: configured})
	if got := calls(t, s); got != "-Q -r" || len(r.Notes) != 1 {
		t.Errorf("calls %q, notes %q", got, r.Notes)
	}
	kernel, err := s.Kernel()
	want := map[string]string{"libvirtd": "enforce", apparmor.Server: "enforce", apparmor.Coordinator: "enforce"}
	if diff := cmp.Diff(want, kernel.Loaded); diff != "" || err != nil {
		t.Errorf("%s %v", diff, err)
	}
	after := state(t, s)
	for path := range after {
		if path != filepath.Join(apparmor.Dir, apparmor.Configured) && before[path] != after[path] && !strings.HasSuffix(path, "/profiles") {
			t.Errorf("%s: %q", path, after[path])
		}
	}
	if after[filepath.Join(apparmor.Dir, apparmor.Configured)] == "" {
		t.Error("the configuration's file is not there")
	}
}

func TestWhatIsNotOursStays(t *testing.T) {
	for name, make := range map[string]func(*testing.T, System){
		"a file": func(t *testing.T, s System) { put(t, s, "/etc/apparmor.d/guardring", "# mine\n") },
		"a symlink": func(t *testing.T, s System) {
			if err := os.Symlink("/etc/passwd", s.file("guardring")); err != nil {
				t.Fatal(err)
			}
		},
	} {
		s := machine(t)
		make(t, s)
		before := state(t, s)
		for _, do := range []func(context.Context, Options) (Report, error){s.Install, s.Remove} {
			if _, err := do(t.Context(), Options{Force: true}); err == nil || hint.Of(err) == "" {
				t.Errorf("%s: %v", name, err)
			}
		}
		if diff := cmp.Diff(before, state(t, s)); diff != "" || calls(t, s) != "" {
			t.Error(name, diff)
		}
	}
}

// TestRemoveOnAPackagedHost: dpkg does not bring back what was removed.
func TestRemoveOnAPackagedHost(t *testing.T) {
	s := machine(t)
	install(t, s, Options{})
	put(t, s, "/var/lib/dpkg/info/guardring.conffiles", "")
	r, err := s.Remove(t.Context(), Options{})
	if err != nil || !strings.Contains(strings.Join(r.Notes, "\n"), "the package guardring's") {
		t.Errorf("%q, %v", r.Notes, err)
	}
	if r, err := s.Remove(t.Context(), Options{}); err != nil || len(r.Notes) != 0 {
		t.Errorf("%q, %v", r.Notes, err)
	}
}

// TestATreeWhoseLinksLeadOut: an image's absolute links are this machine's paths.
func TestATreeWhoseLinksLeadOut(t *testing.T) {
	for _, dir := range []string{"/etc", "/etc/apparmor.d/tunables"} {
		s, other := machine(t), machine(t)
		if err := os.RemoveAll(s.path(dir)); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(other.path(dir), s.path(dir)); err != nil {
			t.Fatal(err)
		}
		before := state(t, other)
		for _, do := range []func(context.Context, Options) (Report, error){s.Install, s.Remove} {
			if _, err := do(t.Context(), Options{}); err == nil || !strings.Contains(hint.Of(err), "chroot") {
				t.Errorf("%s: %v", dir, err)
			}
		}
		if diff := cmp.Diff(before, state(t, other)); diff != "" || calls(t, s) != "" {
			t.Error(dir, diff)
		}
	}
}

func TestTheConfiguredFileFollowsTheConfiguration(t *testing.T) {
	s := machine(t)
	path := s.file(apparmor.Configured)
	for _, text := range []string{"# Profiles of guardring: 1\n", "# Profiles of guardring: 2\n", ""} {
		install(t, s, Options{Configured: text})
		if got, _ := os.ReadFile(path); string(got) != text {
			t.Errorf("%q, want %q", got, text)
		}
		if got := calls(t, s); got != "-Q -r" {
			t.Errorf("calls %q: the profiles are as they were", got)
		}
	}
}

func TestADisabledProfileIsNotLoaded(t *testing.T) {
	s := machine(t)
	put(t, s, "/etc/apparmor.d/disable/"+apparmor.CLI, "")
	r := install(t, s, Options{})
	kernel, err := s.Kernel()
	if _, ok := kernel.Loaded[apparmor.CLI]; ok || err != nil || len(kernel.Loaded) != 3 || len(r.Notes) != 1 {
		t.Errorf("%v %q %v", kernel.Loaded, r.Notes, err)
	}
}

func TestWithoutAKernelNothingIsLoaded(t *testing.T) {
	s := machine(t)
	if err := os.RemoveAll(s.path("/sys")); err != nil {
		t.Fatal(err)
	}
	r := install(t, s, Options{})
	if got := calls(t, s); got != "-Q" || len(r.Steps) != len(apparmor.HostFiles()) || len(r.Notes) != 1 {
		t.Errorf("calls %q, %+v", got, r)
	}
	lines, _ := s.Check("", nil)
	if lines.Worst() != checkup.Fail {
		t.Errorf("%+v", lines)
	}
}

// TestTheRealParserTakesAnInstalledTree installs into a copy of this system's
// AppArmor, which the real parser then judges.
func TestTheRealParserTakesAnInstalledTree(t *testing.T) {
	if _, err := (System{}).parser(); err != nil {
		t.Skip("skipping, no apparmor_parser (try: apt-get install apparmor)")
	}
	s := System{Root: t.TempDir()}
	for _, dir := range []string{"abi", "tunables", "abstractions"} {
		if err := os.MkdirAll(s.path("/etc"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(s.file(dir), os.DirFS(filepath.Join(apparmor.Dir, dir))); err != nil {
			t.Fatal(err)
		}
	}
	before := state(t, s)
	configured, err := apparmor.Tunables([]apparmor.Setting{{Variable: "guardring_run", Key: "run-dir", Path: "/srv/run of mine"}})
	if err != nil {
		t.Fatal(err)
	}
	install(t, s, Options{Configured: configured})
	put(t, s, "/etc/apparmor.d/tunables/guardring.local", "@{guardring_run}+=\n")
	if err := s.judge(t.Context(), []string{apparmor.Server}); err == nil {
		t.Error("the tree's own files are not read")
	}
	if err := os.Remove(s.file("tunables/guardring.local")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(t.Context(), Options{Configured: configured}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, state(t, s)); diff != "" {
		t.Error(diff)
	}
}
