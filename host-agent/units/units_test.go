package units

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// exposure is the most that systemd-analyze may find, in tenths.
const exposure = "--threshold=10"

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := Files.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// services are the units' names.
func services(t *testing.T) []string {
	t.Helper()
	names, err := fs.Glob(Files, "*.service")
	if err != nil || len(names) < 2 {
		t.Fatalf("units: %q, %v", names, err)
	}
	return names
}

// settings are a unit's lines by key.
func settings(text string) map[string][]string {
	all := map[string][]string{}
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(key, "#") {
			all[key] = append(all[key], value)
		}
	}
	return all
}

// tool finds a program of systemd, or skips.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("skipping, no %s (try: apt-get install systemd)", name)
	}
	return path
}

// run writes a unit under its name and has a program judge it.
func run(t *testing.T, name, text string, args ...string) (string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(args[0], append(args[1:], file)...).CombinedOutput()
	return string(out), err
}

func TestSandboxes(t *testing.T) {
	analyze := tool(t, "systemd-analyze")
	for _, name := range services(t) {
		text := read(t, name)
		out, err := run(t, name, text, analyze, "security", "--offline=yes", exposure)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		t.Log(lines[len(lines)-1])
		for _, key := range []string{"PrivateNetwork=", "CapabilityBoundingSet=", "SystemCallFilter="} {
			text = strings.ReplaceAll(text, "\n"+key, "\n#"+key)
		}
		if out, err := run(t, name, text, analyze, "security", "--offline=yes", exposure); err == nil {
			t.Errorf("%s passes without half of its sandbox:\n%s", name, out)
		}
	}
}

func TestSyntax(t *testing.T) {
	analyze := tool(t, "systemd-analyze")
	for _, name := range services(t) {
		// The program is not here.
		text := strings.ReplaceAll(read(t, name), "/usr/bin/guardring", "/bin/true")
		judge := func(text string) bool {
			out, err := run(t, name, text, analyze, "verify", "--man=no")
			if err != nil || strings.Contains(out, name+":") {
				t.Log(err, out)
				return false
			}
			return true
		}
		if !judge(text) {
			t.Errorf("%s has a fault", name)
		}
		if judge(strings.Replace(text, "[Service]", "[Service]\nRestart=perhaps", 1)) {
			t.Errorf("%s: a fault is not seen", name)
		}
	}
}

// TestTheServerKeepsDevicesAlive: what must be so for running gateways to keep their
// device over a restart of the server, and to find it when they start.
func TestTheServerKeepsDevicesAlive(t *testing.T) {
	s := settings(read(t, "guardring-server.service"))
	for key, want := range map[string]string{
		"Type": "notify", "NotifyAccess": "main", // FDSTORE comes from the server itself
		"RuntimeDirectoryPreserve": "yes", // else the sockets' files go
		"StartLimitIntervalSec":    "0",   // a unit that has failed for good loses its store
		"Restart":                  "always",
		"PrivateUsers":             "", "ProtectProc": "", "ProcSubset": "", // they hide who holds a seat
	} {
		if got := strings.Join(s[key], " "); got != want {
			t.Errorf("%s=%s, want %q", key, got, want)
		}
	}
	room, err := strconv.Atoi(strings.Join(s["FileDescriptorStoreMax"], ""))
	if err != nil || room < 1024 {
		t.Errorf("FileDescriptorStoreMax=%v: a gateway needs 20 and more", s["FileDescriptorStoreMax"])
	}
	if want := fmt.Sprintf("FDSTORE=%d", room); !slices.Contains(s["Environment"], want) {
		t.Errorf("Environment=%v, want %s, for systemd 252 does not tell that there is a store", s["Environment"], want)
	}
	for _, libvirt := range []string{"libvirtd.service", "virtqemud.service"} {
		if !strings.Contains(strings.Join(s["Before"], " "), libvirt) {
			t.Errorf("Before=%v lacks %s, which starts domains", s["Before"], libvirt)
		}
	}
}

// TestGuardsStayInMemory: what is in the units' memory, the agent's in a gateway too, is a list
// of one person's guards.
func TestGuardsStayInMemory(t *testing.T) {
	const agents = "../agentiso/files/guardring-guest.service"
	units := map[string]string{}
	for _, name := range services(t) {
		units[name] = read(t, name)
	}
	agent, err := os.ReadFile(agents)
	if err != nil {
		t.Fatal(err)
	}
	units[agents] = string(agent)
	for name, text := range units {
		s := settings(text)
		for _, key := range []string{"LimitCORE", "MemorySwapMax"} {
			if got := strings.Join(s[key], " "); got != "0" {
				t.Errorf("%s: %s=%s, want 0", name, key, got)
			}
		}
	}
}

// TestOwners: systemd gives a unit's directory, with all that is in it, to the unit's
// user and group whenever it has another owner or mode. So all who name one must agree.
func TestOwners(t *testing.T) {
	made := map[string]string{}
	for line := range strings.Lines(read(t, "tmpfiles.conf")) {
		if f := strings.Fields(line); len(f) >= 5 && f[0] == "d" {
			made[f[1]] = strings.Join(f[2:5], " ")
		}
	}
	met := 0
	for _, name := range services(t) {
		s := settings(read(t, name))
		for key, base := range map[string]string{"RuntimeDirectory": "/run/", "StateDirectory": "/var/lib/"} {
			for _, dir := range s[key] {
				met++
				want := fmt.Sprintf("%s %s %s", s[key+"Mode"][0], s["User"][0], s["Group"][0])
				if got := made[base+dir]; got != want {
					t.Errorf("%s: %s%s is %q by the unit and %q by tmpfiles.conf", name, base, dir, want, got)
				}
			}
		}
	}
	if met != len(made) || met != 2 {
		t.Errorf("%d directories in the units, %d in tmpfiles.conf", met, len(made))
	}
}

func TestUsers(t *testing.T) {
	sysusers := tool(t, "systemd-sysusers")
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := run(t, "guardring.conf", read(t, "sysusers.conf"), sysusers, "--root="+root); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	users, err := os.ReadFile(filepath.Join(root, "etc/passwd"))
	if err != nil {
		t.Fatal(err)
	}
	groups, err := os.ReadFile(filepath.Join(root, "etc/group"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(users), ":guardring host agents:/var/lib/guardring:/usr/sbin/nologin\n") {
		t.Errorf("users: %s", users)
	}
	for _, name := range services(t) {
		s := settings(read(t, name))
		if !strings.Contains(string(users), s["User"][0]+":x:") || !strings.Contains("\n"+string(groups), "\n"+s["Group"][0]+":x:") {
			t.Errorf("%s runs as %s:%s; there are %s%s", name, s["User"][0], s["Group"][0], users, groups)
		}
	}
}
