//go:build e2e

package provision

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// killedAt runs a command that must die at the step, then the same command again.
func (h *host) killedAt(step string, args ...string) {
	h.t.Helper()
	h.killed(step, args...)
	h.must(args...)
}

func (h *host) killed(step string, args ...string) {
	h.t.Helper()
	out, err := h.try([]string{"GUARDRING_KILL_AT=gateway-" + step}, args...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		h.t.Fatalf("guardring %s was not killed at %s: %v\n%s", strings.Join(args, " "), step, err, out)
	}
}

// TestKilledAtEachStep: the same command finishes what was interrupted.
func TestKilledAtEachStep(t *testing.T) {
	h := newHost(t, "qemu:///system")
	h.serve()
	create := []string{"gateway", "create", "k", "--disk", h.disk("k.raw"), "--disk-format", "raw", "--type", "qemu", "--memory", "128",
		"--user-network", "192.168.71.0/24", "--role", "kills", "--start"}
	for _, step := range []string{"configured", "served", "network", "network-autostart", "network-started", "defined", "started"} {
		h.killedAt(step, create...)
		await(t, "QEMU takes the seat", func() bool { return h.list()["k"].Seat == "connected" })
		if l := h.list(); len(l) != 1 || l["k"].Fault != "" || l["k"].UUID != strings.TrimSpace(h.virsh("domuuid", "k")) {
			t.Fatalf("killed at %s: %+v", step, l)
		}
		h.virsh("destroy", "k")
		h.must("gateway", "remove", "k")
		h.virsh("net-destroy", "guardring-kills")
		h.virsh("net-undefine", "guardring-kills")
	}
	for _, step := range []string{"undefined", "unconfigured", "unserved", "removed"} {
		h.must(create[:len(create)-1]...)
		if step == "removed" { // nothing is left to do, and the command says so
			h.killed(step, "gateway", "remove", "k")
			h.refused("no gateway \"k\" is configured", "gateway", "remove", "k")
		} else {
			h.killedAt(step, "gateway", "remove", "k")
		}
		if l := h.list(); len(l) != 0 || strings.Contains(h.virsh("list", "--all", "--name"), "k") {
			t.Fatalf("killed at %s: %+v", step, l)
		}
	}

	before := h.define("f", "pc")
	attach, detach := []string{"gateway", "attach", "f", "--convert"}, []string{"gateway", "detach", "f"}
	for _, step := range []string{"backup", "configured", "served", "defined"} {
		h.killedAt(step, attach...)
		if l := h.list()["f"]; l.Fault != "" || !l.Served || !l.Interrupts {
			t.Fatalf("killed at %s: %+v", step, l)
		}
		h.must(detach...)
		if h.dump("f") != before {
			t.Fatalf("killed at %s: not as before", step)
		}
	}
	for _, step := range []string{"undone", "compared", "unconfigured", "unserved"} {
		h.must(attach...)
		h.killedAt(step, detach...)
		if l := h.list(); len(l) != 0 || h.dump("f") != before {
			t.Fatalf("killed at %s: %+v", step, l)
		}
	}
	if left, err := filepath.Glob(h.path("run/gateways/*")); err != nil || len(left) > 0 {
		t.Errorf("the server serves what is gone: %v %v", left, err)
	}
}
