package device

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"guardring/guest-agent/pci"
	"guardring/guest-agent/pci/pcitest"
	"guardring/internal/hint"
)

// TestPrepareAndRestore: from every driver and back, by each way, with what the kernel
// is told in order; a second run changes nothing.
func TestPrepareAndRestore(t *testing.T) {
	for _, tt := range []struct {
		name  string
		kind  Kind
		group string
		prior string
		want  []string
	}{
		{"vfio", Auto, "4", "", []string{"devices/" + address + "/driver_override = vfio-pci", "drivers_probe = " + address}},
		{"vfio, from another driver", Auto, "4", "uio_pci_generic", []string{
			"devices/" + address + "/driver_override = vfio-pci", "devices/" + address + "/driver/unbind = " + address, "drivers_probe = " + address}},
		{"no IOMMU", Auto, "", "", []string{"devices/" + address + "/enable = 1"}},
		{"polling, from another driver", ByPolling, "4", "uio_pci_generic", []string{"devices/" + address + "/driver/unbind = " + address, "devices/" + address + "/enable = 1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := card()
			d.Group, d.Driver, d.Override = tt.group, tt.prior, tt.prior
			k, o := machine(t, d)
			o.Kind = tt.kind
			if p, err := Prepare(o, true); err != nil || len(p.Changed) == 0 || len(k.Writes) > 0 || k.Device(address) != d {
				t.Fatalf("dry run: %+v, %v; wrote %q", p, err, k.Writes)
			}
			p, err := Prepare(o, false)
			if err != nil || !slices.Equal(k.Writes, tt.want) {
				t.Fatalf("%+v, %v; wrote\n%s", p, err, strings.Join(k.Writes, "\n"))
			}
			checkPrepared(t, k, p)
			k.Writes = nil
			if again, err := Prepare(o, false); err != nil || len(again.Changed) != 0 || again.Choice != p.Choice || len(k.Writes) > 0 {
				t.Errorf("again: %+v, %v; wrote %q", again, err, k.Writes)
			}
			if _, err := Restore(o, false); err != nil {
				t.Fatal(err)
			}
			if now := k.Device(address); now != d {
				t.Errorf("restored: %+v, was %+v", now, d)
			}
			if again, err := Restore(o, false); err != nil || len(again.Changed) != 0 {
				t.Errorf("again: %+v, %v", again, err)
			}
		})
	}
}

// checkPrepared looks whether the device is as Open needs it.
func checkPrepared(t *testing.T, k *pcitest.Tree, p Prepared) {
	t.Helper()
	now := k.Device(address)
	files := []string{filepath.Join(k.Root, "dev/vfio/4")}
	if p.Choice.Kind == ByPolling {
		files = []string{k.Bus().ResourceFile(address, 0), k.Bus().ResourceFile(address, 2)}
	}
	if good := p.Choice.Kind == ByVFIO && now.Driver == vfioDriver || p.Choice.Kind == ByPolling && now.Driver == "" && now.Enabled && now.Override != vfioDriver; !good {
		t.Errorf("prepared for %s: %+v", p.Choice.Kind, now)
	}
	for _, f := range files {
		if st, err := os.Stat(f); err != nil || st.Mode().Perm() != 0o660 {
			t.Errorf("%s: %v, %v", f, st, err)
		}
	}
}

// TestKilledAtEachStep: whichever write was the last one, before or after it had its
// effect, the next run does what is missing, and Restore still gives back what was
// there in the beginning. The same for Restore.
func TestKilledAtEachStep(t *testing.T) {
	for _, kind := range []Kind{Auto, ByPolling} {
		for _, late := range []bool{false, true} {
			for restoring := range 2 {
				for n := 1; ; n++ {
					d := card()
					d.Group, d.Driver, d.Override = "4", "uio_pci_generic", "uio_pci_generic"
					k, o := machine(t, d)
					o.Kind = kind
					act := Prepare
					if restoring == 1 {
						if _, err := Prepare(o, false); err != nil {
							t.Fatal(err)
						}
						act = Restore
					}
					k.FailAt, k.Late = n, late
					_, err := act(o, false)
					if err == nil {
						if n < 3 {
							t.Errorf("%s: %d writes only", kind, n-1)
						}
						break // fewer writes than n
					}
					if !errors.Is(err, pcitest.ErrKilled) {
						t.Fatal(err)
					}
					where := k.Writes[len(k.Writes)-1]
					if restoring == 0 {
						p, err := Prepare(o, false)
						if err != nil {
							t.Fatalf("%s late=%v: after %s: %v", kind, late, where, err)
						}
						checkPrepared(t, k, p)
					}
					if _, err := Restore(o, false); err != nil {
						t.Fatalf("%s late=%v: restore after %s: %v", kind, late, where, err)
					}
					if now := k.Device(address); now != d {
						t.Errorf("%s late=%v: after %s restored %+v, was %+v", kind, late, where, now, d)
					}
				}
			}
		}
	}
}

