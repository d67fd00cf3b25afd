//go:build e2e

package provision

import (
	"os"
	"strings"
	"testing"
)

// TestOnlyItsDomainTakesTheSeat: another domain's QEMU, at the same socket and of
// the same user, is refused, and does not start.
func TestOnlyItsDomainTakesTheSeat(t *testing.T) {
	h := newHost(t, "qemu:///system")
	h.serve()
	h.define("rightful", "q35")
	h.define("thief", "q35")
	h.must("gateway", "attach", "rightful")
	h.must("gateway", "attach", "thief")
	socket := h.path("run/gateways/rightful.sock")
	stolen := strings.Replace(h.dump("thief"), h.path("run/gateways/thief.sock"), socket, 1)
	h.virsh("define", h.write("thief.xml", stolen))
	if l := h.list()["thief"]; !strings.Contains(l.Fault, socket) {
		t.Errorf("the list does not name it: %+v", l)
	}
	if _, err := daemon.Virsh(h.uri, "start", "thief"); err == nil {
		t.Error("the thief starts")
		h.virsh("destroy", "thief")
	}
	log, err := os.ReadFile(h.path("serve.log"))
	if err != nil || !strings.Contains(string(log), "not the gateway's domain") {
		t.Errorf("%v: %s", err, log)
	}
	h.virsh("start", "rightful")
	t.Cleanup(func() { _, _ = daemon.Virsh(h.uri, "destroy", "rightful") })
	await(t, "the rightful one has the seat", func() bool { return h.list()["rightful"].Seat == "connected" })
}

// TestNetworks are made where they are missing, and shared.
func TestNetworks(t *testing.T) {
	h := newHost(t, "qemu:///system")
	for _, name := range []string{"net1", "net2"} {
		out := h.must("gateway", "create", name, "--disk", h.disk(name+".raw"), "--disk-format", "raw", "--type", "qemu", "--memory", "128")
		if defined := strings.Contains(out, "define the network guardring-external"); defined != (name == "net1") {
			t.Errorf("%s: %s", name, out)
		}
	}
	active, auto := h.virsh("net-list", "--name"), h.virsh("net-list", "--name", "--autostart")
	for _, name := range []string{"guardring-external", "guardring-net1", "guardring-net2"} {
		if !strings.Contains(active, name+"\n") || !strings.Contains(auto, name+"\n") {
			t.Errorf("%s is not active, or does not start by itself:\n%s\n%s", name, active, auto)
		}
	}
	h.must("gateway", "remove", "net1")
	h.must("gateway", "remove", "net2")
	for _, name := range []string{"guardring-external", "guardring-net1", "guardring-net2"} {
		h.virsh("net-destroy", name)
		h.virsh("net-undefine", name)
	}
}

// TestTwoAtOnce: two commands do not see each other half-way.
func TestTwoAtOnce(t *testing.T) {
	h := newHost(t, "qemu:///system")
	h.serve()
	disk := h.disk("both.raw")
	errs := make(chan error, 4)
	for range cap(errs) {
		go func() {
			_, err := h.try(nil, "gateway", "create", "both", "--disk", disk, "--disk-format", "raw", "--type", "qemu", "--memory", "128", "--user-network", "192.168.71.0/24")
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if l := h.list()["both"]; l.Fault != "" || l.UUID != strings.TrimSpace(h.virsh("domuuid", "both")) {
		t.Errorf("%+v", l)
	}
	h.must("gateway", "remove", "both")
}
