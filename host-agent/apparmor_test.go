package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"guardring/host-agent/config"
)

// TestTheProfilesHaveTheConfigurationsDefaults: what a package ships fits a host that
// has configured nothing.
func TestTheProfilesHaveTheConfigurationsDefaults(t *testing.T) {
	cfg := config.Default()
	cfg.GatewaysDir = filepath.Join(filepath.Dir(config.DefaultPath), cfg.GatewaysDir) // as Load does
	if text, err := tunables("", cfg); text != "" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	cfg.GatewaysDir = "/srv/gateways"
	if text, err := tunables("", cfg); text == "" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
}

// TestLinksAreFollowed: the kernel compares a rule with where a file really lies.
func TestLinksAreFollowed(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir+"/disk", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("disk", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	cfg.GatewaysDir = ""
	cfg.LedgerDir = dir + "/link/not/yet"
	text, err := tunables("", cfg)
	for _, want := range []string{dir + "/link/not/yet", dir + "/disk/not/yet"} {
		if !strings.Contains(text, "@{guardring_ledger}+=\""+want+"\"\n") || err != nil {
			t.Errorf("no %s in %q, %v", want, text, err)
		}
	}
}

// TestSubjects: without a server, its processes are still looked for by their labels.
func TestSubjects(t *testing.T) {
	cfg := config.Default()
	cfg.RunDir = t.TempDir()
	cfg.Gateways = []config.Gateway{
		{Name: "vm", Domain: "11111111-2222-3333-4444-55555555555A"},
		{Name: "named", Domain: "11111111-2222-3333-4444-555555555555", AppArmorProfile: "mine"},
		{Name: "plain"},
	}
	want := map[string]string{
		"this command": "guardring", "server": "guardring-server", "coordinator": "guardring-coordinator",
		"gateway vm": "libvirt-11111111-2222-3333-4444-55555555555a", "gateway named": "mine", "gateway plain": "",
	}
	got := subjects(cfg)
	if len(got) != len(want) {
		t.Fatalf("%+v", got)
	}
	for _, s := range got {
		profile, ok := want[s.Name]
		if !ok || s.Want != profile || s.Remedy == "" || (s.PID == 0) != (s.Missing != "") || (s.PID == 0) != (s.Name != "this command") {
			t.Errorf("%+v", s)
		}
	}
}
