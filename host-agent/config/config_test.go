package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"guardring/internal/configfile"
)

func TestExampleIsTheDefault(t *testing.T) {
	cfg := Config{}
	if err := configfile.Parse("guardring.yaml", []byte(Example), &cfg); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Default(), cfg); d != "" {
		t.Error(d)
	}
	// The commented gateway is valid too, where the user exists.
	text := strings.NewReplacer("gateways: []", "gateways:", "\ngroups: []", "\ngroups:", "\n#  - ", "\n  - ", "\n#    ", "\n    ", "libvirt-qemu", "0", "root ", "0 ").Replace(Example)
	cfg = Default()
	if err := configfile.Parse("guardring.yaml", []byte(text), &cfg); err != nil {
		t.Fatal(err)
	}
	want := Gateway{Name: "updates", Mode: 0o660, AllowUsers: []User{0}, AllowGroups: []Group{}}
	if len(cfg.Groups) != 1 || cfg.Groups[0].Name != "some-operator" || len(cfg.Groups[0].Relays) != 2 {
		t.Errorf("%+v", cfg.Groups)
	}
	if len(cfg.Gateways) != 1 || !cmp.Equal(want, cfg.Gateways[0]) {
		t.Errorf("%+v", cfg.Gateways)
	}
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDropIns(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "g.yaml", "policy: disjoint\ngateways:\n  - name: a\n    owner: root\n    domain: 0B4CD3C2-6a5e-4f0e-9c5e-3c0a9d1f7a11\n")
	write(t, dir, "gateways.d/20-c.yaml", "name: c\n")
	write(t, dir, "gateways.d/10-b.yaml", "name: b\nmode: 0600\n")
	write(t, dir, "gateways.d/README", "not a gateway\n")
	cfg, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	want := []Gateway{
		{Name: "a", Owner: 0, Group: Keep, Mode: 0o660, Domain: "0b4cd3c2-6a5e-4f0e-9c5e-3c0a9d1f7a11"},
		{Name: "b", Owner: Keep, Group: Keep, Mode: 0o600},
		{Name: "c", Owner: Keep, Group: Keep, Mode: 0o660},
	}
	if d := cmp.Diff(want, cfg.Gateways); d != "" || cfg.Policy != "disjoint" {
		t.Error(d, cfg.Policy)
	}
}

func TestEveryFault(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "g.yaml", `run-dir: run
policy: disjont
heartbeat: 1ms
status-mode: 0999
gateways:
  - name: .lease
  - name: a
    owner: no-such-user-here
    domain: updates
  - name: a
  - grop: x
`)
	write(t, dir, "gateways.d/b.yaml", "name: a\nmod: 1\n")
	_, err := Load(path)
	want := strings.ReplaceAll(`F:1: run-dir: "run" is not an absolute path (begin it with /)
F:2: policy: "disjont" is no policy: observe or disjoint; did you mean "disjoint"?
F:3: heartbeat: 1ms is out of range (want 100ms to 1m0s)
F:4: status-mode: "0999" is no mode: three octal digits such as 0660
F:6: gateways[0].name: ".lease" cannot be part of a socket's name (write 1 to 32 letters, digits and . _ -, beginning with a letter or digit)
F:8: gateways[1].owner: user "no-such-user-here" is not known on this machine
F:9: gateways[1].domain: "updates" is no UUID: virsh domuuid NAME shows the domain's
F:10: gateways[2].name: gateway "a" is configured already, in F:7 (remove one of the two, or rename it)
F:11: gateways[3].grop: unknown key (did you mean "group"?)
F:11: gateways[3].name: is missing (name the gateway, for instance after its libvirt domain)
G:1: name: gateway "a" is configured already, in F:7 (remove one of the two, or rename it)
G:2: mod: unknown key (did you mean "mode"?)`, "F:", path+":")
	want = strings.ReplaceAll(want, "G:", filepath.Join(dir, "gateways.d/b.yaml")+":")
	if err == nil {
		t.Fatal("no error")
	}
	if d := cmp.Diff(want, err.Error()); d != "" {
		t.Error(d)
	}
}

func TestEveryFaultOfTheProtection(t *testing.T) {
	a := strings.Repeat("A", 40)
	path := write(t, t.TempDir(), "g.yaml", `levels: [relay, famly]
groups:
  - name: one
    relays: [`+a+`]
  - name: one
    relays: [`+a+", "+a+`]
  - name: a/b
    relays: [12, `+a+`]
consensus: cached-consensus
delay: {least: 2h, most: 1h}
budgets:
  new-claims: {join: -1, every: 1s, burst: 0}
  forced-used: {burst: infinite, each: 1d}
  caused: {most: unlimited, within: 500d}
journal-size: 4M
`)
	_, err := Load(path)
	want := strings.ReplaceAll(`F:1: levels[1]: "famly" is no level: family or subnet, [] for the relay alone; did you mean "family"?
F:4: groups[0].relays: has 1 relays (list 2 to 1024 fingerprints of 40 hexadecimal digits)
F:5: groups[1].name: a group "one" was listed before (join the two, or rename one)
F:6: groups[1].relays[1]: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA is listed twice (remove one of the two)
F:7: groups[2].name: "a/b" is no name (write 1 to 32 letters, digits and . _ -, beginning with a letter or digit)
F:8: groups[2].relays[0]: fingerprint of 2 characters, want 40 hexadecimal digits
F:9: consensus: "cached-consensus" is not an absolute path (begin it with /, or write "" for none)
F:10: delay.least: 2h0m0s is more than most, 1h0m0s (write the smaller one here; 0s in both moves at once)
F:12: budgets.new-claims.burst: "0" is no limit: 1 to 10000, or unlimited
F:12: budgets.new-claims.join: -1 is out of range (want 0 to 10000)
F:12: budgets.new-claims.every: 1s is out of range (want 1m0s to 400d)
F:13: budgets.forced-used.burst: "infinite" is no limit: 1 to 10000, or unlimited
F:13: budgets.forced-used.each: unknown key (known keys: join, every, burst)
F:14: budgets.caused.within: 500d is out of range (want 1m0s to 400d)
F:15: journal-size: "4M" is no size: a whole number with KiB, MiB or GiB, such as 4MiB`, "F:", path+":")
	if err == nil {
		t.Fatal("no error")
	}
	if d := cmp.Diff(want, err.Error()); d != "" {
		t.Error(d)
	}
}

func TestProtection(t *testing.T) {
	path := write(t, t.TempDir(), "g.yaml", `levels: []
delay: {least: 0s, most: 0s}
budgets:
  forced-used: {burst: unlimited}
journal-size: 1MiB
`)
	cfg, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Levels, want.Delay, want.JournalSize = []Level{}, Delay{}, 1<<20
	want.Budgets.ForcedUsed.Burst = NoLimit // the rest of the budget is its default
	want.GatewaysDir = cfg.GatewaysDir
	if d := cmp.Diff(want, cfg); d != "" {
		t.Error(d)
	}
}

func TestMissingFile(t *testing.T) {
	if _, err := Load(filepath.Join(t.TempDir(), "none.yaml")); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("got %v", err)
	}
}

// TestThePackagesFile: what the package puts into /etc says nothing but the defaults.
func TestThePackagesFile(t *testing.T) {
	text, err := os.ReadFile("../deb/guardring.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cfg := Default()
	cfg.Policy = ""
	if err := configfile.Parse("guardring.yaml", text, &cfg); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Default(), cfg); d != "" {
		t.Error(d)
	}
}
