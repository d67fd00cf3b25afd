package confinement

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"guardring/apparmor"
)

func TestNextNamesTheProfileOfTheNextProgram(t *testing.T) {
	for _, name := range []string{"/apparmor/exec", "/exec"} {
		dir := t.TempDir()
		path := dir + name
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := next(dir, apparmor.Server); err != nil {
			t.Error(err)
		}
		if got, _ := os.ReadFile(path); string(got) != "exec "+apparmor.Server {
			t.Errorf("%s: %q", name, got)
		}
	}
	if err := next(t.TempDir(), apparmor.Server); err == nil {
		t.Error("no error where there is nothing to write to")
	}
	if err := Next(apparmor.Server); err != nil { // whatever confines the tests, it is not the command's profile
		t.Error(err)
	}
	if out, err := exec.Command("true").CombinedOutput(); err != nil {
		t.Errorf("%s %v", out, err)
	}
}
