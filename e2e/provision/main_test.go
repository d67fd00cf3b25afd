//go:build e2e

// Package provision holds scenarios of `guardring gateway` with a real libvirtd and
// no Tor: the built binary makes, attaches, detaches and removes gateways. It needs
// root, and Debian's libvirt-daemon, libvirt-clients, dnsmasq-base and iptables.
package provision

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"guardring/e2e/libvirtd"
	"guardring/e2e/testmain"
)

// binary is the host's, with kill points.
var binary string

// daemon is shared; each scenario uses names of its own.
var daemon *libvirtd.Daemon

func TestMain(m *testing.M) {
	testmain.Main(m, testmain.Setup{
		NeedsRoot:     "libvirtd needs namespaces of its own",
		OwnNamespaces: true,
		// The agent lies beside the host's program, which puts it into gateways' images.
		Programs: map[string]*string{"guardring/host-agent": &binary, "guardring/guest-agent": new(string)},
		Begin: func(_ context.Context, run *testmain.Run) (err error) {
			// libvirtd ends with its context: so not with that of Begin.
			if daemon, err = libvirtd.Start(context.Background(), run.Dir); err != nil {
				return err
			}
			run.Defer(func() { daemon.Close() })
			return nil
		},
	})
}

// host is a machine with guardring: a configuration, and perhaps a server.
type host struct {
	t   *testing.T
	dir string
	uri string
}

func newHost(t *testing.T, uri string) *host {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "host-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	h := &host{t: t, dir: dir, uri: uri}
	h.write("guardring.yaml", "run-dir: "+h.path("run")+"\nledger-dir: "+h.path("ledger")+"\ndomains-dir: "+h.path("domains")+"\nagent-iso: "+h.path("agent.iso")+
		"\nlibvirt-uri: "+uri+"\nlibvirt-socket: "+daemon.Socket()+"\nlibvirt-watch: "+daemon.ReadOnlySocket()+"\nheartbeat: 200ms\nrescan: 500ms\n")
	if err := os.Mkdir(h.path("gateways.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

func (h *host) write(name, text string) string {
	h.t.Helper()
	if err := os.WriteFile(h.path(name), []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return h.path(name)
}

// disk makes a raw image that boots nothing.
func (h *host) disk(name string) string {
	h.t.Helper()
	path := h.write(name, "")
	if err := os.Truncate(path, 8<<20); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// start runs a command of guardring until the test ends, with its log in a file.
func (h *host) start(command string) *exec.Cmd {
	h.t.Helper()
	logFile, err := os.Create(h.path(command + ".log"))
	if err != nil {
		h.t.Fatal(err)
	}
	cmd := exec.Command(binary, command, "--config", h.path("guardring.yaml"))
	cmd.Stderr = logFile
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = logFile.Close()
		if text, err := os.ReadFile(logFile.Name()); err == nil && h.t.Failed() {
			h.t.Logf("%s: %s", command, text)
		}
	})
	return cmd
}

// serve starts the server and waits until it answers.
func (h *host) serve() *exec.Cmd {
	h.t.Helper()
	cmd := h.start("serve")
	await(h.t, "the server", func() bool {
		_, err := os.Stat(h.path("run/host/server.command"))
		return err == nil
	})
	return cmd
}

// await waits for what another process does and nobody tells.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// gateway runs `guardring gateway ...` with environment variables, and returns
// what it printed, both streams.
func (h *host) try(env []string, args ...string) (string, error) {
	cmd := exec.Command(binary, append(append([]string{}, args...), "--config", h.path("guardring.yaml"))...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (h *host) must(args ...string) string {
	h.t.Helper()
	out, err := h.try(nil, args...)
	if err != nil {
		h.t.Fatalf("guardring %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// started makes a gateway without KVM and without a network of its own, and starts it.
func (h *host) started(name string) {
	h.t.Helper()
	h.must("gateway", "create", name, "--disk", h.disk(name+".raw"), "--disk-format", "raw", "--type", "qemu", "--memory", "128", "--user-network", "192.168.71.0/24", "--start")
	h.t.Cleanup(func() { _, _ = daemon.Virsh(h.uri, "destroy", name); _, _ = daemon.Virsh(h.uri, "undefine", name) })
}

// refused runs a command that must fail, with this in what it says.
func (h *host) refused(want string, args ...string) {
	h.t.Helper()
	out, err := h.try(nil, args...)
	if err == nil || !strings.Contains(out, want) {
		h.t.Errorf("guardring %s: %v, want %q in\n%s", strings.Join(args, " "), err, want, out)
	}
}

func (h *host) virsh(args ...string) string {
	h.t.Helper()
	out, err := daemon.Virsh(h.uri, args...)
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

// listed is an item of `guardring gateway list --json`.
type listed struct {
	Name, Domain, UUID, State, Seat, Fault, Remedy string
	MadeBy                                         string `json:"made_by"`
	Interrupts, Served                             bool
}

func (h *host) list() map[string]listed {
	h.t.Helper()
	cmd := exec.Command(binary, "gateway", "list", "--json", "--config", h.path("guardring.yaml"))
	var text bytes.Buffer
	cmd.Stderr = &text
	out, err := cmd.Output()
	var items []listed
	if err == nil {
		err = json.Unmarshal(out, &items)
	}
	if err != nil {
		h.t.Fatalf("list: %v: %s%s", err, out, text.String())
	}
	all := map[string]listed{}
	for _, l := range items {
		all[l.Name] = l
	}
	return all
}
