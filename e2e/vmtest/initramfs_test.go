package vmtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cavaliergopher/cpio"
)

// TestArchive reads back what the kernel would unpack: folders before what is in them, each once, with modes and owners.
func TestArchive(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o022)) // modes are judged
	source := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(source, []byte("#!"), 0o750); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	err := writeArchive(&b, []File{
		{Path: "/tmp", Folder: true, Mode: os.ModeSticky | 0o777},
		{Path: "/var/lib/tor", Folder: true, Mode: 0o700, UID: 101, GID: 102},
		{Path: "/var/lib/tor/state", Data: []byte("Guard\n"), Mode: 0o600, UID: 101},
		{Path: "/usr/bin/program", Source: source},
		{Path: "/bin/sh", Link: "/bin/busybox"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	r := cpio.NewReader(&b)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content := h.Linkname
		if h.Mode.IsRegular() {
			all, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			content = string(all)
		}
		got = append(got, fmt.Sprintf("%o %d:%d %s %s", h.Mode, h.Uid, h.Guid, h.Name, content))
	}
	want := []string{
		"41777 0:0 tmp ", "40755 0:0 var ", "40755 0:0 var/lib ", "40700 101:102 var/lib/tor ", "100600 101:0 var/lib/tor/state Guard\n",
		"40755 0:0 usr ", "40755 0:0 usr/bin ", "100750 0:0 usr/bin/program #!", "40755 0:0 bin ", "120777 0:0 bin/sh /bin/busybox",
	}
	if !slices.Equal(got, want) {
		t.Errorf("archive: %q, want %q", got, want)
	}
	if err := writeArchive(io.Discard, []File{{Path: "/x", Source: source + ".missing"}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// TestModules finds a module by either spelling, with what it needs, and refuses one that is not there.
func TestModules(t *testing.T) {
	k := kernel{root: t.TempDir(), version: "6.1.0-1"}
	if err := os.MkdirAll(k.moduleDir(), 0o755); err != nil {
		t.Fatal(err)
	}
	const dep = "kernel/vfio-pci.ko: kernel/vfio-pci-core.ko kernel/vfio.ko\nkernel/vfio.ko:\nkernel/vfio-pci-core.ko: kernel/vfio.ko\nkernel/other.ko:\n"
	if err := os.WriteFile(filepath.Join(k.moduleDir(), "modules.dep"), []byte(dep), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := k.modules([]string{"vfio_pci", "vfio"})
	if want := []string{"kernel/vfio-pci-core.ko", "kernel/vfio-pci.ko", "kernel/vfio.ko"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("modules: %v, %v", got, err)
	}
	if _, err := k.modules([]string{"nonesuch"}); err == nil || !strings.Contains(err.Error(), "nonesuch") {
		t.Errorf("a module that is not there: %v", err)
	}
}

// TestProgram: a program comes with its interpreter and its libraries.
func TestProgram(t *testing.T) {
	files, err := Program("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(files, func(f File) bool { return strings.Contains(f.Path, "libc.so") }) {
		t.Errorf("/bin/sh without a C library: %+v", files)
	}
}
