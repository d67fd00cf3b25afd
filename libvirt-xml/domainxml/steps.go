package domainxml

import (
	"fmt"
	"strings"
)

// Children that libvirt writes later than ours; so an administrator sees the same
// order in our difference and in libvirt's document afterwards.
var (
	afterShmem  = []string{"memory", "iommu", "vsock", "crypto", "pstore"}
	afterIOMMU  = []string{"vsock", "crypto", "pstore"}
	afterIOAPIC = []string{"hpt", "vmcoreinfo", "htm", "nested-hv", "msrs", "ccf-assist", "xen", "cfpc", "sbbc", "ibs", "tcg", "async-teardown", "ras", "ps2", "aia"}
	beforeMeta  = []string{"name", "uuid", "hwuuid", "genid", "title", "description"}
)

// steps makes of an admissible document one with the device.
func (a Attachment) steps(p *patching) {
	root := p.tree.root
	if a.Convert && chipsetOf(root.at("os/type").attr("machine")) == I440FX {
		p.convert()
	}
	if p.err == nil && chipsetOf(p.tree.root.at("os/type").attr("machine")) == Q35 && !a.Polling {
		p.addIOMMU()
	}
	if a.ISO != "" {
		p.addCD(a.ISO)
	}
	if p.err == nil && ourShmem(p.tree.root) == nil {
		p.addShmem(a.ServerPath)
	} else if p.err == nil {
		p.notes = append(p.notes, "the domain has the <shmem> already, not from us: detach will leave it")
	}
	p.addRecord()
}

func (p *patching) addIOMMU() {
	root := p.tree.root
	if root.at("features/ioapic") == nil {
		p.add("features", "ioapic", "", last("<ioapic driver='qemu'/>", afterIOAPIC...))
	} else {
		p.set("features/ioapic", "driver", "qemu")
	}
	switch iommu := root.at("devices/iommu"); {
	case iommu == nil:
		p.add("devices", "iommu", "", last("<iommu model='intel'>\n  <driver intremap='on' caching_mode='on'/>\n</iommu>", afterIOMMU...))
	case iommu.child("driver") == nil:
		p.add("devices/iommu", "driver", "", behind("<driver intremap='on' caching_mode='on'/>"))
	default:
		p.set("devices/iommu/driver", "intremap", "on")
	}
	if root.at("devices/hostdev") != nil {
		p.notes = append(p.notes, "host devices are passed through to the domain: with an IOMMU in the guest they may be slower")
	}
}

func (p *patching) addShmem(server string) {
	slot, err := freeSlot(p.tree.root)
	if err != nil {
		p.err = err
		return
	}
	if slot != Slot {
		p.notes = append(p.notes, fmt.Sprintf("PCI slot %#x is taken: the device gets slot %#x", Slot, slot))
	}
	p.add("devices", "shmem", ShmemName, last(strings.Join([]string{
		"<shmem name='" + ShmemName + "'>",
		"  <model type='ivshmem-doorbell'/>",
		"  <server path='" + escape(server) + "'/>",
		fmt.Sprintf("  <msi vectors='%d' ioeventfd='on'/>", Vectors),
		fmt.Sprintf("  <address type='pci' domain='0x0000' bus='0x00' slot='0x%02x' function='0x0'/>", slot),
		"</shmem>"}, "\n"), afterShmem...))
}

// freeSlot returns Slot, or another of the root bus that nobody has: neither a
// device of the document, nor one of QEMU's own (0, 1, 2 and from 0x1a), nor one
// that stands in <qemu:commandline>.
func freeSlot(root *element) (int, error) {
	taken := map[int]bool{}
	for _, device := range root.child("devices").children {
		for _, address := range device.named("address") {
			if slot, ok := rootSlot(address); ok {
				taken[slot] = true
			}
		}
	}
	args := qemuArguments(root)
	for n := range 0x17 {
		slot := Slot + n
		if slot >= 0x1a {
			slot = Slot - 1 - (slot - 0x1a)
		}
		inArgs := strings.Contains(args, fmt.Sprintf("addr=%#x", slot)) || strings.Contains(args, fmt.Sprintf("addr=0x%02x", slot)) ||
			strings.Contains(args, fmt.Sprintf("addr=%x", slot))
		if !taken[slot] && !inArgs {
			return slot, nil
		}
	}
	return 0, refuse("move a device to another bus", "no slot of the domain's PCI root bus is free")
}

// addCD puts in an image as a CD, at a place of its own.
func (p *patching) addCD(file string) {
	root := p.tree.root
	bus, prefix, places := "sata", "sd", 6
	if chipsetOf(root.at("os/type").attr("machine")) == I440FX {
		bus, prefix, places = "ide", "hd", 4
	}
	disks := root.child("devices").named("disk")
	for n := range places {
		dev := prefix + string(rune('a'+n))
		controllerBus, unit := 0, n
		if bus == "ide" {
			controllerBus, unit = n/2, n%2
		}
		free := true
		for _, d := range disks {
			target, address := d.child("target"), d.child("address")
			free = free && target.attr("dev") != dev && !(target.attr("bus") == bus && address.attr("type") == "drive" &&
				number(address, "controller") == 0 && number(address, "bus") == controllerBus && number(address, "unit") == unit)
		}
		if !free {
			continue
		}
		// libvirt makes an IDE controller for a disk, and would leave it there.
		if bus == "ide" && p.controller("ide") == nil && !onBus(disks, "ide") {
			p.add("devices", "controller", "ide 0", behind("<controller type='ide' index='0'/>", "emulator", "disk", "controller"))
		}
		p.add("devices", "disk", dev, behind(strings.Join([]string{
			"<disk type='file' device='cdrom'>",
			"  <driver name='qemu' type='raw'/>",
			"  <source file='" + escape(file) + "'/>",
			"  <target dev='" + dev + "' bus='" + bus + "'/>",
			"  <readonly/>",
			fmt.Sprintf("  <address type='drive' controller='0' bus='%d' target='0' unit='%d'/>", controllerBus, unit),
			"</disk>"}, "\n"), "emulator", "disk"))
		return
	}
	p.err = refuse("attach without the image, and bring the agent into the guest another way", "the domain has no place left for a CD on its %s bus", bus)
}

func (p *patching) controller(kind string) *element {
	for _, c := range p.tree.root.child("devices").named("controller") {
		if c.attr("type") == kind {
			return c
		}
	}
	return nil
}

func onBus(disks []*element, bus string) bool {
	for _, d := range disks {
		if d.child("target").attr("bus") == bus {
			return true
		}
	}
	return false
}

// addRecord writes what was done into the metadata.
func (p *patching) addRecord() {
	if p.err != nil {
		return
	}
	var text string
	switch meta := p.tree.root.child("metadata"); {
	case meta == nil:
		p.rec.steps = append(p.rec.steps, step{kind: added, path: "metadata"})
		text, _ = p.tree.insertAfterAny(p.tree.root, "<metadata>\n  "+indent(p.rec.markup(), "\n  ")+"\n</metadata>", beforeMeta...)
	case meta.isEmpty():
		p.rec.steps = append(p.rec.steps, step{kind: opened, path: "metadata"})
		text, _ = p.tree.insertLast(meta, p.rec.markup())
	default:
		text, _ = p.tree.insertLast(meta, p.rec.markup())
	}
	t, err := parse(text, "domain")
	if err != nil {
		p.err = fmt.Errorf("write the record: %w", err)
		return
	}
	p.tree = t
}
