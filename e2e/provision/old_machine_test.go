//go:build e2e

package provision

import (
	"os"
	"strings"
	"testing"
)

// holdsCD says whether the running domain's QEMU has the image in a drive.
func (h *host) holdsCD(domain string) {
	h.t.Helper()
	blocks := h.virsh("qemu-monitor-command", domain, "--hmp", "info block")
	if !strings.Contains(blocks, h.path("agent.iso")+" (raw, read-only)") {
		h.t.Errorf("QEMU has no CD:\n%s", blocks)
	}
}

// ideDomain is an old machine with a disk on IDE.
const ideDomain = `<domain type='qemu'>
  <name>NAME</name>
  <uuid>2b1e1d5c-93c1-4a0e-8c8b-6b8f0e9d7a01</uuid>
  <memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <features><acpi/><apic/></features>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='DISK'/><target dev='hda' bus='ide'/></disk>
    <interface type='user'><mac address='52:54:00:aa:bb:07'/><model type='rtl8139'/></interface>
    <serial type='pty'/>
    <memballoon model='virtio'/>
  </devices>
</domain>`

// TestAttachOldMachineWithAgent: disk on IDE, devices of its time, converted or not:
// it runs with the device and the CD, and afterwards is what it was.
func TestAttachOldMachineWithAgent(t *testing.T) {
	h := newHost(t, "qemu:///system")
	h.serve()
	h.virsh("define", h.write("old.xml", strings.NewReplacer("NAME", "old", "DISK", h.disk("old.raw")).Replace(ideDomain)))
	t.Cleanup(func() { _, _ = daemon.Virsh(h.uri, "undefine", "old") })
	before := h.dump("old")
	t.Cleanup(func() { _, _ = daemon.Virsh(h.uri, "destroy", "old") })
	for _, flag := range []string{"--polling", "--convert"} {
		h.must("gateway", "attach", "old", "--with-agent", flag)
		h.virsh("start", "old")
		await(t, "QEMU takes the seat", func() bool { return h.list()["old"].Seat == "connected" })
		h.holdsCD("old")
		if l := h.list()["old"]; l.Interrupts != (flag == "--convert") || l.Fault != "" {
			t.Errorf("%s: %+v", flag, l)
		}
		h.virsh("destroy", "old")
		// Somebody tidies up the images: no reason not to start.
		if err := os.Remove(h.path("agent.iso")); err != nil {
			t.Fatal(err)
		}
		h.virsh("start", "old")
		h.virsh("destroy", "old")
		h.must("gateway", "detach", "old")
		if after := h.dump("old"); after != before {
			t.Errorf("%s: not as before:\n%s\nbut\n%s", flag, before, after)
		}
	}
}
