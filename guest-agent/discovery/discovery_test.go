package discovery

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func machine(t *testing.T, files ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, f := range files {
		path := filepath.Join(root, f)
		if strings.HasSuffix(f, "/") {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestFind(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files []string
		want  string // name:control:state:torrc of each
	}{
		{"no tor", nil, ""},
		{"debian", []string{"etc/tor/torrc"}, "default:/run/tor/control:/var/lib/tor/state:/etc/tor/torrc"},
		{"socket only", []string{"run/tor/control"}, "default:/run/tor/control:/var/lib/tor/state:/etc/tor/torrc"},
		{"instances", []string{"etc/tor/torrc", "etc/tor/instances/web/torrc", "etc/tor/instances/apt/torrc", "etc/tor/instances/empty/", "etc/tor/instances/README"},
			"default:/run/tor/control:/var/lib/tor/state:/etc/tor/torrc " +
				"apt:/run/tor-instances/apt/control:/var/lib/tor-instances/apt/state:/etc/tor/instances/apt/torrc " +
				"web:/run/tor-instances/web/control:/var/lib/tor-instances/web/state:/etc/tor/instances/web/torrc"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := machine(t, tt.files...)
			tors, err := Find(root)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, tor := range tors {
				fields := []string{tor.Name}
				for _, p := range []string{tor.Control, tor.State, tor.Torrc} {
					fields = append(fields, strings.TrimPrefix(p, root))
				}
				got = append(got, strings.Join(fields, ":"))
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("got  %s\nwant %s", s, tt.want)
			}
		})
	}
}

func TestWhonix(t *testing.T) {
	root := machine(t, "etc/tor/torrc", "usr/local/etc/torrc.d/50_user.conf")
	tors, err := Find(root)
	if err != nil || len(tors) != 1 {
		t.Fatal(tors, err)
	}
	if tors[0].Folder != filepath.Join(root, whonixFolder) {
		t.Errorf("folder %q", tors[0].Folder)
	}
}

func TestUnreadableIsAnError(t *testing.T) {
	root := machine(t, "etc/tor/instances") // a file
	if _, err := Find(root); err == nil {
		t.Error("no error")
	}
}
