//go:build e2e

package provision

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// finding is a line of `guardring doctor --json`.
type finding struct{ Name, State, Text, Remedy string }

// doctor returns the lines by name, and the exit code.
func (h *host) doctor() (map[string]finding, int) {
	h.t.Helper()
	cmd := exec.Command(binary, "doctor", "--json", "--config", h.path("guardring.yaml"))
	out, err := cmd.Output()
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	}
	var document struct{ Checks []finding }
	if err := json.Unmarshal(out, &document); err != nil {
		h.t.Fatalf("doctor: %v: %s", err, out)
	}
	all := map[string]finding{}
	for _, f := range document.Checks {
		if all[f.Name].State != "fail" {
			all[f.Name] = f
		}
	}
	return all, code
}

// ill wants a line to fail, with this text and a remedy.
func (h *host) ill(name, text string) {
	h.t.Helper()
	lines, code := h.doctor()
	if l := lines[name]; l.State != "fail" || !strings.Contains(l.Text, text) || l.Remedy == "" || code != 2 {
		h.t.Errorf("%q: want a fail with %q, exit code 2; got %+v, %d", name, text, l, code)
	}
}

// TestDoctor breaks one thing after another on a host with a running gateway.
func TestDoctor(t *testing.T) {
	h := newHost(t, "qemu:///system")
	server := h.serve()
	h.start("coordinate")
	h.started("doc")
	await(t, "no fault is left", func() bool { _, code := h.doctor(); return code < 2 })
	lines, code := h.doctor()
	for name, state := range map[string]string{"configuration": "pass", "server": "pass", "coordinator": "pass", "libvirt": "pass", "domain of doc": "pass", "socket of doc": "pass",
		"region of doc": "pass", "process of doc": "pass", "agent of doc": "warn", "descriptor store": "warn", "qemu's user": "warn", "ledger directory": "pass"} {
		if lines[name].State != state {
			t.Errorf("%s: %+v, want %s", name, lines[name], state)
		}
	}
	if code != 1 {
		t.Errorf("exit code %d with warnings", code)
	}

	socket := h.path("run/gateways/doc.sock")
	chmod := func(path string, mode os.FileMode) {
		t.Helper()
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	chmod(socket, 0o600)
	h.ill("socket of doc", "configured are")
	chmod(socket, 0o660)
	chmod(h.path("run"), 0o777)
	h.ill("run directory", "others can write")
	chmod(h.path("run"), 0o755)
	chmod(h.path("ledger"), 0o755)
	h.ill("ledger directory", "others can look")
	chmod(h.path("ledger"), 0o700)

	h.virsh("destroy", "doc")
	h.virsh("net-destroy", "guardring-doc")
	h.ill("domain of doc", "the network guardring-doc is not active")
	h.virsh("net-start", "guardring-doc")
	document := h.dump("doc")
	at, end := strings.Index(document, "    <shmem"), strings.Index(document, "</shmem>")
	h.virsh("define", h.write("doc.xml", document[:at]+document[end+len("</shmem>"):]))
	h.ill("domain of doc", "no device of ours")
	h.virsh("define", h.write("doc.xml", strings.Replace(document, socket, h.path("run/gateways/else.sock"), 1)))
	h.ill("domain of doc", "else.sock")
	h.virsh("define", h.write("doc.xml", document))
	h.virsh("undefine", "doc")
	h.ill("domain of doc", "no domain with its UUID")
	h.virsh("define", h.write("doc.xml", document))

	if err := daemon.StopDaemon(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	h.ill("libvirt", "does not answer")
	if err := daemon.StartDaemon(); err != nil {
		t.Fatal(err)
	}
	_ = server.Process.Kill()
	_ = server.Wait()
	h.ill("server", "serve")
	config := string(must(h, exec.Command("cat", h.path("guardring.yaml"))))
	h.write("guardring.yaml", config+"nonsense: 1\n")
	h.ill("configuration", "unknown key")
	h.write("guardring.yaml", config)
}

// TestHook: a gateway that starts without the server is stopped with a clear
// message; others are not.
func TestHook(t *testing.T) {
	h := newHost(t, "qemu:///system")
	hooks := []string{"--hooks-dir", daemon.Config() + "/hooks"}
	with := func(args ...string) []string { return append(append([]string{"hook"}, args...), hooks...) }
	if out := h.must(with("install", "--dry-run")...); !strings.Contains(out, " hook run") {
		t.Error(out)
	}
	if _, err := os.Stat(daemon.Config() + "/hooks"); err == nil {
		t.Error("a dry run wrote")
	}
	h.must(with("install")...)
	if out := h.must(with("install")...); !strings.Contains(out, "is there already") {
		t.Error(out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command(binary, append([]string{"hook", "remove"}, hooks...)...).CombinedOutput(); err != nil || !strings.Contains(string(out), "removed") {
			t.Errorf("%v: %s", err, out)
		}
		if err := errors.Join(daemon.StopDaemon(syscall.SIGTERM), daemon.StartDaemon()); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(daemon.StopDaemon(syscall.SIGTERM), daemon.StartDaemon()); err != nil { // it looks for hooks when it starts
		t.Fatal(err)
	}
	h.define("hooked", "q35")
	h.define("other", "q35")
	h.must("gateway", "attach", "hooked")
	_, err := daemon.Virsh(h.uri, "start", "hooked")
	if err == nil || !strings.Contains(err.Error(), "guardring's server does not answer") || !strings.Contains(err.Error(), "start the server") {
		t.Errorf("without the server: %v", err)
	}
	h.virsh("start", "other")
	h.virsh("destroy", "other")
	h.serve()
	h.virsh("start", "hooked")
	h.virsh("destroy", "hooked")
	// The configuration has forgotten it, its domain has not.
	if err := os.Remove(h.path("gateways.d/hooked.yaml")); err != nil {
		t.Fatal(err)
	}
	h.must("gateway", "attach", "other") // has the server read the configuration
	_, err = daemon.Virsh(h.uri, "start", "hooked")
	if err == nil || !strings.Contains(err.Error(), "does not serve") {
		t.Errorf("not served: %v", err)
	}
	if l := h.list()["hooked"]; l.Fault == "" || l.Remedy == "" {
		t.Errorf("the list does not name it: %+v", l)
	}
}
