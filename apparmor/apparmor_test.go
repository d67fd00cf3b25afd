package apparmor

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// profiles are all there are.
func profiles() []File {
	return append(HostFiles(), File{Name: Agent, Profile: Agent, Text: Guest})
}

// tree puts all files into a directory as they lie in Dir.
func tree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range profiles() {
		put(t, filepath.Join(dir, f.Name), f.Text)
	}
	return dir
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// parse has apparmor_parser read a file of a tree; with -S it prints what it compiled,
// with -N the names of profiles.
func parse(t *testing.T, dir, name string, args ...string) ([]byte, error) {
	t.Helper()
	parser, err := exec.LookPath("apparmor_parser")
	if err != nil {
		t.Skip("skipping, no apparmor_parser (try: apt-get install apparmor)")
	}
	args = append([]string{"-Q", "-K", "-T", "-I", dir, "-I", Dir}, args...)
	cmd := exec.Command(parser, append(args, filepath.Join(dir, name))...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		err = errors.New(said.String())
	}
	return out, err
}

func TestProfilesAreValid(t *testing.T) {
	dir := tree(t)
	for _, f := range profiles() {
		if f.Profile == "" {
			continue
		}
		if names, err := parse(t, dir, f.Name, "-N"); err != nil || !slices.Contains(strings.Fields(string(names)), f.Profile) {
			t.Errorf("%s: defines %q, %v", f.Name, names, err)
		}
		put(t, filepath.Join(dir, "bad"), strings.Replace(f.Text, " r,", " rz,", 1))
		if _, err := parse(t, dir, "bad", "-N"); err == nil {
			t.Errorf("%s: a permission that does not exist is taken", f.Name)
		}
		for _, want := range []string{"\nprofile " + f.Profile + " ", "include if exists <local/" + f.Profile + ">", "\nabi <abi/3.0>,\n", "\ninclude <tunables/global>\n"} {
			if !strings.Contains(f.Text, want) {
				t.Errorf("%s: no %q", f.Name, want)
			}
		}
	}
}

// TestProfilesFitEveryKernel compiles for each set of kernel features that this
// system's AppArmor knows: from none for sockets to those of its newest version.
func TestProfilesFitEveryKernel(t *testing.T) {
	dir := tree(t)
	features, _ := filepath.Glob(Dir + "/abi/*")
	if len(features) == 0 {
		t.Skip("skipping, no " + Dir + "/abi (try: apt-get install apparmor)")
	}
	for _, kernel := range features {
		if filepath.Base(kernel) == "3.0" {
			continue // TestPeerRulesCount has it
		}
		for _, f := range profiles() {
			if f.Profile == "" {
				continue
			}
			if out, err := parse(t, dir, f.Name, "-S", "--kernel-features", kernel); err != nil || len(out) == 0 {
				t.Errorf("%s for %s: %d bytes, %v", f.Name, kernel, len(out), err)
			}
		}
	}
}

var peerRule = regexp.MustCompile(`(?m)^(  unix .*peer=\(label=)[^)]*\)`)

// TestPeerRulesCount: where the kernel mediates AF_UNIX, who may be at the other end
// is part of what it is given.
func TestPeerRulesCount(t *testing.T) {
	kernel := Dir + "/abi/3.0"
	if _, err := os.Stat(kernel); err != nil {
		t.Skip("skipping, no " + kernel + " (try: apt-get install apparmor)")
	}
	dir := tree(t)
	for _, f := range profiles() {
		if f.Profile == "" {
			continue
		}
		whole, err := parse(t, dir, f.Name, "-S", "--kernel-features", kernel)
		if err != nil {
			t.Fatal(err)
		}
		// Not the rules of profiles inside, which are indented further.
		put(t, filepath.Join(dir, "other"), peerRule.ReplaceAllString(f.Text, "${1}nobody)"))
		other, err := parse(t, dir, "other", "-S", "--kernel-features", kernel)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(whole, other) {
			t.Errorf("%s: who may be at the other end changes nothing", f.Name)
		}
	}
}

func TestEveryRuleHasAReason(t *testing.T) {
	for _, f := range profiles() {
		rules := Rules(f.Text)
		if len(rules) < 5 {
			t.Errorf("%s: %d rules seen", f.Name, len(rules))
		}
		for _, r := range rules {
			if r.Why == "" && !strings.HasPrefix(r.Rule, "include if exists <tunables/") {
				t.Errorf("%s: %q has no reason", f.Name, r.Rule)
			}
		}
		if !Ours(f.Text) {
			t.Errorf("%s is not known as ours by its first line", f.Name)
		}
	}
}

