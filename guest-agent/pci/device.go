package pci

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// BARs is how many base address registers a device has.
const BARs = 6

// Device is what sysfs says of one device at one moment.
type Device struct {
	Address  string // domain:bus:slot.function, for instance 0000:00:10.0
	Vendor   uint16
	ID       uint16
	Revision uint8
	Size     [BARs]uint64 // of each BAR in bytes; 0: none
	Driver   string       // bound to it; "" for none
	Override string       // driver_override; "" for none
	Group    string       // IOMMU group's number; "" for none
	Enabled  bool         // its memory answers
}

// Bus is the PCI bus of a machine. The zero value is that of this one.
type Bus struct {
	Root string // "" is "/"
	// Write writes a sysfs attribute. nil: with one write(2), as sysfs wants it; a
	// test puts in what the kernel does then.
	Write func(path, text string) error
}

// ErrNoBus: this machine has no PCI bus, or hides it from us.
var ErrNoBus = errors.New("no PCI bus in sysfs")

var addressRule = regexp.MustCompile(`^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-1][0-9a-f]\.[0-7]$`)

// ValidAddress reports whether s is a device's address with its domain, as sysfs
// has it.
func ValidAddress(s string) bool { return addressRule.MatchString(s) }

var driverRule = regexp.MustCompile(`^[0-9A-Za-z_][0-9A-Za-z_-]*$`)

// ValidDriver reports whether s can be a driver's name, and so one element of a path.
func ValidDriver(s string) bool { return driverRule.MatchString(s) }

// Path is the path below the bus's root.
func (b Bus) Path(elem ...string) string {
	return filepath.Join(append([]string{"/" + b.Root}, elem...)...)
}

// Dir is the device's folder.
func (b Bus) Dir(address string) string { return b.Path("sys/bus/pci/devices", address) }

// Find returns the devices with the vendor and ID, by address. None is no error.
// ErrNoBus (wrapped): there is no bus to look at.
func (b Bus) Find(vendor, id uint16) ([]Device, error) {
	entries, err := os.ReadDir(b.Path("sys/bus/pci/devices"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: %w", ErrNoBus, err)
	case err != nil:
		return nil, fmt.Errorf("look for PCI devices: %w", err)
	}
	var found []Device
	for _, e := range entries {
		if !ValidAddress(e.Name()) {
			continue
		}
		v, err := b.number(e.Name(), "vendor", 16)
		if err != nil {
			return nil, err
		}
		d, err := b.number(e.Name(), "device", 16)
		if err != nil {
			return nil, err
		}
		if uint16(v) != vendor || uint16(d) != id {
			continue
		}
		dev, err := b.Device(e.Name())
		if err != nil {
			return nil, err
		}
		found = append(found, dev)
	}
	slices.SortFunc(found, func(a, b Device) int { return strings.Compare(a.Address, b.Address) })
	return found, nil
}

// Device reads one device. fs.ErrNotExist (wrapped): there is none.
func (b Bus) Device(address string) (Device, error) {
	d := Device{Address: address}
	if !ValidAddress(address) {
		return d, fmt.Errorf("PCI device %q: no address like 0000:00:10.0", address)
	}
	if _, err := os.Stat(b.Dir(address)); err != nil {
		return d, fmt.Errorf("PCI device %s: %w", address, err)
	}
	for _, n := range []struct {
		name string
		bits int
		to   func(uint64)
	}{
		{"vendor", 16, func(v uint64) { d.Vendor = uint16(v) }},
		{"device", 16, func(v uint64) { d.ID = uint16(v) }},
		{"revision", 8, func(v uint64) { d.Revision = uint8(v) }},
		{"enable", 32, func(v uint64) { d.Enabled = v > 0 }},
	} {
		v, err := b.number(address, n.name, n.bits)
		if err != nil {
			return d, err
		}
		n.to(v)
	}
	var err error
	if d.Size, err = b.sizes(address); err != nil {
		return d, err
	}
	if d.Driver, err = b.link(address, "driver"); err != nil {
		return d, err
	}
	if d.Group, err = b.link(address, "iommu_group"); err != nil {
		return d, err
	}
	text, err := b.read(address, "driver_override")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return d, err
	}
	if text != "(null)" { // how the kernel prints none
		d.Override = text
	}
	return d, nil
}

// sizes reads the attribute resource: a line "start end flags" for each BAR.
func (b Bus) sizes(address string) (sizes [BARs]uint64, err error) {
	text, err := b.read(address, "resource")
	if err != nil {
		return sizes, err
	}
	lines := strings.Split(text, "\n")
	if len(lines) < BARs {
		return sizes, fmt.Errorf("PCI device %s: %d lines in its attribute resource, want at least %d", address, len(lines), BARs)
	}
	for i := range sizes {
		var start, end, flags uint64
		if _, err := fmt.Sscanf(lines[i], "0x%x 0x%x 0x%x", &start, &end, &flags); err != nil {
			return sizes, fmt.Errorf("PCI device %s: BAR%d is %q: %w", address, i, lines[i], err)
		}
		if end > start {
			sizes[i] = end - start + 1
		}
	}
	return sizes, nil
}

// Members returns the addresses of the devices in an IOMMU group.
func (b Bus) Members(group string) ([]string, error) {
	entries, err := os.ReadDir(b.Path("sys/kernel/iommu_groups", group, "devices"))
	if err != nil {
		return nil, fmt.Errorf("IOMMU group %s: %w", group, err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.Sort(names)
	return names, nil
}

// HasDriver reports whether the kernel has a PCI driver of that name now.
func (b Bus) HasDriver(name string) bool {
	_, err := os.Stat(b.Path("sys/bus/pci/drivers", name))
	return err == nil
}

// HasModule reports whether a module is loaded, or built in with something to show.
func (b Bus) HasModule(name string) bool {
	_, err := os.Stat(b.Path("sys/module", strings.ReplaceAll(name, "-", "_")))
	return err == nil
}

func (b Bus) read(address, name string) (string, error) {
	text, err := os.ReadFile(filepath.Join(b.Dir(address), name))
	if err != nil {
		return "", fmt.Errorf("PCI device %s: %w", address, err)
	}
	return strings.TrimSpace(string(text)), nil
}

func (b Bus) number(address, name string, bits int) (uint64, error) {
	text, err := b.read(address, name)
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseUint(text, 0, bits)
	if err != nil {
		return 0, fmt.Errorf("PCI device %s: attribute %s: %w", address, name, err)
	}
	return v, nil
}

// link returns the last element of a link's target, "" if there is no link.
func (b Bus) link(address, name string) (string, error) {
	target, err := os.Readlink(filepath.Join(b.Dir(address), name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("PCI device %s: %w", address, err)
	}
	return filepath.Base(target), nil
}
