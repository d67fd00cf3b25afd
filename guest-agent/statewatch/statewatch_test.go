package statewatch

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// replace writes the file as Tor does.
func replace(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".tmp", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		t.Fatal(err)
	}
}

func start(t *testing.T, path string) <-chan struct{} {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	changes := make(chan struct{}, 100)
	wait, err := Watch(ctx, path, func() { changes <- struct{}{} })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); wait() })
	return changes
}

func expect(t *testing.T, changes <-chan struct{}, path, text string) {
	t.Helper()
	for deadline := time.After(time.Minute); ; {
		select {
		case <-changes:
			if got, err := Read(path); err == nil && got == text {
				return
			}
		case <-deadline:
			t.Fatalf("no notice of %q", text)
		}
	}
}

func TestRename(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	changes := start(t, path)
	replace(t, path, "one")
	expect(t, changes, path, "one")
	replace(t, path, "two")
	expect(t, changes, path, "two")
}

func TestDirectoryGoesAndComesBack(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "lib", "tor")
	path := filepath.Join(dir, "state")
	changes := start(t, path) // not there yet
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	replace(t, path, "first")
	expect(t, changes, path, "first")
	for _, remove := range []func() error{
		func() error { return os.RemoveAll(filepath.Join(root, "lib")) },
		func() error { return os.Rename(dir, dir+".old") },
	} {
		if err := remove(); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		replace(t, path, "again")
		expect(t, changes, path, "again")
		replace(t, path, "and again")
		expect(t, changes, path, "and again")
	}
}

func TestReadIsBounded(t *testing.T) {
	dir := t.TempDir()
	big, fifo := filepath.Join(dir, "big"), filepath.Join(dir, "fifo")
	if err := os.WriteFile(big, []byte(strings.Repeat("x", MaxSize+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(big); !errors.Is(err, ErrTooLarge) {
		t.Errorf("big file: %v", err)
	}
	for _, path := range []string{fifo, dir, "/dev/zero"} {
		if _, err := Read(path); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := Read(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}
