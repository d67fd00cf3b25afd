package agentiso

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"guardring/apparmor"
)

// disk is a mounted image, as far as the script knows; its agent is a script.
func disk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"guardring-guest":          "#!/bin/sh\n",
		"guardring-guest.apparmor": apparmor.Guest,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"install", "guardring-guest.service", "guest.yaml"} {
		b, err := files.ReadFile("files/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// tree is a Debian with Tor, as far as the script knows.
func tree(t *testing.T, passwd string) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"etc/apparmor.d"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "etc/passwd"), []byte(passwd), 0o644); err != nil {
		t.Fatal(err)
	}
	return root
}

func install(t *testing.T, disk string, args ...string) (string, error) {
	t.Helper()
	out, err := exec.Command("sh", append([]string{filepath.Join(disk, "install")}, args...)...).CombinedOutput()
	return string(out), err
}

// in returns the files of a tree with their modes and contents.
func in(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		all[strings.TrimPrefix(path, root+"/")] = info.Mode().String() + " " + string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

const withTor = "root:x:0:0::/:/bin/sh\ndebian-tor:x:101:101::/var/lib/tor:/bin/false\n"

func TestInstallIntoATree(t *testing.T) {
	d, root := disk(t), tree(t, withTor)
	before := in(t, root)
	if out, err := install(t, d, "--root", root, "--dry-run"); err != nil || len(in(t, root)) != len(before) {
		t.Fatalf("--dry-run: %v, %s", err, out)
	}
	out, err := install(t, d, "--root", root)
	if err != nil || !strings.Contains(out, "next, in the image: guardring-guest join") {
		t.Fatalf("%v, %s", err, out)
	}
	first := in(t, root)
	for path, want := range map[string]string{
		"usr/local/bin/guardring-guest":              "-rwxr-xr-x #!/bin/sh",
		"etc/systemd/system/guardring-guest.service": "-rw-r--r-- [Unit]",
		"etc/apparmor.d/guardring-guest":             "-rw-r--r-- # Profile of \"guardring-guest run\"",
		"etc/guardring/guest.yaml":                   "-rw-r--r-- # guardring-guest: configuration",
	} {
		if !strings.HasPrefix(first[path], want) {
			t.Errorf("%s: %.60q, want %q", path, first[path], want)
		}
	}
	if len(first) != len(before)+4 {
		t.Errorf("%d files, want 4 more than %d", len(first), len(before))
	}
	// The administrator changes the configuration; a newer agent comes.
	mine := filepath.Join(root, "etc/guardring/guest.yaml")
	if err := os.WriteFile(mine, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d, "guardring-guest"), []byte("#!/bin/sh\n# newer\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := install(t, d, "--root", root); err != nil || !strings.Contains(out, "guest.yaml is there already") || !strings.Contains(out, "service is there already") {
		t.Fatalf("%v, %s", err, out)
	}
	second := in(t, root)
	if !strings.Contains(second["usr/local/bin/guardring-guest"], "# newer") || !strings.HasSuffix(second["etc/guardring/guest.yaml"], " mine") || len(second) != len(first) {
		t.Errorf("after the second: %q", second)
	}
	if out, err := install(t, d, "--remove", "--root", root); err != nil {
		t.Fatalf("%v, %s", err, out)
	}
	if third := in(t, root); len(third) != len(before)+1 || !strings.HasSuffix(third["etc/guardring/guest.yaml"], " mine") {
		t.Errorf("after removal: %q", third)
	}
}

// TestRemoveLeavesNothing: a configuration that nobody has changed goes, too, and so does what the agent's unit has made.
func TestRemoveLeavesNothing(t *testing.T) {
	d, root := disk(t), tree(t, withTor)
	folders := func() string {
		out, err := exec.Command("find", root, "-path", "*guardring*", "-printf", "%P\n").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	if out, err := install(t, d, "--root", root); err != nil {
		t.Fatalf("%v, %s", err, out)
	}
	state := filepath.Join(root, "var/lib/guardring-guest")
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := install(t, d, "--remove", "--root", root, "--dry-run"); err != nil || !strings.Contains(folders(), "guest.yaml") || !strings.Contains(folders(), "lib/guardring-guest") {
		t.Errorf("--dry-run: %v, %s", err, out)
	}
	if out, err := install(t, d, "--remove", "--root", root); err != nil || !strings.HasSuffix(out, "\nremoved\n") {
		t.Errorf("%v, %s", err, out)
	}
	if left := folders(); left != "" {
		t.Errorf("left:\n%s", left)
	}
}

// TestInstallBesideThePackage: the two have files of the same names, and must not take
// each other's.
func TestInstallBesideThePackage(t *testing.T) {
	d, root := disk(t), tree(t, withTor)
	if out, err := install(t, d, "--root", root); err != nil {
		t.Fatal(out)
	}
	if err := os.MkdirAll(filepath.Join(root, "usr/bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "usr/bin/guardring-guest"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	before := in(t, root)
	if out, err := install(t, d, "--root", root); err == nil || !strings.Contains(out, "hint: upgrade the package") || len(in(t, root)) != len(before) {
		t.Errorf("%v, %s", err, out)
	}
	if out, err := install(t, d, "--remove", "--root", root); err != nil || !strings.Contains(out, "the package guardring-guest takes over") {
		t.Errorf("%v, %s", err, out)
	}
	after := in(t, root)
	for path, want := range map[string]bool{
		"usr/local/bin/guardring-guest": false, "etc/systemd/system/guardring-guest.service": false,
		"etc/apparmor.d/guardring-guest": true, "etc/guardring/guest.yaml": true, "usr/bin/guardring-guest": true,
	} {
		if _, there := after[path]; there != want {
			t.Errorf("%s: there %t, want %t", path, there, want)
		}
	}
}

// TestInstallWithAnAgentThatDoesNotRun: half an installation leaves no empty
// configuration, which the next one would keep.
func TestInstallWithAnAgentThatDoesNotRun(t *testing.T) {
	d, root := disk(t), tree(t, withTor)
	agent := filepath.Join(d, "guardring-guest")
	good, err := os.ReadFile(agent)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(agent, []byte("#!/bin/sh\nexit 126\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := install(t, d, "--root", root); err == nil || !strings.Contains(out, "does not run") {
		t.Errorf("%v, %s", err, out)
	}
	if text, there := in(t, root)["etc/guardring/guest.yaml"]; there {
		t.Errorf("the configuration is %q", text)
	}
	if err := os.WriteFile(agent, good, 0o755); err != nil {
		t.Fatal(err)
	}
	// A disk that is mounted noexec.
	if err := os.Chmod(agent, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := install(t, d, "--root", root); err != nil {
		t.Errorf("%v, %s", err, out)
	}
	if text := in(t, root)["etc/guardring/guest.yaml"]; !strings.HasSuffix(text, "\nuser: debian-tor\n") {
		t.Errorf("the configuration is %q", text)
	}
}

func TestInstallSaysWhatIsWrong(t *testing.T) {
	d := disk(t)
	for want, args := range map[string][]string{
		"there is no user debian-tor":  {"--root", tree(t, "root:x:0:0::/:/bin/sh\n")},
		"unknown argument: --nonsense": {"--nonsense"},
		"usage: sh install":            {"--root"},
	} {
		if out, err := install(t, d, args...); err == nil || !strings.Contains(out, want) {
			t.Errorf("%q: %v, %q; want %q", args, err, out, want)
		}
	}
	if out, err := install(t, d, "--help"); err != nil || !strings.Contains(out, "--remove") {
		t.Errorf("%v, %s", err, out)
	}
}

// TestUnit has systemd judge the unit, where it is.
func TestUnit(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("skipping, no systemd-analyze (try: apt-get install systemd)")
	}
	unit := filepath.Join(t.TempDir(), "guardring-guest.service")
	text, err := files.ReadFile("files/guardring-guest.service")
	if err != nil {
		t.Fatal(err)
	}
	// The program is not here.
	if err := os.WriteFile(unit, []byte(strings.NewReplacer("=guardring-guest ", "=true ", "=+guardring-guest ", "=+true ").Replace(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(analyze, "verify", "--man=no", unit).CombinedOutput(); err != nil || strings.Contains(string(out), "guardring-guest.service:") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := exec.Command(analyze, "security", "--offline=yes", "--threshold=10", unit).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	} else {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		t.Log(lines[len(lines)-1])
	}
}