// TestChangeOfMind: a device prepared for one way is prepared for the other.
func TestChangeOfMind(t *testing.T) {
	d := card()
	d.Group = "4"
	k, o := machine(t, d)
	for _, kind := range []Kind{ByVFIO, ByPolling, ByVFIO, Auto, ByPolling} {
		o.Kind = kind
		p, err := Prepare(o, false)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		checkPrepared(t, k, p)
	}
	if _, err := Restore(o, false); err != nil || k.Device(address) != d {
		t.Errorf("%+v, %v", k.Device(address), err)
	}
}

// TestNextBoot: what was bound before the machine started anew is not; the state file
// is still there.
func TestNextBoot(t *testing.T) {
	d := card()
	d.Group = "4"
	k, o := machine(t, d)
	if _, err := Prepare(o, false); err != nil {
		t.Fatal(err)
	}
	reboot := func() {
		k.Remove(address)
		os.RemoveAll(filepath.Join(k.Root, "sys/kernel/iommu_groups"))
		d.Driver, d.Override = "uio_pci_generic", "uio_pci_generic" // somebody has installed a driver meanwhile
		k.Add(d)
		k.Put("proc/sys/kernel/random/boot_id", "second\n")
	}
	reboot()
	if p, err := Restore(o, false); err != nil || len(p.Changed) != 1 || k.Device(address) != d {
		t.Errorf("restore after a reboot: %+v, %v, %+v", p, err, k.Device(address))
	}
	for range 2 {
		if _, err := Prepare(o, false); err != nil {
			t.Fatal(err)
		}
		reboot()
	}
	if _, err := Prepare(o, false); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(o, false); err != nil || k.Device(address) != d {
		t.Errorf("%v, %+v", err, k.Device(address))
	}
}

