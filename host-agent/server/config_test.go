package server

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"guardring/host-agent/rundir"
)

func TestConfigFaultsAllAtOnce(t *testing.T) {
	_, err := New(Config{
		RunDir:     "run",
		StatusMode: 0o10600,
		Store:      true,
		Gateways: []Gateway{
			{Name: ".lease"}, {Name: "a"}, {Name: "a", UID: -7}, {Name: strings.Repeat("x", 33)}, {Name: "b", Mode: fs.ModeSetuid | 0o600},
		},
	}, slog.New(slog.DiscardHandler))
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"absolute path", "status mode", "NOTIFY_SOCKET", `".lease"`, "named twice", "-7", `"xxxxx`, "socket mode"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not reported in:\n%v", want, err)
		}
	}
	long := "/" + strings.Repeat("long/", 25)
	if _, err := New(testConfig(long, "a"), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "at most 107") {
		t.Errorf("long path: %v", err)
	}
}

func TestRunDirFaults(t *testing.T) {
	discard := slog.New(slog.DiscardHandler)
	run := func(dir string) error { return Run(context.Background(), testConfig(dir, "a"), discard) }

	busy := startServer(t, testConfig(runDir(t), "a"))
	if err := run(busy.run); err == nil || !strings.Contains(err.Error(), "another server (process "+itoa(os.Getpid())+")") {
		t.Errorf("second server: %v", err)
	}
	dial(t, guestSocket(busy.run, "a")) // the first one is unharmed

	file := filepath.Join(tempDir(t), "file")
	open := filepath.Join(tempDir(t), "open")
	full := filepath.Join(tempDir(t), "full")
	for _, err := range []error{
		os.WriteFile(file, nil, 0o600), os.Mkdir(open, 0o755), os.Chmod(open, 0o777),
		os.MkdirAll(guestSocket(full, "a"), 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for dir, want := range map[string]string{
		file:                                     "not a directory",
		open:                                     "others can write in it",
		full:                                     "not a socket",
		filepath.Join(tempDir(t), "none", "run"): "no such file",
	} {
		if err := run(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", dir, err, want)
		}
	}
	if os.Geteuid() == 0 {
		foreign := filepath.Join(tempDir(t), "foreign")
		if err := errors.Join(os.Mkdir(foreign, 0o755), os.Chown(foreign, 5000, 5000)); err != nil {
			t.Fatal(err)
		}
		if err := run(foreign); err == nil || !strings.Contains(err.Error(), "belongs to user 5000") {
			t.Errorf("foreign directory: %v", err)
		}
	}
}

func TestModesAndCleanUp(t *testing.T) {
	r := startServer(t, testConfig(runDir(t), "a"))
	for path, want := range map[string]fs.FileMode{
		r.run:                            0o755,
		filepath.Join(r.run, "host"):     0o700,
		filepath.Join(r.run, "gateways"): 0o755,
		guestSocket(r.run, "a"):          0o660,
		hostSocket(r.run, "a"):           0o600,
		hostSocket(r.run, rundir.Board):  0o600,
		statusSocket(r.run):              0o600,
	} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
	r.stop()
	for _, path := range []string{guestSocket(r.run, "a"), hostSocket(r.run, "a"), hostSocket(r.run, rundir.Board), statusSocket(r.run)} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s stayed: %v", path, err)
		}
	}
	startServer(t, testConfig(r.run, "a")) // and the directory is free for the next
}
