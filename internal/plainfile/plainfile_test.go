package plainfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRead(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o022)) // modes are judged
	dir := t.TempDir()
	plain, fifo := filepath.Join(dir, "plain"), filepath.Join(dir, "fifo")
	if err := os.WriteFile(plain, []byte("four"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	b, st, err := Read(plain, 4)
	if string(b) != "four" || err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("%q, %v", b, err)
	}
	for path, want := range map[string]string{plain: "larger than 3 bytes", fifo: "not a regular file", dir: "not a regular file", "/dev/zero": "not a regular file"} {
		if _, _, err := Read(path, 3); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, _, err := Read(filepath.Join(dir, "none"), 4); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

// TestOpensNothingElse: a FIFO or device, also behind a link, is not even opened for a
// moment. We may be root, and a watchdog that is opened and closed resets the machine.
func TestOpensNothingElse(t *testing.T) {
	dir := t.TempDir()
	fifo, link, plain := filepath.Join(dir, "fifo"), filepath.Join(dir, "link"), filepath.Join(dir, "plain")
	if err := errors.Join(syscall.Mkfifo(fifo, 0o600), os.Symlink("fifo", link), os.WriteFile(plain, []byte("four"), 0o600)); err != nil {
		t.Fatal(err)
	}
	opened := opens(t, fifo, plain)
	for _, path := range []string{fifo, link} {
		if _, _, err := Read(path, 4); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if opened() {
		t.Error("the FIFO was opened")
	}
	if _, _, err := Read(plain, 4); err != nil || !opened() {
		t.Errorf("this test sees no opening: %v", err)
	}
}

// opens watches files; what it returns says whether one was opened since.
func opens(t *testing.T, paths ...string) func() bool {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Skipf("skipping, no inotify: %v", err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	for _, path := range paths {
		if _, err := unix.InotifyAddWatch(fd, path, unix.IN_OPEN); err != nil {
			t.Fatal(err)
		}
	}
	return func() bool {
		var b [4096]byte
		n, _ := unix.Read(fd, b[:])
		return n > 0
	}
}
