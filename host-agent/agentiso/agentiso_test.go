package agentiso

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"

	"guardring/apparmor"
	"guardring/internal/hint"
)

// agent builds the smallest static program, for a processor.
func agent(t *testing.T, arch string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, agentName)
	cmd := exec.Command("go", "build", "-ldflags", "-s -w", "-o", out, filepath.Join(dir, "main.go"))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	return out
}

func TestImage(t *testing.T) {
	program := agent(t, "amd64")
	path := filepath.Join(t.TempDir(), "agent.iso")
	for range 2 { // the second replaces the first
		if err := Write(path, program); err != nil {
			t.Fatal(err)
		}
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("%v, %v: only the image should be there", left, err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode() != 0o644 {
		t.Errorf("%v, %v: QEMU could not read it", st.Mode(), err)
	}
	want := map[string][]byte{"guardring-guest.apparmor": []byte(apparmor.Guest)}
	for name, source := range map[string]string{"guardring-guest": program, "install": "files/install", "README.txt": "files/README.txt", "guardring-guest.service": "files/guardring-guest.service", "guest.yaml": "files/guest.yaml"} {
		if want[name], err = os.ReadFile(source); err != nil {
			t.Fatal(err)
		}
	}
	got, modes, label := contents(t, path)
	if label != Label {
		t.Errorf("label %q, want %q", label, Label)
	}
	for name, data := range want {
		if !bytes.Equal(got[name], data) {
			t.Errorf("%s: %d bytes, want %d", name, len(got[name]), len(data))
		}
		if mode := fs.FileMode(0o644); modes[name] != mode && (name != "install" && name != "guardring-guest" || modes[name] != 0o755) {
			t.Errorf("%s: mode %v", name, modes[name])
		}
		delete(got, name)
	}
	if len(got) != 0 {
		t.Errorf("the image has more than we put there: %d files", len(got))
	}
}

// contents reads an image.
func contents(t *testing.T, path string) (data map[string][]byte, modes map[string]fs.FileMode, label string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	volume, err := iso9660.Read(file.New(f, true), 0, 0, 2048)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := volume.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	data, modes = map[string][]byte{}, map[string]fs.FileMode{}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		in, err := volume.OpenFile(e.Name(), os.O_RDONLY)
		if err != nil {
			t.Fatal(err)
		}
		if data[e.Name()], err = io.ReadAll(in); err != nil {
			t.Fatal(err)
		}
		modes[e.Name()] = info.Mode().Perm()
	}
	return data, modes, strings.TrimSpace(volume.Label())
}

func TestFindAgent(t *testing.T) {
	good := agent(t, "amd64")
	if path, err := FindAgent("", filepath.Join(filepath.Dir(good), "guardring")); err != nil || path != good {
		t.Errorf("%q, %v; want the one beside us", path, err)
	}
	if path, err := FindAgent(good, "/nowhere/guardring"); err != nil || path != good {
		t.Errorf("%q, %v; want the configured one", path, err)
	}
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct{ configured, ours, want string }{
		"missing":         {"/nowhere/guardring-guest", "", "no such file"},
		"none":            {"", "/nowhere/guardring", "there is no guardring-guest beside /nowhere/guardring"},
		"a script":        {script, "", "is no program"},
		"other processor": {agent(t, "arm64"), "", "for another processor (EM_AARCH64)"},
		"not static":      {"/bin/sh", "", "is not static"},
	} {
		_, err := FindAgent(c.configured, c.ours)
		if err == nil || !strings.Contains(err.Error(), c.want) || hint.Of(err) == "" {
			t.Errorf("%s: want %q and a remedy, got %v", what, c.want, err)
		}
		if c.configured != "" {
			if err := Write(filepath.Join(t.TempDir(), "x.iso"), c.configured); err == nil {
				t.Errorf("%s: an image was made of it", what)
			}
		}
	}
	if err := Write("/nowhere/x.iso", good); !errors.Is(err, fs.ErrNotExist) || hint.Of(err) == "" {
		t.Errorf("a folder that is not there: %v", err)
	}
}
