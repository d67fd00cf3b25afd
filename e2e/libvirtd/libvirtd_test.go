//go:build e2e

package libvirtd

import (
	"context"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestDomainsOutliveTheDaemon: the harness itself.
func TestDomainsOutliveTheDaemon(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "libvirtd")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	d, err := Start(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	const domain = `<domain type='qemu'><name>a</name><memory unit='MiB'>32</memory><os><type machine='q35'>hvm</type></os>
<devices><memballoon model='none'/></devices></domain>`
	if err := os.WriteFile(dir+"/a.xml", []byte(domain), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Virsh("qemu:///system", "create", dir+"/a.xml"); err != nil {
		t.Fatal(err)
	}
	if err := d.StopDaemon(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Virsh("qemu:///system", "list"); err == nil {
		t.Error("libvirtd answers although it was killed")
	}
	if err := d.StartDaemon(); err != nil {
		t.Fatal(err)
	}
	if list, err := d.Virsh("qemu:///system", "list", "--name"); err != nil || strings.TrimSpace(list) != "a" {
		t.Fatalf("%q, %v", list, err)
	}
	// Waits until libvirtd has its QEMU again: to destroy a domain before that fails now and then (libvirt 9.0).
	if state, err := d.Virsh("qemu:///system", "qemu-monitor-command", "a", `{"execute":"query-status"}`); err != nil || !strings.Contains(state, "running") {
		t.Fatalf("%q, %v; libvirtd says:\n%s", state, err, d.Log())
	}
	if _, err := d.Virsh("qemu:///system", "destroy", "a"); err != nil {
		t.Fatalf("%v; libvirtd says:\n%s", err, d.Log())
	}
}
