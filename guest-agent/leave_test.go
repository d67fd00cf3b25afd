package main

import (
	"context"
	"net"
	"os"
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

// TestRootSignalsNobodyElse: an agent could name any process as itself.
func TestRootSignalsNobodyElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "status.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := listens(path, os.Getpid()); err != nil {
		t.Error(err)
	}
	if os.Getuid() == 0 {
		if err := os.Lchown(path, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	if err := listens(path, 1); err == nil { // root's
		t.Error("process 1 was taken for the agent")
	}
	if err := listens(path, 1<<30); err == nil {
		t.Error("a process that does not exist was taken for the agent")
	}
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
