//go:build e2e

package provision

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// foreign is a domain that others made, with things that we know nothing of.
const foreign = `<domain type='qemu'>
  <name>NAME</name>
  <uuid>UUID</uuid>
  <metadata>
    <app:note xmlns:app="http://example.org/app">kept</app:note>
  </metadata>
  <memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='MACHINE'>hvm</type></os>
  <features><acpi/></features>
  <devices>
    <controller type='usb' index='0' model='none'/>
    <memballoon model='none'/>
    <graphics type='vnc' port='-1' passwd='secret'/>
  </devices>
</domain>`

// define makes a foreign domain and returns libvirt's document of it.
func (h *host) define(name, machine string) string {
	h.t.Helper()
	id := strings.TrimSpace(string(must(h, exec.Command("cat", "/proc/sys/kernel/random/uuid"))))
	h.virsh("define", h.write(name+".xml", strings.NewReplacer("NAME", name, "UUID", id, "MACHINE", machine).Replace(foreign)))
	h.t.Cleanup(func() { _, _ = daemon.Virsh(h.uri, "undefine", name) })
	return h.dump(name)
}

func must(h *host, cmd *exec.Cmd) []byte {
	h.t.Helper()
	out, err := cmd.Output()
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

func (h *host) dump(name string) string {
	h.t.Helper()
	return h.virsh("dumpxml", "--inactive", "--security-info", name)
}

// TestAttachStartDetach: a domain that others made becomes a gateway, and again
// exactly what it was.
func TestAttachStartDetach(t *testing.T) {
	for _, x := range []struct {
		machine, flag string
		interrupts    bool
	}{{"q35", "", true}, {"q35", "--polling", false}, {"pc", "", false}, {"pc", "--convert", true}} {
		name := strings.Trim("f-"+x.machine+x.flag, "-")
		t.Run(name, func(t *testing.T) {
			h := newHost(t, "qemu:///system")
			before := h.define(name, x.machine)
			args := []string{"gateway", "attach", name}
			if x.flag != "" {
				args = append(args, x.flag)
			}
			if dry := h.must(append(args, "--dry-run")...); !strings.Contains(dry, "+    <shmem name='guardring'>") || !strings.Contains(dry, "+++ then") {
				t.Errorf("no difference is shown:\n%s", dry)
			}
			if entries, _ := os.ReadDir(h.path("gateways.d")); h.dump(name) != before || len(entries) > 0 {
				t.Fatal("a dry run changed something")
			}
			out := h.must(args...)
			if !strings.Contains(out, "no guardring server runs") || !strings.Contains(out, "virsh save") {
				t.Errorf("it does not warn:\n%s", out)
			}
			if info, err := os.Stat(h.path("domains/" + name + ".xml")); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("backup: %v %v", info, err)
			}
			attached := h.dump(name)
			if again := h.must("gateway", "attach", name); !strings.Contains(again, "all of it was done already") || h.dump(name) != attached {
				t.Errorf("the second run changed something:\n%s", again)
			}
			h.serve()
			h.virsh("start", name)
			t.Cleanup(func() { _, _ = daemon.Virsh(h.uri, "destroy", name) })
			await(t, "QEMU takes the seat", func() bool { return h.list()[name].Seat == "connected" })
			if l := h.list()[name]; l.Interrupts != x.interrupts || l.MadeBy != "attach" || l.Fault != "" {
				t.Errorf("%+v", l)
			}
			h.refused("is running", "gateway", "detach", name)
			h.refused("gateway detach "+name, "gateway", "remove", name)
			out = h.must("gateway", "detach", name, "--even-if-running")
			if !strings.Contains(out, "exactly as it was") || !strings.Contains(out, "when it has been off once") {
				t.Errorf("detach says:\n%s", out)
			}
			h.virsh("destroy", name)
			if after := h.dump(name); after != before {
				t.Errorf("not as before:\n%s\nbut\n%s", before, after)
			}
			if l, ok := h.list()[name]; ok {
				t.Errorf("still a gateway: %+v", l)
			}
			if _, err := os.Stat(h.path("domains/" + name + ".xml")); err == nil {
				t.Error("the backup is left although the domain is as it was")
			}
		})
	}
}