func TestPrepareFails(t *testing.T) {
	grouped := card()
	grouped.Group = "4"
	noModules := func(string) error { return errors.New("not found in /lib/modules") }
	t.Run("no modules", func(t *testing.T) {
		k, o := machine(t, grouped)
		o.Modprobe = noModules
		p, err := Prepare(o, false)
		if err != nil || p.Choice.Kind != ByPolling || !strings.Contains(p.Choice.Reason, "vfio-pci: not found") {
			t.Errorf("auto: %+v, %v", p, err)
		}
		checkPrepared(t, k, p)
		o.Kind = ByVFIO
		if _, err := Prepare(o, false); err == nil || !strings.Contains(hint.Of(err), "modprobe vfio-pci") {
			t.Errorf("vfio: %v, %q", err, hint.Of(err))
		}
	})
	t.Run("the driver does not take it", func(t *testing.T) {
		k, o := machine(t, grouped)
		write := o.Bus.Write
		o.Bus.Write = func(path, text string) error {
			if strings.HasSuffix(path, "drivers_probe") {
				return nil
			}
			return write(path, text)
		}
		if _, err := Prepare(o, false); err == nil || !strings.Contains(err.Error(), "vfio-pci did not take it") || !strings.Contains(hint.Of(err), "dmesg") {
			t.Errorf("%v, %q, %q", err, hint.Of(err), k.Writes)
		}
	})
	t.Run("not root", func(t *testing.T) {
		_, o := machine(t, grouped)
		o.Bus.Write = func(string, string) error { return os.ErrPermission }
		if _, err := Prepare(o, false); !errors.Is(err, os.ErrPermission) || hint.Of(err) != "run this command as root" {
			t.Errorf("%v, %q", err, hint.Of(err))
		}
	})
	t.Run("the state file is damaged", func(t *testing.T) {
		k, o := machine(t, grouped)
		k.Put("var/lib/guardring-guest/device.json", "{")
		if _, err := Restore(o, false); err == nil || !strings.Contains(hint.Of(err), "remove the file") {
			t.Errorf("%v, %q", err, hint.Of(err))
		}
		if _, err := Prepare(o, false); err != nil {
			t.Errorf("prepare writes it anew: %v", err)
		}
		if _, err := Restore(o, false); err != nil || k.Device(address) != grouped {
			t.Errorf("%v", err)
		}
	})
	t.Run("the agent's user made the state file a FIFO", func(t *testing.T) {
		_, o := machine(t, grouped)
		if err := errors.Join(os.MkdirAll(filepath.Dir(o.StateFile), 0o755), syscall.Mkfifo(o.StateFile, 0o600)); err != nil {
			t.Fatal(err)
		}
		if _, err := Restore(o, false); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("restore: %v", err)
		}
	})
	t.Run("the agent's user put a state file of its own there", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("only root can give a file away")
		}
		k, o := machine(t, grouped)
		if _, err := Prepare(o, false); err != nil {
			t.Fatal(err)
		}
		k.Put("var/lib/guardring-guest/device.json", fmt.Sprintf(`{"address":%q,"driver":"e1000e","driver_override":"e1000e","boot_id":"first"}`, address))
		if err := os.Chown(o.StateFile, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		k.Writes = nil
		if _, err := Restore(o, false); err == nil || !strings.Contains(err.Error(), "not root's") || len(k.Writes) > 0 {
			t.Errorf("%v, %q", err, k.Writes)
		}
	})
	t.Run("the agent's user writes for root's terminal and log", func(t *testing.T) {
		k, o := machine(t, grouped)
		if _, err := Prepare(o, false); err != nil {
			t.Fatal(err)
		}
		k.Put("var/lib/guardring-guest/device.json", fmt.Sprintf(`{"address":%q,"boot_id":"first","no_vfio":"no\u001b]0;x\u0007\nroot: %s"}`, address, strings.Repeat("y", 1000)))
		p, err := Prepare(o, false)
		if err != nil || !strings.HasPrefix(p.Choice.Reason, "no?]0;x? root: y") || len(p.Choice.Reason) > maxReason {
			t.Errorf("%q, %v", p.Choice.Reason, err)
		}
	})
	t.Run("no interrupt remapping", func(t *testing.T) {
		k, o := machine(t, grouped)
		if _, err := Prepare(o, false); err != nil {
			t.Fatal(err)
		}
		// What Prepare does when VFIO refuses the group: no made-up kernel has its ioctls.
		if err := o.remember(grouped, "VFIO cannot be had: no remapping"); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			p, err := Prepare(o, false)
			if err != nil || p.Choice.Kind != ByPolling || !strings.Contains(p.Choice.Reason, "no remapping") {
				t.Errorf("%+v, %v", p, err)
			}
			checkPrepared(t, k, p)
		}
		d, c, err := Open(o)
		if err != nil || !strings.Contains(c.Reason, "no remapping") {
			t.Fatalf("%+v, %v", c, err)
		}
		d.Close()
		if _, err := Restore(o, false); err != nil || k.Device(address) != grouped {
			t.Errorf("%v, %+v", err, k.Device(address))
		}
		if p, err := Prepare(o, false); err != nil || p.Choice.Kind != ByVFIO {
			t.Errorf("after leave it is not tried again: %+v, %v", p, err)
		}
	})
	t.Run("another device", func(t *testing.T) {
		disk := card()
		disk.Address, disk.ID, disk.Driver = "0000:00:02.0", 0x1001, "virtio-pci"
		k, o := machine(t, disk)
		o.Address = disk.Address
		expect(t, o, "it is 1af4:1001, not 1af4:1110", "pci-address:")
		k.Put("var/lib/guardring-guest/device.json", `{"address":"0000:00:02.0","driver":"uio_pci_generic","boot_id":"first"}`)
		if _, err := Restore(o, false); err == nil || len(k.Writes) > 0 || k.Device(disk.Address) != disk {
			t.Errorf("a state file names a device that is not ours: %v, %q", err, k.Writes)
		}
	})
	t.Run("a driver that is a path", func(t *testing.T) {
		for _, driver := range []string{"../../../../tmp/x", "..", ".", "a/b", "a\nb"} {
			for _, key := range []string{"driver", "driver_override"} {
				k, o := machine(t, grouped)
				if _, err := Prepare(o, false); err != nil {
					t.Fatal(err)
				}
				k.Writes = nil
				k.Put("var/lib/guardring-guest/device.json", fmt.Sprintf(`{"address":%q,%q:%q,"boot_id":"first"}`, address, key, driver))
				if _, err := Restore(o, false); err == nil || len(k.Writes) > 0 || !strings.Contains(hint.Of(err), "remove the file") {
					t.Errorf("%s %q: %v, %q", key, driver, err, k.Writes)
				}
			}
		}
	})
	t.Run("no PCI at all", func(t *testing.T) {
		_, o := machine(t)
		if p, err := Prepare(o, false); err != nil || p.Choice.Kind != BySocket || len(p.Changed) > 0 {
			t.Errorf("%+v, %v", p, err)
		}
		o.Bus = pci.Bus{Root: t.TempDir()}
		if p, err := Prepare(o, false); err != nil || p.Choice.Kind != BySocket {
			t.Errorf("without a bus: %+v, %v", p, err)
		}
		o.Kind = ByPolling
		if _, err := Prepare(o, false); err == nil {
			t.Error("polling without a device")
		}
	})
}

// TestRootPreparesByItself: an agent that may do it needs no prepare command.
func TestRootPreparesByItself(t *testing.T) {
	_, o := machine(t, card())
	expect(t, o, "not prepared", "prepare")
	o.Root = true
	d, c, err := Open(o)
	if err != nil || c.Kind != ByPolling {
		t.Fatalf("%+v, %v", c, err)
	}
	d.Close()
}
