package doctor

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"guardring/internal/checkup"
	"guardring/internal/hint"
)

const uuid = "0b4cd3c2-6a5e-4f0e-9c5e-3c0a9d1f7a11"

// well is a host on which all is well, with real files below a root.
func well(t *testing.T) Findings {
	t.Helper()
	root, err := os.MkdirTemp("/tmp", "gr") // short: it holds a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	for dir, mode := range map[string]os.FileMode{"run": 0o755, "run/gateways": 0o755, "ledger": 0o700, "dev": 0o755, "proc/7/attr": 0o755} {
		if err := os.MkdirAll(filepath.Join(root, dir), mode); err != nil {
			t.Fatal(err)
		}
	}
	socket(t, root+"/run/gateways/web.sock")
	write(t, root+"/proc/7/attr/current", "libvirt-"+uuid+" (enforce)\n")
	return Findings{
		Config: "guardring.yaml", RunDir: "/run", LedgerDir: "/ledger", Root: root, Hook: "/etc/hook",
		Server: &Server{PID: 5, Store: true}, Coordinators: []Coordinator{{PID: 6, Acting: true}},
		Gateways: []Gateway{{
			Name: "web", Socket: "/run/gateways/web.sock", UID: -1, GID: os.Getgid(), Mode: 0o660, HasUUID: true, Served: true, Seat: "connected", PID: 7, Members: 1,
			Domain: Domain{Name: "web", UUID: uuid, State: "running", KVM: true, Interrupts: true},
		}},
		Libvirt: &Libvirt{KVM: true, AppArmor: true, UID: os.Getuid(), GID: os.Getgid()},
	}
}

func socket(t *testing.T, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	if err := os.Chmod(path, 0o660); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestAllIsWell(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o022)) // modes are judged
	f := well(t)
	f.Libvirt.UID = -1 // not root, whoever runs the test
	if lines := Check(f); lines.Worst() != checkup.Pass {
		t.Errorf("%+v", lines)
	}
}

