package config

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"guardring/internal/configfile"
)

func parse(text string) (Config, error) {
	c := Default()
	err := configfile.Parse("guest.yaml", []byte(text), &c)
	return c, err
}

func TestExampleIsTheDefault(t *testing.T) {
	c, err := parse(Example)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Instances, want.Except = c.Instances, c.Except // empty lists, or none
	if len(c.Instances)+len(c.Except) != 0 {
		t.Errorf("instances: %v", c.Instances)
	}
	if d := cmp.Diff(want, c); d != "" {
		t.Error(d)
	}
	// Each key of the file, or the example would not show it.
	for _, key := range []string{"device", "pci-address", "region", "run-dir", "user", "instances", "except", "policy", "circuits", "enforce", "intro-gap", "min-pass-percent", "request-timeout", "slow-tick", "show-fingerprints"} {
		if !strings.Contains(Example, "\n"+key+":") {
			t.Errorf("the example does not show %s", key)
		}
	}
}

// TestHostIsMissedInTime: no slow tick is allowed with which the host could be away for a
// minute unseen.
func TestHostIsMissedInTime(t *testing.T) {
	for text, good := range map[string]bool{"slow-tick: 28s": true, "slow-tick: 30s": false} {
		if _, err := parse(text); (err == nil) != good {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestExampleInstance: the commented instance is valid, too.
func TestExampleInstance(t *testing.T) {
	_, after, _ := strings.Cut(Example, "name everything:\n")
	block, _, _ := strings.Cut(after, "instances:")
	c, err := parse("instances:\n" + strings.ReplaceAll(block, "\n#", "\n")[1:])
	if err != nil {
		t.Fatal(err)
	}
	in := c.Instances[0]
	if in.Name != "web" || in.Role != "browsing" || in.Group != "debian-tor" || in.Include != "/etc/tor-web/guardring/web.conf" {
		t.Errorf("%+v", in)
	}
}

func TestEveryFaultAtOnce(t *testing.T) {
	_, err := parse(`region: run/x.sock
run-dir: ""
policy: obay
circuits: 1
min-pass-percent: 5
request-timeout: 1h
slow-tick: 0s
instances:
  - name: a b
    control: 9051
  - name: x
    torrc: torrc
  - name: x
    contrl: /run/x
  - name: y
    role: two words
`)
	var faults configfile.Faults
	if !errors.As(err, &faults) {
		t.Fatal(err)
	}
	lines := map[int]bool{}
	for _, f := range faults {
		lines[f.Line] = true
		if f.Remedy == "" {
			t.Errorf("no remedy: %v", f)
		}
	}
	for _, n := range []int{1, 2, 3, 4, 5, 6, 7, 9, 10, 12, 13, 14, 16} {
		if !lines[n] {
			t.Errorf("no fault in line %d of:\n%v", n, err)
		}
	}
}

func TestTors(t *testing.T) {
	root := t.TempDir()
	for _, f := range []string{"etc/tor/torrc", "etc/tor/instances/web/torrc"} {
		path := filepath.Join(root, f)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c := Default()
	tors, err := c.Tors(root)
	if err != nil || len(tors) != 2 || tors[0].Name != "default" || tors[1].Torrc != filepath.Join(root, "etc/tor/instances/web/torrc") {
		t.Fatalf("%+v, %v", tors, err)
	}
	if tors[0].Role != "" || tors[1].Role != "web" {
		t.Errorf("roles %q and %q: an instance's name tells what it is for, default does not", tors[0].Role, tors[1].Role)
	}
	c.Instances = []Instance{
		{Name: "web", State: "/elsewhere/state"},
		{Name: "mine", Control: "/tmp/c", Torrc: "/tmp/t/torrc"},
	}
	tors, err = c.Tors(root)
	if err != nil {
		t.Fatal(err)
	}
	if tors[0].State != "/elsewhere/state" || tors[0].Control != filepath.Join(root, "run/tor-instances/web/control") {
		t.Errorf("%+v", tors[0])
	}
	if tors[1].State != "" || tors[1].Include != "/tmp/t/guardring/mine.conf" {
		t.Errorf("files of a Tor elsewhere were guessed: %+v", tors[1])
	}
}

// TestThePackagesFile: what package and CD put into /etc says who the agent is, and else
// nothing but the defaults.
func TestThePackagesFile(t *testing.T) {
	text, err := os.ReadFile("../../host-agent/agentiso/files/guest.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cfg, want := Default(), Default()
	if err := configfile.Parse("guest.yaml", text, &cfg); err != nil {
		t.Fatal(err)
	}
	want.User = "debian-tor"
	if d := cmp.Diff(want, cfg); d != "" {
		t.Error(d)
	}
}

// TestOwner: the agent, which is not root, must be able to keep the owner of what join has made.
func TestOwner(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	daemon, err := user.LookupGroup("daemon")
	if err != nil {
		t.Skip("not a Debian system: ", err)
	}
	for _, tt := range []struct{ user, group, want string }{
		{"", "", "-1:-1"},
		{me.Username, "", me.Uid + ":" + me.Gid},
		{me.Username, "no-such-group", me.Uid + ":" + me.Gid},
		{me.Username, "daemon", me.Uid + ":" + daemon.Gid},
		{"", "daemon", "-1:" + daemon.Gid},
	} {
		c := Config{User: tt.user}
		uid, gid, err := c.Owner(Instance{Group: tt.group})
		if got := fmt.Sprintf("%d:%d", uid, gid); err != nil || got != tt.want {
			t.Errorf("user %q, group %q: %s, %v; want %s", tt.user, tt.group, got, err, tt.want)
		}
	}
	if _, _, err := (&Config{User: "no-such-user"}).Owner(Instance{}); err == nil {
		t.Error("a user that does not exist")
	}
}
