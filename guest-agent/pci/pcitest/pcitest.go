// Package pcitest makes up a PCI bus for tests: a tree as sysfs has it, and the
// kernel's part in it, as far as package pci uses it. It can fail at any write, as
// if the process were killed there.
//
// Trust: for tests only; it believes everything.
package pcitest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"guardring/guest-agent/pci"
)

// Tree is a made-up machine.
type Tree struct {
	Root string
	// Writes are the attributes that were written, "path below sys = value".
	Writes []string
	// FailAt makes the n-th write from now fail, counted from 1, before it has any
	// effect; with Late, after it. 0: none.
	FailAt int
	Late   bool

	t testing.TB
}

// ErrKilled is what the write returns at which the process "was killed".
var ErrKilled = errors.New("killed here")

// New makes a machine with an empty bus. It lives as long as the test.
func New(t testing.TB) *Tree {
	t.Helper()
	k := &Tree{Root: t.TempDir(), t: t}
	k.Put("sys/bus/pci/drivers_probe", "")
	k.Put("proc/sys/kernel/random/boot_id", "first\n")
	k.must(os.MkdirAll(k.path("sys/bus/pci/devices"), 0o755))
	return k
}

// Bus is the machine's bus, with the kernel behind it.
func (k *Tree) Bus() pci.Bus { return pci.Bus{Root: k.Root, Write: k.write} }

// Add puts a device on the bus. Its driver, if it has one, is added, too.
func (k *Tree) Add(d pci.Device) {
	dir := "sys/bus/pci/devices/" + d.Address
	enable := "0"
	if d.Enabled {
		enable = "1"
	}
	override := d.Override
	if override == "" {
		override = "(null)"
	}
	var resource strings.Builder
	for i := range 13 {
		var start, end uint64
		if i < pci.BARs && d.Size[i] > 0 {
			start = 0xfe000000 + uint64(i)<<20
			end = start + d.Size[i] - 1
			f := filepath.Join(dir, "resource"+strconv.Itoa(i))
			k.Put(f, "")
			k.must(os.Truncate(k.path(f), int64(max(d.Size[i], 4096))))
			k.must(os.Chmod(k.path(f), 0o600))
		}
		fmt.Fprintf(&resource, "0x%016x 0x%016x 0x%016x\n", start, end, 0)
	}
	for name, text := range map[string]string{
		"vendor": fmt.Sprintf("0x%04x\n", d.Vendor), "device": fmt.Sprintf("0x%04x\n", d.ID), "revision": fmt.Sprintf("0x%02x\n", d.Revision),
		"enable": enable + "\n", "driver_override": override + "\n", "resource": resource.String(),
	} {
		k.Put(filepath.Join(dir, name), text)
	}
	if d.Group != "" {
		k.must(os.MkdirAll(k.path("sys/kernel/iommu_groups", d.Group, "devices", d.Address), 0o755))
		k.must(os.Symlink("../../../../kernel/iommu_groups/"+d.Group, k.path(dir, "iommu_group")))
	}
	if d.Driver != "" {
		k.AddDriver(d.Driver)
		k.bind(d.Address, d.Driver)
	}
}

// AddDriver makes the kernel know a driver.
func (k *Tree) AddDriver(name string) {
	k.must(os.MkdirAll(k.path("sys/bus/pci/drivers", name), 0o755))
}

// AddModule makes the kernel have a module; vfio-pci comes with its driver and with
// the container's node.
func (k *Tree) AddModule(name string) {
	k.must(os.MkdirAll(k.path("sys/module", strings.ReplaceAll(name, "-", "_")), 0o755))
	if name == "vfio-pci" {
		k.AddDriver(name)
		k.Put("dev/vfio/vfio", "")
	}
}

// Modprobe is the made-up modprobe(8), which has every module.
func (k *Tree) Modprobe(name string) error {
	k.AddModule(name)
	return nil
}

// Device reads a device, which must be there.
func (k *Tree) Device(address string) pci.Device {
	k.t.Helper()
	d, err := k.Bus().Device(address)
	k.must(err)
	return d
}

// Put writes a file of the tree as root could not: without the kernel noticing.
func (k *Tree) Put(path, text string) {
	k.t.Helper()
	k.must(os.MkdirAll(filepath.Dir(k.path(path)), 0o755))
	k.must(os.WriteFile(k.path(path), []byte(text), 0o644))
}

// Remove takes a device from the bus.
func (k *Tree) Remove(address string) { k.must(os.RemoveAll(k.path("sys/bus/pci/devices", address))) }

func (k *Tree) path(elem ...string) string {
	return filepath.Join(append([]string{k.Root}, elem...)...)
}

func (k *Tree) must(err error) {
	k.t.Helper()
	if err != nil {
		k.t.Fatal(err)
	}
}

// write is what the kernel does with a write to an attribute.
func (k *Tree) write(path, text string) error {
	rel, err := filepath.Rel(k.Root, path)
	if err != nil {
		return err
	}
	k.Writes = append(k.Writes, strings.TrimPrefix(rel, "sys/bus/pci/")+" = "+strings.TrimSpace(text))
	if k.FailAt > 0 {
		if k.FailAt--; k.FailAt == 0 {
			if k.Late {
				err = k.effect(rel, text)
			}
			return errors.Join(ErrKilled, err)
		}
	}
	return k.effect(rel, text)
}

func (k *Tree) effect(rel, text string) error {
	dir, name := filepath.Split(rel)
	switch {
	case name == "drivers_probe":
		d := k.Device(text)
		if d.Driver == "" && d.Override != "" {
			if _, err := os.Stat(k.path("sys/bus/pci/drivers", d.Override)); err == nil {
				k.bind(text, d.Override)
			}
		}
	case name == "driver_override":
		if text = strings.TrimSpace(text); text == "" {
			text = "(null)"
		}
		k.Put(rel, text+"\n")
	case name == "unbind":
		link := k.path(filepath.Clean(dir))
		if _, err := os.Readlink(link); err != nil {
			return syscall.ENOENT
		}
		return os.Remove(link)
	case name == "bind":
		if k.Device(text).Driver != "" {
			return syscall.EBUSY
		}
		k.bind(text, filepath.Base(filepath.Clean(dir)))
	case name == "enable":
		d := k.Device(filepath.Base(filepath.Clean(dir)))
		if d.Driver != "" {
			return syscall.EBUSY
		}
		b, err := os.ReadFile(k.path(rel))
		k.must(err)
		count, err := strconv.Atoi(strings.TrimSpace(string(b)))
		k.must(err)
		switch {
		case text == "1":
			count++
		case count == 0:
			return syscall.EIO
		default:
			count--
		}
		k.Put(rel, strconv.Itoa(count)+"\n")
	default:
		return fmt.Errorf("%s: %w", rel, syscall.EACCES)
	}
	return nil
}

// bind makes the link, and the group's node where vfio-pci has the device.
func (k *Tree) bind(address, driver string) {
	k.must(os.Symlink("../../../../bus/pci/drivers/"+driver, k.path("sys/bus/pci/devices", address, "driver")))
	if d := k.Device(address); driver == "vfio-pci" && d.Group != "" {
		if _, err := os.Stat(k.path("dev/vfio", d.Group)); err != nil {
			k.Put("dev/vfio/"+d.Group, "")
			k.must(os.Chmod(k.path("dev/vfio", d.Group), 0o600))
		}
	}
}