// cases provoke each line that is not pass.
var cases = []struct {
	name  string // of the line
	state checkup.State
	text  string // in it
	spoil func(t *testing.T, f *Findings)
}{
	{"configuration", checkup.Fail, "line 3", func(t *testing.T, f *Findings) { f.ConfigErr = errors.New("line 3: unknown key") }},
	{"gateways", checkup.Warn, "none is configured", func(t *testing.T, f *Findings) { f.Gateways = nil }},
	{"gateways", checkup.Warn, "more than 4", func(t *testing.T, f *Findings) {
		for range 4 {
			f.Gateways = append(f.Gateways, f.Gateways[0])
		}
	}},
	{"run directory", checkup.Fail, "no such file", func(t *testing.T, f *Findings) { f.RunDir = "/none" }},
	{"run directory", checkup.Fail, "no directory", func(t *testing.T, f *Findings) { f.RunDir = "/run/gateways/web.sock" }},
	{"run directory", checkup.Fail, "others can write", func(t *testing.T, f *Findings) { chmod(t, f.Root+"/run/gateways", 0o777) }},
	{"run directory", checkup.Fail, "cannot get through", func(t *testing.T, f *Findings) { chmod(t, f.Root+"/run", 0o700) }},
	{"server", checkup.Fail, "nobody listens", func(t *testing.T, f *Findings) { f.Server, f.ServerErr = nil, errors.New("nobody listens") }},
	{"descriptor store", checkup.Warn, "without it", func(t *testing.T, f *Findings) { f.Server.Store = false }},
	{"coordinator", checkup.Fail, "nobody coordinates", func(t *testing.T, f *Findings) {
		f.Coordinators, f.CoordinatorErr = nil, errors.New("nobody coordinates")
	}},
	{"coordinator", checkup.Fail, "none acts", func(t *testing.T, f *Findings) { f.Coordinators[0].Acting = false }},
	{"ledger", checkup.Fail, "no space", func(t *testing.T, f *Findings) { f.Coordinators[0].LedgerFault = "no space left" }},
	{"ledger directory", checkup.Fail, "others can look", func(t *testing.T, f *Findings) { chmod(t, f.Root+"/ledger", 0o750) }},
	{"ledger directory", checkup.Fail, "not a directory", func(t *testing.T, f *Findings) { f.LedgerDir = "/run/gateways/web.sock/x" }},
	{"ledger directory", checkup.Skip, "not there yet", func(t *testing.T, f *Findings) { f.LedgerDir = "/none" }},
	{"libvirt", checkup.Fail, "does not answer", func(t *testing.T, f *Findings) {
		f.Libvirt, f.LibvirtErr = nil, hint.Errorf("start it", "libvirt does not answer")
	}},
	{"libvirt", checkup.Skip, "no gateway has a domain", func(t *testing.T, f *Findings) { f.Libvirt, f.Gateways = nil, nil }},
	{"apparmor", checkup.Warn, "not confined", func(t *testing.T, f *Findings) { f.Libvirt.AppArmor = false }},
	{"qemu's user", checkup.Warn, "as root", func(t *testing.T, f *Findings) { f.Libvirt.UID = 0 }},
	{"kvm", checkup.Warn, "there is no /dev/kvm", func(t *testing.T, f *Findings) { f.Libvirt.KVM = false }},
	{"kvm", checkup.Warn, "libvirt cannot use it", func(t *testing.T, f *Findings) { f.Libvirt.KVM = false; write(t, f.Root+"/dev/kvm", "") }},
	{"socket of web", checkup.Skip, "no server", func(t *testing.T, f *Findings) { f.Server = nil }},
	{"socket of web", checkup.Fail, "does not serve", func(t *testing.T, f *Findings) { f.Gateways[0].Served = false }},
	{"socket of web", checkup.Fail, "no such file", func(t *testing.T, f *Findings) { f.Gateways[0].Socket = "/run/gateways/none.sock" }},
	{"socket of web", checkup.Fail, "is no socket", func(t *testing.T, f *Findings) {
		f.Gateways[0].Socket = "/run/file"
		write(t, f.Root+"/run/file", "")
	}},
	{"socket of web", checkup.Fail, "configured are the server's:", func(t *testing.T, f *Findings) { chmod(t, f.Root+"/run/gateways/web.sock", 0o600) }},
	{"socket of web", checkup.Fail, "may not connect", func(t *testing.T, f *Findings) { f.Libvirt.UID, f.Libvirt.GID = 64055, 64055 }},
	{"socket of web", checkup.Warn, "everybody", func(t *testing.T, f *Findings) {
		f.Gateways[0].Mode = 0o666
		chmod(t, f.Root+"/run/gateways/web.sock", 0o666)
	}},
	{"region of web", checkup.Skip, "not served", func(t *testing.T, f *Findings) { f.Gateways[0].Served = false }},
	{"region of web", checkup.Fail, "version 9", func(t *testing.T, f *Findings) { f.Gateways[0].Fault = "region has version 9" }},
	{"region of web", checkup.Fail, "breaks the protocol", func(t *testing.T, f *Findings) { f.Gateways[0].Quarantined = "cell 3 is torn" }},
	{"domain of web", checkup.Warn, "does not say whose", func(t *testing.T, f *Findings) { f.Gateways[0].HasUUID = false }},
	{"domain of web", checkup.Skip, "does not answer", func(t *testing.T, f *Findings) { f.Libvirt = nil }},
	{"domain of web", checkup.Fail, "no domain with its UUID", func(t *testing.T, f *Findings) { f.Gateways[0].Domain = Domain{} }},
	{"domain of web", checkup.Fail, "has no device", func(t *testing.T, f *Findings) {
		f.Gateways[0].Domain.Fault, f.Gateways[0].Domain.Remedy = "it has no device", "attach it"
	}},
	{"domain of web", checkup.Fail, "libvirt has no KVM", func(t *testing.T, f *Findings) { f.Libvirt.KVM = false }},
	{"domain of web", checkup.Warn, "polls", func(t *testing.T, f *Findings) { f.Gateways[0].Domain.Interrupts = false }},
	{"process of web", checkup.Skip, "nobody", func(t *testing.T, f *Findings) { f.Gateways[0].PID = 0 }},
	{"process of web", checkup.Skip, "just ended", func(t *testing.T, f *Findings) { f.Gateways[0].PID = 8 }},
	{"process of web", checkup.Fail, "is another domain's", func(t *testing.T, f *Findings) {
		write(t, f.Root+"/proc/7/attr/current", "libvirt-"+strings.ReplaceAll(uuid, "0", "7")+" (enforce)\n")
	}},
	{"process of web", checkup.Warn, "libvirt's QEMUs as", func(t *testing.T, f *Findings) { f.Libvirt.UID = 64055 }},
	{"process of web", checkup.Warn, "not confined", func(t *testing.T, f *Findings) { write(t, f.Root+"/proc/7/attr/current", "unconfined\n") }},
	{"agent of web", checkup.Skip, "nobody", func(t *testing.T, f *Findings) { f.Gateways[0].PID = 0 }},
	{"agent of web", checkup.Skip, "no coordinator", func(t *testing.T, f *Findings) { f.Coordinators, f.CoordinatorErr = nil, errors.New("none") }},
	{"agent of web", checkup.Warn, "never been heard of", func(t *testing.T, f *Findings) { f.Gateways[0].Members = 0 }},
	{"agent of web", checkup.Warn, "since it started", func(t *testing.T, f *Findings) { f.Gateways[0].Members, f.Gateways[0].Away = 0, 1 }},
	{"domain apps", checkup.Warn, "not configured", func(t *testing.T, f *Findings) {
		f.Strays = []Domain{{Name: "apps", Fault: "it is not configured", Remedy: "attach it"}}
	}},
	{"hook", checkup.Warn, "not executable", func(t *testing.T, f *Findings) { f.HookFault = "it is not executable" }},
	{"hook", checkup.Skip, "none is installed", func(t *testing.T, f *Findings) { f.Hook = "" }},
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestEachFault(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o022)) // modes are judged
	for _, x := range cases {
		t.Run(x.name+" "+x.text, func(t *testing.T) {
			f := well(t)
			x.spoil(t, &f)
			for _, l := range Check(f) {
				if l.Name != x.name || l.State != x.state || !strings.Contains(l.Text, x.text) {
					continue
				}
				if l.State >= checkup.Warn && l.Remedy == "" {
					t.Error("no remedy")
				}
				return
			}
			t.Errorf("no such line in %+v", Check(f))
		})
	}
}

