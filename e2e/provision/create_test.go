//go:build e2e

package provision

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestCreateStartRemove: one command makes a gateway, its real QEMU takes the seat.
func TestCreateStartRemove(t *testing.T) {
	h := newHost(t, "qemu:///system")
	h.serve()
	disk := h.disk("one.raw")
	args := []string{"gateway", "create", "one", "--disk", disk, "--disk-format", "raw", "--type", "qemu", "--user-network", "192.168.71.0/24", "--memory", "128"}
	h.must(append(args, "--dry-run", "--user-network", "")...)

	dry := h.must(append(args, "--dry-run", "--start")...)
	if !strings.Contains(dry, "ivshmem-doorbell") || !strings.Contains(dry, "guardring-one") {
		t.Errorf("the dry run shows too little:\n%s", dry)
	}
	if entries, _ := os.ReadDir(h.path("gateways.d")); len(entries) > 0 || len(h.list()) > 0 {
		t.Fatalf("a dry run changed something: %v %v", entries, h.list())
	}

	out := h.must(append(args, "--start")...)
	t.Log(out)
	t.Cleanup(func() { _, _ = daemon.Virsh(h.uri, "destroy", "one") })
	await(t, "QEMU takes the seat", func() bool { return h.list()["one"].Seat == "connected" })
	l := h.list()["one"]
	if l.State != "running" || l.MadeBy != "create" || !l.Interrupts || l.Fault != "" || strings.TrimSpace(h.virsh("domuuid", "one")) != l.UUID {
		t.Errorf("%+v", l)
	}
	before := h.virsh("dumpxml", "one")
	if again := h.must(append(args, "--start")...); !strings.Contains(again, "all of it was done already") || h.virsh("dumpxml", "one") != before {
		t.Errorf("the second run changed something:\n%s", again)
	}
	h.refused("the domain \"one\" is running", "gateway", "remove", "one")
	h.virsh("destroy", "one")
	await(t, "the seat is free", func() bool { return h.list()["one"].Seat == "free" })
	out = h.must("gateway", "remove", "one")
	if !strings.Contains(out, disk) {
		t.Errorf("it does not say that the disk stays:\n%s", out)
	}
	if _, err := os.Stat(disk); err != nil {
		t.Error(err)
	}
	if got := h.list(); len(got) > 0 || strings.Contains(h.virsh("list", "--all", "--name"), "one") {
		t.Errorf("something is left: %v", got)
	}
	h.refused("no gateway \"one\" is configured", "gateway", "remove", "one")
}

// TestWithAgent: the CD with the guest's agent is in the gateway.
func TestWithAgent(t *testing.T) {
	h := newHost(t, "qemu:///system")
	h.serve()
	create := []string{"gateway", "create", "cd", "--disk", h.disk("cd.raw"), "--disk-format", "raw", "--type", "qemu", "--memory", "128",
		"--user-network", "192.168.71.0/24", "--with-agent", "--start"}
	h.write("no-agent.yaml", string(must(h, exec.Command("cat", h.path("guardring.yaml"))))+"guest-agent: "+h.path("none")+"\n")
	out, err := exec.Command(binary, append(create, "--config", h.path("no-agent.yaml"))...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), h.path("none")) || len(h.list()) > 0 {
		t.Fatalf("without an agent to put in: %v, %s, %v", err, out, h.list())
	}
	h.killedAt("image", create...)
	t.Cleanup(func() { _, _ = daemon.Virsh(h.uri, "destroy", "cd"); _, _ = daemon.Virsh(h.uri, "undefine", "cd") })
	await(t, "QEMU takes the seat", func() bool { return h.list()["cd"].Seat == "connected" })
	if document := h.dump("cd"); !strings.Contains(document, "<source file='"+h.path("agent.iso")+"'") {
		t.Error(document)
	}
	// A domain that others made, and back, with the CD out again.
	before := h.define("old", "q35")
	h.must("gateway", "attach", "old", "--with-agent")
	if document := h.dump("old"); !strings.Contains(document, h.path("agent.iso")) {
		t.Error(document)
	}
	h.must("gateway", "detach", "old")
	if h.dump("old") != before {
		t.Errorf("not as before: %s", h.dump("old"))
	}
}

// TestListForPeople: the table, and what is wrong below it.
func TestListForPeople(t *testing.T) {
	h := newHost(t, "qemu:///system")
	h.define("tab", "pc")
	h.must("gateway", "attach", "tab", "--name", "web")
	h.serve()
	h.define("gone", "q35")
	h.must("gateway", "attach", "gone")
	h.virsh("undefine", "gone")
	if out := h.must("gateway", "list"); !strings.Contains(out, "web      tab     off    attach   free  polling") || !strings.Contains(out, "gone: libvirt has no domain with its UUID\n  run the") {
		t.Error(out)
	}
	h.must("gateway", "detach", "gone") // without its domain
	if out := h.must("gateway", "reload"); !strings.Contains(out, "1 gateway: web") {
		t.Error(out)
	}
	h.must("gateway", "detach", "web")
}
