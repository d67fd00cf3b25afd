package main

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"guardring/guest-agent/config"
)

// TestLeaveRequests: what several commands asked for close together is done, and no
// more: a signal that finds no request must not make everybody leave.
func TestLeaveRequests(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leave")
	take := func(wantAll bool, want ...string) {
		t.Helper()
		names, all, err := takeRequest(path)
		if err != nil || all != wantAll || !slices.Equal(names, want) {
			t.Errorf("names %q, all %t, %v; want %q, %t", names, all, err, want, wantAll)
		}
	}
	ask := func(names ...string) {
		t.Helper()
		if err := writeRequest(path, names); err != nil {
			t.Fatal(err)
		}
	}
	ask("web")
	take(false, "web")
	ask("web")
	ask("mail", "apps")
	take(false, "web", "mail", "apps")
	take(false)
	ask()
	take(true)
	ask("web")
	ask()
	take(true, "web")
	ask("../x")
	if _, _, err := takeRequest(path); err == nil {
		t.Error("an odd name was taken")
	}
	take(false)
}

// TestLeaveUntold: a Tor whose control port is away was told nothing, and leave says so.
func TestLeaveUntold(t *testing.T) {
	dir := t.TempDir()
	cfg := config.Default()
	cfg.RunDir, cfg.Region = dir, filepath.Join(dir, "region")
	cfg.Instances = []config.Instance{{Name: "web", Control: filepath.Join(dir, "control")}}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var out strings.Builder
	if err := leaveAlone(ctx, &out, cfg, false); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.Contains(got, "web: its control port could not be used: if this Tor runs, restart it") || strings.Contains(got, "every exclusion is lifted") {
		t.Errorf("leave says %q", got)
	}
}