// TestWhoMayNotAsk: a server that runs need not be started.
func TestWhoMayNotAsk(t *testing.T) {
	f := well(t)
	f.Server, f.ServerErr = nil, fs.ErrPermission
	f.Coordinators, f.CoordinatorErr = nil, fs.ErrPermission
	for _, l := range Check(f) {
		if (l.Name == "server" || l.Name == "coordinator") && l.Remedy != "run the doctor as root" {
			t.Errorf("%+v", l)
		}
	}
}

// TestEachLineIsProvoked: a check that no test provokes may never fail.
func TestEachLineIsProvoked(t *testing.T) {
	var code string
	for _, name := range []string{"check.go", "gateway.go"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		code += string(b)
	}
	for _, word := range []string{"Fail", "Warn", "Skip"} {
		calls := len(regexp.MustCompile(`c\.`+word+`\(`).FindAllString(code, -1))
		provoked := 0
		for _, x := range cases {
			if x.state.String() == strings.ToLower(word) {
				provoked++
			}
		}
		if calls > provoked {
			t.Errorf("%d calls of %s, %d of them are provoked", calls, word, provoked)
		}
	}
}

// TestAdminPageHasEachLine: docs/ADMIN.md says what each line is about.
func TestAdminPageHasEachLine(t *testing.T) {
	page, err := os.ReadFile("../../docs/ADMIN.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range cases {
		name := strings.Replace(strings.Replace(x.name, " of web", " of NAME", 1), "domain apps", "domain NAME", 1)
		if !strings.Contains(string(page), "\n| "+name+" | ") {
			t.Errorf("docs/ADMIN.md has no row for %q", name)
		}
	}
}
