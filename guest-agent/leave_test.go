package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
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

// TestRequestCopiesNothingElse: the folder is the agent's. One that was taken over can put
// a link there, or lines of its own; root must neither show it what lies behind the link nor
// leave a file that the agent cannot read.
func TestRequestCopiesNothingElse(t *testing.T) {
	dir := t.TempDir()
	path, secret := filepath.Join(dir, "leave"), filepath.Join(dir, "shadow")
	if err := os.WriteFile(secret, []byte("root:secret\nweb"), 0o600); err != nil {
		t.Fatal(err)
	}
	defer syscall.Umask(syscall.Umask(0o077))
	written := func() string {
		t.Helper()
		if err := writeRequest(path, []string{"mail"}); err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(path)
		if err != nil || info.Mode() != 0o644 {
			t.Fatalf("%v, %v", info.Mode(), err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if err := os.Symlink(secret, path); err != nil {
		t.Fatal(err)
	}
	if got := written(); got != "mail\n" {
		t.Errorf("behind a link: %q", got)
	}
	if err := os.WriteFile(path, []byte("web root:secret ../x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := written(); got != "web\nmail\n" {
		t.Errorf("odd lines: %q", got)
	}
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
