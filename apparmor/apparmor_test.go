package apparmor

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// profiles are all there are, by their names.
var profiles = map[string]string{"guardring-guest": Guest}

func TestProfilesAreValid(t *testing.T) {
	parser, err := exec.LookPath("apparmor_parser")
	if err != nil {
		t.Skip("skipping, no apparmor_parser (try: apt-get install apparmor)")
	}
	for name, text := range profiles {
		file := filepath.Join(t.TempDir(), name)
		check := func(text string) (string, error) {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(parser, "-Q", "-K", "-T", file).CombinedOutput()
			return string(out), err
		}
		if out, err := check(text); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		if _, err := check(strings.Replace(text, " mr,", " mrz,", 1)); err == nil {
			t.Errorf("%s: a permission that does not exist is taken", name)
		}
		for _, want := range []string{"profile " + name + " ", "include if exists <local/" + name + ">"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q", name, want)
			}
		}
	}
}
