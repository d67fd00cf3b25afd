package plainfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestRead(t *testing.T) {
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
