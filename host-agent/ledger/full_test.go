package ledger

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFull limits the file size in a child so that writes stop at every length:
// the file stays valid and the error says what to do.
func TestFull(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	full := 0
	for limit := 100; limit <= 400; limit += 3 {
		path := private(t)
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), "GUARDRING_LEDGER="+path, "GUARDRING_FSIZE="+strconv.Itoa(limit))
		out, err := cmd.Output()
		if err == nil {
			continue
		}
		full++
		if !bytes.Contains(out, []byte("nothing is ordered that is not durable")) {
			t.Fatalf("limit %d: %v: %s", limit, err, out)
		}
		durable := lastStep(nil)
		for line := range strings.Lines(string(out)) {
			if arg, ok := strings.CutPrefix(strings.TrimSpace(line), "durable "); ok {
				durable, _ = strconv.Atoi(arg)
			}
		}
		d := mustOpen(t, path)
		h, rerr := d.Read(100)
		if rerr != nil || lastStep(h.Lines) != durable || h.Torn {
			t.Fatalf("limit %d: %s (torn %v), %v; reported %d", limit, texts(h.Lines), h.Torn, rerr, durable)
		}
	}
	if full < 10 {
		t.Errorf("only %d runs met the limit", full)
	}
}

// TestFullThenRoom: after a full disk the same ledger goes on. A real small
// file system needs root; elsewhere TestFull covers the cut.
func TestFullThenRoom(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k,mode=0700"); err != nil {
		t.Skipf("skipping, mount a 64 KiB tmpfs: %v (try: as root)", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	d := mustOpen(t, filepath.Join(dir, "ledger"))
	l := begin(t, d, 1, 1)
	hog := filepath.Join(dir, "hog")
	if err := os.WriteFile(hog, bytes.Repeat([]byte{1}, 40<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := 1, error(nil)
	for ; err == nil && n < 10000; n++ {
		err = l.Append(step(n + 1))
	}
	var fe *FullError
	if !errors.As(err, &fe) || !errors.Is(err, unix.ENOSPC) || !strings.Contains(fe.Hint(), "free space") {
		t.Fatalf("after %d lines: %v", n, err)
	}
	if err := l.Compact(History{}, step(n-1)); err == nil {
		t.Log("compaction found room")
	} else if !errors.As(err, &fe) {
		t.Fatalf("compact: %v", err)
	}
	if h, err := d.Read(2); err != nil || h.Torn || lastStep(h.Lines) != n-1 {
		t.Fatalf("%d steps, want %d, %v", lastStep(h.Lines), n-1, err)
	}
	if err := os.Remove(hog); err != nil {
		t.Fatal(err)
	}
	if err := l.Append(step(n)); err != nil {
		t.Fatal(err)
	}
	if h, err := d.Read(2); err != nil || lastStep(h.Lines) != n {
		t.Errorf("%d steps, want %d, %v", lastStep(h.Lines), n, err)
	}
}
