package pci_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"guardring/guest-agent/pci"
	"guardring/guest-agent/pci/pcitest"
)

func card(address string) pci.Device {
	return pci.Device{Address: address, Vendor: 0x1af4, ID: 0x1110, Revision: 1, Size: [pci.BARs]uint64{0: 256, 1: 4096, 2: 1 << 20}}
}

func TestFind(t *testing.T) {
	k := pcitest.New(t)
	second := card("0000:00:11.0")
	second.Driver, second.Override, second.Group, second.Enabled = "uio_pci_generic", "uio_pci_generic", "4", true
	other := card("0000:00:02.0")
	other.ID = 0x1000
	for _, d := range []pci.Device{second, other, card("0000:00:10.0")} {
		k.Add(d)
	}
	k.Put("sys/bus/pci/devices/README", "not a device")
	found, err := k.Bus().Find(0x1af4, 0x1110)
	if err != nil || !slices.Equal(found, []pci.Device{card("0000:00:10.0"), second}) {
		t.Errorf("found %+v, %v", found, err)
	}
	if members, err := k.Bus().Members("4"); err != nil || !slices.Equal(members, []string{"0000:00:11.0"}) {
		t.Errorf("members %v, %v", members, err)
	}
	if !k.Bus().HasDriver("uio_pci_generic") || k.Bus().HasDriver("vfio-pci") {
		t.Error("drivers")
	}
	if k.Bus().HasModule("vfio-pci") {
		t.Error("a module that is not there")
	}
	k.AddModule("vfio-pci")
	if !k.Bus().HasModule("vfio-pci") {
		t.Error("a module that is there")
	}
}

func TestWhatCannotBeRead(t *testing.T) {
	if _, err := (pci.Bus{Root: t.TempDir()}).Find(1, 2); !errors.Is(err, pci.ErrNoBus) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no bus: %v", err)
	}
	k := pcitest.New(t)
	if _, err := k.Bus().Device("0000:00:10.0"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no device: %v", err)
	}
	for _, bad := range []string{"", "00:10.0", "../../../etc", "0000:00:20.0", "0000:00:10.8", "0000:00:10.0\n"} {
		if _, err := k.Bus().Device(bad); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("address %q: %v", bad, err)
		}
	}
	for file, text := range map[string]string{
		"vendor": "red", "revision": "0x100", "enable": "-1", "resource": "0x0 0x0 0x0\n", "device": "",
	} {
		k := pcitest.New(t)
		k.Add(card("0000:00:10.0"))
		k.Put("sys/bus/pci/devices/0000:00:10.0/"+file, text)
		if d, err := k.Bus().Device("0000:00:10.0"); err == nil || !strings.Contains(err.Error(), "0000:00:10.0") {
			t.Errorf("%s %q: %+v, %v", file, text, d, err)
		}
	}
	k.Add(card("0000:00:10.0"))
	k.Put("sys/bus/pci/devices/0000:00:10.0/resource", strings.Repeat("0x0 0x0 red\n", 6))
	if _, err := k.Bus().Device("0000:00:10.0"); err == nil || !strings.Contains(err.Error(), "BAR0") {
		t.Errorf("bad BAR: %v", err)
	}
}

// TestChanges: the words that the kernel expects, and each error with the device's
// address.
func TestChanges(t *testing.T) {
	k := pcitest.New(t)
	k.Add(card("0000:00:10.0"))
	k.AddDriver("uio_pci_generic")
	b, a := k.Bus(), "0000:00:10.0"
	for _, err := range []error{
		b.Enable(a, true), b.Enable(a, false), b.SetOverride(a, "uio_pci_generic"), b.Probe(a), b.Unbind(a), b.SetOverride(a, ""), b.Bind(a, "uio_pci_generic"),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	if d := k.Device(a); d.Driver != "uio_pci_generic" || d.Override != "" || d.Enabled {
		t.Errorf("%+v", d)
	}
	for what, err := range map[string]error{"enable with a driver": b.Enable(a, true), "bind twice": b.Bind(a, "uio_pci_generic"), "none": b.Unbind("0000:00:11.0")} {
		if err == nil || !strings.Contains(err.Error(), "0000:00:1") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestOneWrite: without a test's kernel an attribute gets its value in one write, and
// no file is made.
func TestOneWrite(t *testing.T) {
	k := pcitest.New(t)
	k.Add(card("0000:00:10.0"))
	b := pci.Bus{Root: k.Root}
	if err := b.SetOverride("0000:00:10.0", "vfio-pci"); err != nil {
		t.Fatal(err)
	}
	if d := k.Device("0000:00:10.0"); d.Override != "vfio-pci" {
		t.Errorf("%+v", d)
	}
	if err := b.Unbind("0000:00:10.0"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("unbind without a driver: %v", err)
	}
	if _, err := os.Stat(filepath.Join(b.Dir("0000:00:10.0"), "driver")); err == nil {
		t.Error("a file was made")
	}
}
