package server

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"guardring/apparmor"
	"guardring/host-agent/rundir"
	"guardring/internal/statussock"
)

const (
	ours   = "0b4cd3c2-6a5e-4f0e-9c5e-3c0a9d1f7a11"
	theirs = "77777777-6a5e-4f0e-9c5e-3c0a9d1f7a11"
)

func TestBelongsToItsDomain(t *testing.T) {
	qemu := func(name, uuid string) []string {
		return []string{"/usr/bin/qemu-system-x86_64", "-name", "guest=" + name + ",debug-threads=on", "-S", "-uuid", uuid, "-display", "none"}
	}
	long := strings.Repeat("abcdefghij", 8)
	for _, x := range []struct {
		name string
		e    evidence
		want string // "": it does
	}{
		{"all of it", evidence{"libvirt-" + ours, "updates", qemu("updates", ours)}, ""},
		{"no AppArmor, no cgroup", evidence{"", "", qemu("updates", strings.ToUpper(ours))}, ""},
		{"unconfined", evidence{"unconfined", "updates", qemu("updates", ours)}, ""},
		{"a profile of the admin's", evidence{"my-qemu", "", qemu("updates", ours)}, ""},
		{"a comma in the name", evidence{"", "ab", qemu("a,,b", ours)}, ""},
		{"a long name, cut", evidence{"", long[:57], qemu(long, ours)}, ""},
		{"the beginning of a name", evidence{"", "up", qemu("updates", ours)}, "its cgroup the machine"},
		{"another domain", evidence{"", "", qemu("updates", theirs)}, "it is domain"},
		{"another domain that lies", evidence{"libvirt-" + theirs, "", qemu("updates", ours)}, "another domain's"},
		{"another machine that lies", evidence{"", "browsing", qemu("updates", ours)}, "its cgroup the machine"},
		{"two answers", evidence{"", "", append(qemu("updates", theirs), "-uuid", ours)}, "2 times -uuid"},
		{"no QEMU", evidence{"", "", []string{"guardring-guest", "run"}}, "no -uuid"},
		{"nothing behind it", evidence{"", "", []string{"qemu", "-uuid"}}, "no -uuid"},
	} {
		t.Run(x.name, func(t *testing.T) {
			err := x.e.belongsTo(ours)
			if got := ""; err != nil {
				got = err.Error()
				if x.want == "" || !strings.Contains(got, x.want) {
					t.Errorf("%q, want %q", got, x.want)
				}
			} else if x.want != "" {
				t.Errorf("no error, want %q", x.want)
			}
		})
	}
}

// TestOnlyAnEnforcedLabelCounts: it alone gives the seat, so in no other mode and of no
// other profile.
func TestOnlyAnEnforcedLabelCounts(t *testing.T) {
	for text, want := range map[string]bool{
		"libvirt-" + ours + " (enforce)\n":      true,
		"libvirt-" + ours + " (complain)\n":     false,
		"libvirt-" + ours + " (kill)\n":         false,
		"libvirt-" + ours + "\n":                false,
		"libvirt-" + theirs + " (enforce)\n":    false,
		"libvirt-" + ours + "//sub (enforce)\n": false,
		"unconfined\n":                          false,
		"":                                      false,
	} {
		if got := enforced(apparmor.ParseLabel([]byte(text)), "libvirt-"+ours); got != want {
			t.Errorf("%q: %t", text, got)
		}
	}
}