// TestNoMoreThanTheUnitsGive: no network and no capability, but for the server's two
// that "guardring run" needs. And nobody reads the keys of Tor and its onion services.
func TestNoMoreThanTheUnitsGive(t *testing.T) {
	allowed := map[string][]string{Server: {"capability chown,", "capability fowner,"}}
	for _, f := range profiles() {
		if f.Profile == CLI {
			continue // root's command
		}
		for _, r := range Rules(f.Text) {
			word, _, _ := strings.Cut(r.Rule, " ")
			if slices.Contains([]string{"network", "capability", "mount", "ptrace", "userns"}, word) && !slices.Contains(allowed[f.Profile], r.Rule) {
				t.Errorf("%s: %s", f.Name, r.Rule)
			}
		}
	}
	for _, path := range []string{"/var/lib/tor/{,**} ", "/var/lib/tor/** ", "/run/tor/{,**} "} {
		if strings.Contains(Guest, path) {
			t.Errorf("the agent may have all of %s", path)
		}
	}
}

func TestRules(t *testing.T) {
	got := Rules("# Profile of x\n\nabi <abi/3.0>,\ninclude <tunables/global>\nprofile x {\n  # one\n  # reason\n  /a r,\n  /b r,\n  # another\n  /c r,\n\n  /d r,\n}\n")
	want := []Rule{{"/a r,", "one reason"}, {"/b r,", "one reason"}, {"/c r,", "another"}, {"/d r,", ""}}
	if len(got) != len(want) {
		t.Fatalf("%q", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%q, want %q", got[i], want[i])
		}
	}
}

func TestTunables(t *testing.T) {
	for _, c := range []struct {
		name     string
		settings []Setting
		want     string // the lines that set something
		fault    string
	}{
		{"the default", []Setting{{"guardring_run", "run-dir", "/run/guardring"}, {"guardring_consensus", "consensus", ""}}, "", ""},
		{"another", []Setting{{"guardring_run", "run-dir", "/srv/my ring/"}}, `@{guardring_run}+="/srv/my ring"` + "\n", ""},
		{"the same twice", []Setting{{"guardring_etc", "--config", "/srv/etc"}, {"guardring_etc", "gateways-dir", "/srv/etc"}}, `@{guardring_etc}+="/srv/etc"` + "\n", ""},
		{"a pattern", []Setting{{"guardring_run", "run-dir", "/srv/**"}}, "", "run-dir: "},
		{"a quote", []Setting{{"guardring_run", "run-dir", `/srv/a" x`}}, "", "run-dir: "},
		{"a variable", []Setting{{"guardring_run", "run-dir", "/srv/@{HOME}"}}, "", "run-dir: "},
		{"a line", []Setting{{"guardring_run", "run-dir", "/srv/a\n/b"}}, "", "run-dir: "},
		{"everything", []Setting{{"guardring_run", "run-dir", "/"}}, "", "run-dir: "},
		{"hidden everything", []Setting{{"guardring_run", "run-dir", "/srv/.."}}, "", "run-dir: "},
		{"below the root", []Setting{{"guardring_run", "run-dir", "/etc"}}, "", "run-dir: a profile that allows all of /etc"},
		{"unknown", []Setting{{"guardring_x", "x", "/srv/x"}}, "", "no variable"},
	} {
		text, err := Tunables(c.settings)
		if c.fault != "" {
			if err == nil || !strings.Contains(err.Error(), c.fault) || text != "" {
				t.Errorf("%s: %q, %v", c.name, text, err)
			}
			continue
		}
		got := ""
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "@") {
				got += line
			}
		}
		if got != c.want || err != nil || text != "" && !Ours(text) {
			t.Errorf("%s: %q, %v", c.name, text, err)
		}
	}
}

// TestConfiguredPathsReachTheProfile: what Tunables writes, the parser reads.
func TestConfiguredPathsReachTheProfile(t *testing.T) {
	dir := tree(t)
	before, err := parse(t, dir, Server, "-S")
	if err != nil {
		t.Fatal(err)
	}
	text, err := Tunables([]Setting{{"guardring_run", "run-dir", "/srv/my ring"}})
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, Configured), text)
	after, err := parse(t, dir, Server, "-S")
	if err != nil || bytes.Equal(before, after) {
		t.Errorf("the same profile, %v", err)
	}
}

func TestParseLabel(t *testing.T) {
	for text, want := range map[string]Label{
		"unconfined\n":             {"unconfined", ""},
		"libvirt-7f3c (enforce)\n": {"libvirt-7f3c", "enforce"},
		"a (b) (complain)":         {"a (b)", "complain"},
		"\x00":                     {},
		"":                         {},
	} {
		if got := ParseLabel([]byte(text)); got != want {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

func TestLabelOf(t *testing.T) {
	root := t.TempDir()
	put(t, root+"/proc/7/attr/current", "selinux's word")
	put(t, root+"/proc/7/attr/apparmor/current", "x (enforce)\n")
	put(t, root+"/proc/8/attr/current", "unconfined\n")
	for pid, want := range map[int]string{7: "x (enforce)", 8: "unconfined"} {
		if got, err := LabelOf(root, pid); got.String() != want || err != nil {
			t.Errorf("%d: %q, %v", pid, got, err)
		}
	}
	if _, err := LabelOf(root, 9); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
