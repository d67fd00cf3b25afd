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
	text := strings.NewReplacer("gateways: []", "gateways:", "\n#  - ", "\n  - ", "\n#    ", "\n    ", "libvirt-qemu", "0", "root ", "0 ").Replace(Example)
	cfg = Default()
	if err := configfile.Parse("guardring.yaml", []byte(text), &cfg); err != nil {
		t.Fatal(err)
	}
	want := Gateway{Name: "updates", Mode: 0o660, AllowUsers: []User{0}, AllowGroups: []Group{}}
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
	path := write(t, dir, "g.yaml", "policy: disjoint\ngateways:\n  - name: a\n    owner: root\n")
	write(t, dir, "gateways.d/20-c.yaml", "name: c\n")
	write(t, dir, "gateways.d/10-b.yaml", "name: b\nmode: 0600\n")
	write(t, dir, "gateways.d/README", "not a gateway\n")
	cfg, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	want := []Gateway{
		{Name: "a", Owner: 0, Group: Keep, Mode: 0o660},
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
F:9: gateways[2].name: gateway "a" is configured already, in F:7 (remove one of the two, or rename it)
F:10: gateways[3].grop: unknown key (did you mean "group"?)
F:10: gateways[3].name: is missing (name the gateway, for instance after its libvirt domain)
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

func TestMissingFile(t *testing.T) {
	if _, err := Load(filepath.Join(t.TempDir(), "none.yaml")); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("got %v", err)
	}
}
