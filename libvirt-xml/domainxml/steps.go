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
	if p.err == nil && ourShmem(p.tree.root) == nil {
		p.addShmem(a.ServerPath)
	} else if p.err == nil {
		p.notes = append(p.notes, "the domain has the <shmem> already, not from us: detach will leave it")
	}
	if a.ISO != "" {
		p.addCD(a.ISO)
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
	slot, err := freeSlot(p.tree.root, Slot)
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

// freeSlot returns the wanted slot, or another of the root bus that nobody has:
// neither a device of the document, nor one of QEMU's own (0, 1, 2 and from 0x1a),
// nor one that stands in <qemu:commandline>.
func freeSlot(root *element, want int) (int, error) {
	taken := map[int]bool{}
	for _, device := range root.child("devices").children {
		for _, address := range device.named("address") {
			if slot, ok := rootSlot(address); ok {
				taken[slot] = true
			}
		}
	}
	args := qemuArguments(root)
	const first, slots = 3, 0x1a - 3
	for n := range slots {
		slot := first + (want-first+n)%slots
		inArgs := strings.Contains(args, fmt.Sprintf("addr=%#x", slot)) || strings.Contains(args, fmt.Sprintf("addr=0x%02x", slot)) ||
			strings.Contains(args, fmt.Sprintf("addr=%x", slot))
		if !taken[slot] && !inArgs {
			return slot, nil
		}
	}
	return 0, refuse("move a device to another bus", "no slot of the domain's PCI root bus is free")
}

// addCD puts in an image as a CD, on a SCSI controller of its own: Debian's kernel
// for clouds has no driver for a q35 machine's SATA, all have one for virtio.
// Neither changes the names that the guest has given to its disks.
func (p *patching) addCD(file string) {
	if p.err != nil {
		return
	}
	devices := p.tree.root.child("devices")
	slot, err := freeSlot(p.tree.root, Slot+1)
	if err != nil {
		p.err = err
		return
	}
	index := 0
	for _, c := range devices.named("controller") {
		if c.attr("type") == "scsi" {
			index = max(index, number(c, "index")+1)
		}
	}
	for _, d := range devices.named("disk") { // libvirt makes controllers for disks that name none
		if d.child("target").attr("bus") == "scsi" {
			index = max(index, number(d.child("address"), "controller")+1)
		}
	}
	dev := freeName(diskNames(devices))
	p.add("devices", "controller", fmt.Sprintf("scsi %d", index), behind(scsiController(index, slot), "emulator", "disk", "controller"))
	p.add("devices", "disk", dev, behind(strings.Join([]string{
		"<disk type='file' device='cdrom'>",
		"  <driver name='qemu' type='raw'/>",
		"  <source file='" + escape(file) + "' startupPolicy='optional'>", // the domain starts without it, too
		"    <seclabel model='dac' relabel='no'/>",                        // it stays root's: all gateways run what is on it
		"  </source>",
		"  <target dev='" + dev + "' bus='scsi'/>",
		"  <readonly/>",
		fmt.Sprintf("  <address type='drive' controller='%d' bus='0' target='0' unit='0'/>", index),
		"</disk>"}, "\n"), "emulator", "disk"))
}

func scsiController(index, slot int) string {
	return fmt.Sprintf("<controller type='scsi' index='%d' model='virtio-scsi'>\n  <address type='pci' domain='0x0000' bus='0x00' slot='0x%02x' function='0x0'/>\n</controller>", index, slot)
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