func TestMachineOf(t *testing.T) {
	for text, want := range map[string]string{
		"0::/machine.slice/machine-qemu\\x2d3\\x2dWhonix\\x2dGateway.scope/libvirt/emulator\n":        "Whonix-Gateway",
		"12:pids:/user.slice\n3:cpu:/machine/qemu-12-updates.libvirt-qemu/emulator\n0::/init.scope\n": "updates",
		"0::/user.slice/user-0.slice/session-1.scope\n":                                               "",
		"0::/machine.slice/machine-lxc\\x2d3\\x2dbox.scope\n":                                         "",
		"": "",
	} {
		if got := machineOf([]byte(text)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	for domain, want := range map[string]string{"Whonix-Gateway": "Whonix-Gateway", "a_b": "ab", "-a--b.": "a-b", "über": "ber", "ü-ber": "-ber"} {
		if got := machineName(domain); got != want {
			t.Errorf("%q: %q, want %q", domain, got, want)
		}
	}
}

// TestLongCommandLine: a process decides how much there is to read.
func TestLongCommandLine(t *testing.T) {
	cfg := testConfig(runDir(t), "a")
	cfg.Gateways[0].Domain = ours
	r := startServer(t, cfg)
	args := []string{"-name", "guest=a", "-uuid", ours}
	for range 20 { // one argument may have 128 KiB
		args = append(args, strings.Repeat("x", 1<<16))
	}
	r.patient()
	if got := startChildWith(t, args...).do(t, "dial "+guestSocket(r.run, "a")); !strings.HasPrefix(got, "error") {
		t.Errorf("%q", got)
	}
	if text := r.log.String(); !strings.Contains(text, "more than 1048576 bytes") {
		t.Errorf("the log says not why: %s", text)
	}
}

// TestWhoHasEndedIsNobody: what /proc says of a number is asked by the number, which may be
// another process's when the one that connected has ended.
func TestWhoHasEndedIsNobody(t *testing.T) {
	line := filepath.Join(t.TempDir(), "cmdline")
	if err := os.WriteFile(line, []byte("qemu\x00-name\x00guest=a\x00-uuid\x00"+ours+"\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	lines := newCommandLines()
	lines.limit = patience
	lines.path = func(int) string { return line }
	here, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	lives, err := newProcess(here, os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer lives.close()
	if why, err := lives.check(t.Context(), Gateway{Domain: ours}, lines); err != nil {
		t.Errorf("%s: %v", why, err)
	}
	if why, err := (&process{pid: os.Getpid()}).check(t.Context(), Gateway{Domain: ours}, lines); why != refusedProcess {
		t.Errorf("%q: %v", why, err)
	}
}

// TestAStrangersWordsInTheLog: what a process says of itself is as long as it likes, and
// stands in an error that is logged.
func TestAStrangersWordsInTheLog(t *testing.T) {
	long := strings.Repeat("x", maxEvidence/2)
	for _, e := range []evidence{
		{args: []string{"qemu", "-uuid", long}},
		{args: []string{"qemu", "-uuid", ours, "-name", "guest=" + long}, machine: "a"},
	} {
		if err := e.belongsTo(ours); err == nil || len(err.Error()) > 300 || !strings.Contains(err.Error(), "xxx") {
			t.Errorf("%d bytes", len(err.Error()))
		}
	}
}

func TestOnlyItsDomainGetsTheGuestSeat(t *testing.T) {
	cfg := testConfig(runDir(t), "a", "b")
	cfg.Gateways[0].Domain, cfg.Gateways[1].Domain = ours, theirs
	r := startServer(t, cfg)
	r.patient()
	// The command line is what a machine without AppArmor can show.
	domain := startChildWith(t, "-name", "guest=a", "-uuid", ours)
	if got := domain.do(t, "dial "+guestSocket(r.run, "b")); !strings.HasPrefix(got, "error") {
		t.Errorf("another domain's seat: %q", got)
	}
	if n := r.gateway(t, "b").Refused["not the gateway's domain"]; n != 1 {
		t.Errorf("%d refused, want 1", n)
	}
	domain.want(t, "dial "+guestSocket(r.run, "a"), "seat 2")
	if dialled := startChild(t).do(t, "dial "+guestSocket(r.run, "b")); !strings.HasPrefix(dialled, "error") {
		t.Errorf("no domain at all: %q", dialled)
	}
	if n := r.gateway(t, "b").Refused["not the gateway's domain"]; n != 2 {
		t.Errorf("%d refused, want 2", n)
	}
	if text := r.log.String(); !strings.Contains(text, "it is domain") {
		t.Errorf("the log says not why: %s", text)
	}
	dial(t, hostSocket(r.run, "a")) // coordinators are no domains
}

func TestReload(t *testing.T) {
	cfg := testConfig(runDir(t), "a")
	next, fault := testConfig(cfg.RunDir, "a", "b").Gateways, error(nil)
	cfg.Reread = func() ([]Gateway, error) { return next, fault }
	r := startServer(t, cfg)
	ask := func(q any) (a Answer) {
		t.Helper()
		b, err := statussock.Ask(rundir.Dir(r.run).ServerCommand(), "server", q, patience)
		if err == nil {
			err = json.Unmarshal(b, &a)
		}
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if got := ask(Request{Reload: true}); got.Error != "" || !slices.Equal(got.Served, []string{"a", "b"}) {
		t.Errorf("%+v", got)
	}
	dial(t, guestSocket(r.run, "b"))
	next, fault = nil, errors.New("line 3: unknown key")
	if got := ask(Request{Reload: true}); got.Error != "line 3: unknown key" || !slices.Equal(got.Served, []string{"a", "b"}) {
		t.Errorf("a faulty configuration: %+v", got)
	}
	if got := ask(map[string]bool{"stop": true}); !strings.Contains(got.Error, "want reload") {
		t.Errorf("%+v", got)
	}
	if info, err := os.Stat(rundir.Dir(r.run).ServerCommand()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}
