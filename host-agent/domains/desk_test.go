package domains

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"guardring/host-agent/config"
	"guardring/internal/hint"
)

const webUUID = "0b4cd3c2-6a5e-4f0e-9c5e-3c0a9d1f7a11"

func newDesk(t *testing.T) (*Desk, *strings.Builder) {
	t.Helper()
	out := &strings.Builder{}
	dir := t.TempDir()
	return &Desk{Dir: filepath.Join(dir, "gateways.d"), Backups: filepath.Join(dir, "domains"), Out: out, UserName: strconv.Itoa, GroupName: strconv.Itoa}, out
}

// TestGatewayFile: what is written is what the configuration reads.
func TestGatewayFile(t *testing.T) {
	d, _ := newDesk(t)
	for _, name := range []string{"web", "0123", "on"} { // which YAML would take for something else
		s, err := d.configured(name, webUUID, Host{UID: 64055, GID: 108})
		if err != nil || s.done {
			t.Fatal(err, s.done)
		}
		if err := s.do(); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(filepath.Dir(d.Dir), "guardring.yaml")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(path)
	if err != nil || len(cfg.Gateways) != 3 {
		t.Fatal(err, cfg.Gateways)
	}
	g := cfg.Gateways[2]
	if g.Name != "web" || string(g.Domain) != webUUID || g.Group != 108 || len(g.AllowUsers) != 1 || g.AllowUsers[0] != 64055 || g.Owner != config.Keep || g.Mode != 0o660 {
		t.Errorf("%+v", g)
	}
}

func TestConfigured(t *testing.T) {
	d, _ := newDesk(t)
	d.Known = []Known{{Name: "web", UUID: webUUID}, {Name: "mine"}, {Name: "other", UUID: "77777777-6a5e-4f0e-9c5e-3c0a9d1f7a11"}}
	if err := write(d.file("other"), d.gatewayFile("other", d.Known[2].UUID, Host{UID: -1}), 0o644); err != nil {
		t.Fatal(err)
	}
	if s, err := d.configured("web", webUUID, Host{}); err != nil || !s.done {
		t.Error("what says so already is written again", err)
	}
	for name, want := range map[string]string{"mine": "add to it: domain: " + webUUID, "other": "guardring gateway remove other"} {
		if _, err := d.configured(name, webUUID, Host{}); err == nil || !strings.Contains(hint.Of(err), want) {
			t.Errorf("%s: %v (%s)", name, err, hint.Of(err))
		}
	}
	if _, err := d.unconfigured("mine"); err == nil || !strings.Contains(hint.Of(err), "by hand") {
		t.Errorf("a gateway that others configured: %v", err)
	}
	d.Dir = ""
	if _, err := d.configured("new", webUUID, Host{}); err == nil || !strings.Contains(hint.Of(err), "gateways-dir") {
		t.Error(err)
	}
}

// TestNotOurs: a name is no path, and a file on its way out is one of ours.
func TestNotOurs(t *testing.T) {
	d, _ := newDesk(t)
	theirs := []byte("theirs\n")
	outside := filepath.Join(filepath.Dir(d.Dir), "x.gone")
	if err := os.MkdirAll(d.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string][]byte{outside: []byte(made), d.aside("web"): theirs, d.aside("old"): []byte(made)} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"../x", "web", "none"} {
		if err := d.Remove(name); err == nil || !strings.Contains(err.Error(), "no gateway") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A gateway of ours does not overwrite what has the name.
	d.Known = []Known{{Name: "web", UUID: webUUID}}
	if err := write(d.file("web"), d.gatewayFile("web", webUUID, Host{UID: -1}), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := d.unconfigured("web"); err == nil || !strings.Contains(err.Error(), "in the way") {
		t.Errorf("%v", err)
	}
	for _, path := range []string{outside, d.aside("web"), d.file("web")} {
		if !exists(path) {
			t.Errorf("%s is gone", path)
		}
	}
	d.Reload = func() ([]string, error) { return nil, nil }
	if err := d.Remove("old"); err != nil || exists(d.aside("old")) {
		t.Errorf("what was interrupted is not finished: %v", err)
	}
}

// TestPerform: done steps are left out, a dry run does nothing, a fault ends it.
// TestOnlyOurs: root writes no document where somebody else can put a link.
func TestOnlyOurs(t *testing.T) {
	for name, spoil := range map[string]func(dir string) error{
		"":           func(string) error { return nil },
		"of a group": func(dir string) error { return os.Chmod(dir, 0o770) },
		"in one that is another's": func(dir string) error {
			return os.Chmod(filepath.Dir(dir), 0o777)
		},
		"of another user": func(dir string) error {
			if os.Geteuid() != 0 {
				return os.ErrPermission
			}
			return os.Chown(filepath.Dir(dir), 65534, 65534)
		},
	} {
		d, _ := newDesk(t)
		if err := os.MkdirAll(d.Backups, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := spoil(d.Backups); err != nil {
			t.Log(name, "skipped, this is not root")
			continue
		}
		unlock, err := d.Lock()
		if err == nil {
			unlock()
		}
		if (err == nil) != (name == "") || err != nil && !strings.Contains(hint.Of(err), "domains-dir") {
			t.Errorf("%q: %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(d.Backups, "lock")); (err == nil) != (name == "") {
			t.Errorf("%q: the lock: %v", name, err)
		}
	}
}

func TestPerform(t *testing.T) {
	d, out := newDesk(t)
	did := ""
	do := func(name string, err error) step {
		return step{at: name, text: "do " + name, more: "    more of " + name, do: func() error { did += name; return err }}
	}
	done := do("b", nil)
	done.done = true
	told := do("t", nil)
	told.always = true
	d.DryRun = true
	if _, err := d.perform([]step{do("a", nil), done, told}); err != nil || did != "" || !strings.Contains(out.String(), "more of a") || strings.Contains(out.String(), "do b") {
		t.Errorf("%v %q\n%s", err, did, out)
	}
	d.DryRun = false
	fault := errors.New("no")
	if _, err := d.perform([]step{do("a", nil), done, do("c", fault), do("d", nil)}); !errors.Is(err, fault) || did != "ac" {
		t.Errorf("%v %q", err, did)
	}
	out.Reset()
	if was, err := d.perform([]step{done, told}); was || err != nil || did != "act" || !strings.Contains(out.String(), "all of it was done already") {
		t.Errorf("%v %q %s", err, did, out)
	}
}

func TestServed(t *testing.T) {
	d, out := newDesk(t)
	for _, x := range []struct {
		names []string
		err   error
		must  bool
		want  string
	}{
		{[]string{"web"}, nil, true, ""},
		{[]string{"apps"}, nil, false, "does not serve the gateway"},
		{nil, ErrNoServer, true, "no guardring server runs"},
		{nil, ErrNoServer, false, ""},
		{nil, errors.New("line 3"), false, "line 3"},
	} {
		d.Reload = func() ([]string, error) { return x.names, x.err }
		err := d.served("web", x.must).do()
		if got := ""; (err == nil) != (x.want == "") || err != nil && !strings.Contains(err.Error(), x.want) {
			t.Errorf("%+v: %v%s", x, err, got)
		}
	}
	if !strings.Contains(out.String(), "the domain cannot start before") {
		t.Error(out)
	}
	d.Reload = func() ([]string, error) { return nil, ErrNoServer }
	if err := d.unserved().do(); err != nil {
		t.Error(err)
	}
}

func TestCheckDisk(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"raw": strings.Repeat("\x00", 512), "qcow2": "QFI\xfb\x00", "short": "QF"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, x := range []struct{ name, format, want string }{
		{"qcow2", "", ""}, {"qcow2", "qcow2", ""}, {"raw", "raw", ""}, {"qcow2", "raw", ""}, // a raw disk whose guest wrote that
		{"raw", "", "no qcow2"}, {"short", "qcow2", "no qcow2"}, {"none", "", "no such file"}, {".", "raw", "no regular file"},
	} {
		err := checkDisk(filepath.Join(dir, x.name), x.format)
		if (err == nil) != (x.want == "") || err != nil && !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s as %q: %v", x.name, x.format, err)
		}
	}
}

func TestHostOf(t *testing.T) {
	const text = `<capabilities><host><secmodel><model>apparmor</model><doi>0</doi></secmodel>
<secmodel><model>dac</model><baselabel type='kvm'>+64055:+108</baselabel><baselabel type='qemu'>+64055:+108</baselabel></secmodel></host>
<guest><arch name='i686'><domain type='kvm'/></arch></guest>
<guest><arch name='x86_64'><domain type='qemu'/>KVM</arch></guest></capabilities>`
	for in, want := range map[string]Host{
		text: {AppArmor: true, UID: 64055, GID: 108},
		strings.Replace(text, "KVM", "<domain type='kvm'/>", 1): {KVM: true, AppArmor: true, UID: 64055, GID: 108},
		"<capabilities/>": {UID: -1, GID: -1},
		"<capabilities><host><secmodel><model>dac</model><baselabel>libvirt-qemu</baselabel></secmodel></host></capabilities>": {UID: -1, GID: -1},
	} {
		if got, err := hostOf(in); err != nil || got != want {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	}
	if _, err := hostOf("<capabilities>"); err == nil {
		t.Error("half a document is read")
	}
}

func TestUUID(t *testing.T) {
	id, ok := parseUUID(strings.ToUpper(webUUID))
	if !ok || formatUUID(id) != webUUID {
		t.Error(id, ok)
	}
	for _, bad := range []string{"", "web", webUUID + "00", webUUID[:34]} {
		if _, ok := parseUUID(bad); ok {
			t.Errorf("%q is taken for a UUID", bad)
		}
	}
}

// TestDifference: what is shown has no passwords.
func TestDifference(t *testing.T) {
	const a = "<devices>\n<graphics type='vnc' passwd='it&apos;s' port='-1'/>\n<graphics passwd=\"dquoted\"/>\n</devices>\n"
	got := difference("a", a, "b", strings.Replace(a, "</devices>", "<shmem/>\n</devices>", 1))
	if !strings.Contains(got, "+<shmem/>") || !strings.Contains(got, "passwd='(not shown)' port='-1'") || strings.Contains(got, "it&apos;s") || strings.Contains(got, "dquoted") {
		t.Error(got)
	}
}
