package domainxml

import (
	"strconv"
	"strings"
)

// Chipset is the machine that QEMU shows the guest, as far as it matters here.
type Chipset string

// The chipsets: with Q35 there can be an IOMMU, so the guest can be interrupted;
// with I440FX it can only poll; Other cannot have our device.
const (
	Q35    Chipset = "q35"
	I440FX Chipset = "i440fx"
	Other  Chipset = "other"
)

// chipsetOf reads a machine type; "" is libvirt's own default for x86.
func chipsetOf(machine string) Chipset {
	switch {
	case machine == "q35" || strings.HasPrefix(machine, "pc-q35-"):
		return Q35
	case machine == "" || machine == "pc" || strings.HasPrefix(machine, "pc-i440fx-") || strings.HasPrefix(machine, "pc-1.") || strings.HasPrefix(machine, "pc-0."):
		return I440FX
	}
	return Other
}

// Facts are what matters to us in a domain's document.
type Facts struct {
	Name    string
	UUID    string // "" in documents that libvirt has not seen
	GenID   string // "" if none
	Title   string
	Type    string // kvm, qemu, ...
	Arch    string // "" if the document leaves it to libvirt
	Machine string // "" likewise
	Chipset Chipset

	Gateway   string // the gateway's name, if the domain is one (by create or attach)
	Created   bool   // made by create, so not for Unpatch
	Role      string // with Created
	Converted bool   // attach has made a q35 machine of it

	HasShmem   bool   // a device of our name is there
	ShmemModel string // its model; ours is ivshmem-doorbell
	ServerPath string // its socket
	Vectors    int    // its interrupt vectors
	Slot       int    // its slot on the root bus; -1 if unknown

	IOMMU      string // model of the first IOMMU, "" if there is none
	Intremap   bool   // it remaps interrupts
	SplitIRQ   bool   // the I/O APIC is QEMU's, without which an intel IOMMU cannot
	ACPI       bool
	Interrupts bool // all of that is such that the guest can be interrupted

	Disks    []string // files of its disks, without CDs and floppies
	CDs      []string // files in its CD drives
	Networks []string // libvirt networks of its interfaces, in order
	Emulator string
}

// Inspect reads a domain's document. Errors are a Refusal.
func Inspect(text string) (Facts, error) {
	t, err := parse(text, "domain")
	if err != nil {
		return Facts{}, err
	}
	rec, _, err := recordOf(t.root)
	if err != nil {
		return Facts{}, err
	}
	return factsOf(t.root, rec), nil
}

func factsOf(root *element, rec *record) Facts {
	kind := root.at("os/type")
	f := Facts{
		Name: root.child("name").content(), UUID: root.child("uuid").content(), GenID: root.child("genid").content(),
		Type: root.attr("type"), Arch: kind.attr("arch"), Machine: kind.attr("machine"), Slot: -1, Title: root.child("title").content(),
		Emulator: root.at("devices/emulator").content(),
	}
	f.Chipset = chipsetOf(f.Machine)
	if rec != nil {
		f.Gateway, f.Role, f.Created = rec.name, rec.role, rec.by == byCreate
		f.Converted = rec.converted()
	}
	if e := ourShmem(root); e != nil {
		f.HasShmem, f.ServerPath = true, e.child("server").attr("path")
		f.ShmemModel, f.Vectors = e.child("model").attr("type"), number(e.child("msi"), "vectors")
		if slot, ok := rootSlot(e.child("address")); ok {
			f.Slot = slot
		}
	}
	iommu := root.at("devices/iommu")
	f.IOMMU, f.Intremap = iommu.attr("model"), iommu.child("driver").attr("intremap") == "on"
	f.SplitIRQ, f.ACPI = root.at("features/ioapic").attr("driver") == "qemu", root.at("features/acpi") != nil
	f.Interrupts = f.Chipset == Q35 && f.IOMMU == "intel" && f.Intremap && f.SplitIRQ && f.ACPI
	for _, d := range root.child("devices").named("disk") {
		file := d.child("source").attr("file")
		switch kind := d.attr("device"); {
		case file == "":
		case kind == "cdrom":
			f.CDs = append(f.CDs, file)
		case kind == "" || kind == "disk":
			f.Disks = append(f.Disks, file)
		}
	}
	for _, i := range root.child("devices").named("interface") {
		if n := i.child("source").attr("network"); n != "" {
			f.Networks = append(f.Networks, n)
		}
	}
	return f
}

// ourShmem is the device with our name, nil if there is none.
func ourShmem(root *element) *element {
	for _, e := range root.child("devices").named("shmem") {
		if e.attr("name") == ShmemName {
			return e
		}
	}
	return nil
}

// rootSlot is the slot of a PCI address on the root bus.
func rootSlot(address *element) (slot int, ok bool) {
	if address.attr("type") != "pci" || number(address, "domain") != 0 || number(address, "bus") != 0 {
		return 0, false
	}
	slot = number(address, "slot")
	return slot, slot >= 0
}

// number reads an attribute as libvirt does, decimal or 0x and hexadecimal; 0 if
// it is not there, -1 if it is no such number.
func number(e *element, name string) int {
	text, ok := e.lookAttr(name)
	if !ok {
		return 0
	}
	n, err := strconv.ParseUint(strings.TrimSpace(text), 0, 16)
	if err != nil {
		return -1
	}
	return int(n)
}