// TestDetachAfterAChange: what others change in between stays, and is shown.
func TestDetachAfterAChange(t *testing.T) {
	h := newHost(t, "qemu:///system")
	before := h.define("changed", "q35")
	h.must("gateway", "attach", "changed", "--name", "web")
	h.virsh("desc", "--config", "changed", "Bob's")
	out := h.must("gateway", "detach", "web")
	if !strings.Contains(out, "+  <description>") || strings.Contains(h.dump("changed"), "shmem") {
		t.Errorf("%s\n%s", out, h.dump("changed"))
	}
	if kept, err := os.ReadFile(h.path("domains/web.xml")); err != nil || string(kept) != before {
		t.Errorf("the backup: %v", err)
	}
}

// TestWhatIsRefused, and nothing is changed then.
func TestWhatIsRefused(t *testing.T) {
	h := newHost(t, "qemu:///system")
	before := h.define("plain", "q35")
	disk := h.disk("d.raw")
	create := []string{"gateway", "create", "--disk", disk, "--disk-format", "raw", "--type", "qemu"}
	h.refused("has a domain \"plain\" already", append(create, "plain")...)
	h.refused("has no network \"nonsense\"", append(create, "other", "--external-network", "nonsense")...)
	h.refused("is no qcow2 image", "gateway", "create", "other", "--disk", disk)
	h.refused("no such file", "gateway", "create", "other", "--disk", h.path("none"))
	h.refused("has no domain \"none\"", "gateway", "attach", "none")
	h.refused("no guardring server runs", append(create, "other", "--start", "--user-network", "192.168.71.0/24")...)
	h.must("gateway", "remove", "other") // what was done before the server was asked
	h.write("guardring.yaml", string(must(h, exec.Command("cat", h.path("guardring.yaml"))))+"gateways:\n  - name: plain\n")
	h.refused("add to it: domain: ", "gateway", "attach", "plain")
	h.refused("has no domain", "gateway", "detach", "plain")
	h.must("gateway", "attach", "plain", "--name", "two")
	h.refused("is the gateway \"two\" already", "gateway", "attach", "plain", "--name", "three")
	h.must("gateway", "detach", "two")
	if h.dump("plain") != before {
		t.Error("the domain was changed")
	}
	h.virsh("start", "plain")
	t.Cleanup(func() { _, _ = daemon.Virsh(h.uri, "destroy", "plain") })
	h.refused("the domain \"plain\" is running", "gateway", "attach", "plain", "--name", "two")
}

// TestChangedMeanwhile: what somebody else changes in a domain between our look at
// it and our change is not lost.
func TestChangedMeanwhile(t *testing.T) {
	h := newHost(t, "qemu:///system")
	before := h.define("busy", "q35")
	if err := os.MkdirAll(h.path("run/host"), 0o755); err != nil {
		t.Fatal(err)
	}
	// A server that takes its time, and an administrator who uses it.
	server, err := net.Listen("unix", h.path("run/host/server.command"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		c, err := server.Accept()
		if err != nil {
			done <- err
			return
		}
		defer c.Close()
		_, err = daemon.Virsh(h.uri, "desc", "busy", "--config", "--new-desc", "--", "theirs")
		_, err2 := c.Read(make([]byte, 64)) // unread, it would reset the connection
		_, err3 := c.Write([]byte(`{"served":["busy"]}`))
		done <- errors.Join(err, err2, err3)
	}()
	h.refused("somebody else has changed", "gateway", "attach", "busy")
	if err := errors.Join(<-done, server.Close()); err != nil {
		t.Fatal(err)
	}
	if now := h.dump("busy"); !strings.Contains(now, "theirs") || strings.Contains(now, "ivshmem") {
		t.Errorf("their change is lost, or ours is made: %s", now)
	}
	h.must("gateway", "attach", "busy")
	if now := h.dump("busy"); !strings.Contains(now, "theirs") || !strings.Contains(now, "ivshmem") {
		t.Errorf("not both: %s", now)
	}
	h.must("gateway", "detach", "busy")
	if now := h.dump("busy"); now == before || !strings.Contains(now, "theirs") || strings.Contains(now, "ivshmem") {
		t.Errorf("after detach: %s", now)
	}
}
