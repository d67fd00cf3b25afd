package domainxml

import (
	"path"
	"strings"
)

// qemuNamespace is libvirt's for arguments that it passes to QEMU unread.
const qemuNamespace = "http://libvirt.org/schemas/domain/qemu/1.0"

// admissible names everything in the way of attaching.
func (a Attachment) admissible(root *element) error {
	var faults []error
	no := func(remedy, format string, args ...any) { faults = append(faults, refuse(remedy, format, args...)) }
	f := factsOf(root, nil)
	secure, args := secureBoot(root), qemuArguments(root)
	virtual := (f.Chipset == Q35 || a.Convert) && !a.Polling // an IOMMU is wanted

	if _, live := root.lookAttr("id"); live {
		no("virsh dumpxml --inactive DOMAIN prints the one that is kept", "the document is a running domain's")
	}
	if !validUUID(f.UUID) {
		no("define the domain first, then use what virsh dumpxml --inactive prints", "the domain has no <uuid>, by which the server knows who takes the gateway's seat")
	}
	if f.Type != "kvm" && f.Type != "qemu" {
		no("gateways run in QEMU", "the domain's type is %q", f.Type)
	}
	if f.Arch != "" && f.Arch != "x86_64" && f.Arch != "i686" {
		no("gateways run on x86_64", "the domain's architecture is %q", f.Arch)
	}
	if os := root.at("os/type").content(); os != "hvm" {
		no("gateways are full virtual machines: <type>hvm</type>", "the domain's <os><type> is %q", os)
	}
	if root.child("devices") == nil {
		no("is it a whole document?", "the domain has no <devices>")
	}
	if f.Chipset == Other {
		no("use a q35 machine", "a machine %q cannot have the device", f.Machine)
	}
	if e := root.child("launchSecurity"); e != nil {
		no("use a domain without <launchSecurity>", "the domain's memory is encrypted (%s): nobody has tried the device there", e.attr("type"))
	}
	if secure && !virtual {
		no("use a q35 machine with an IOMMU, or turn secure boot off", "the domain boots with secure boot: its kernel lets no agent poll the device")
	}
	if virtual && root.at("features/acpi") == nil {
		no("add <acpi/> to <features>, or attach with polling", "the domain has no ACPI: its kernel would not find the IOMMU")
	}
	for _, e := range root.child("devices").named("iommu") {
		if model := e.attr("model"); virtual && model != "intel" {
			no("remove it or make it model='intel', or attach with polling", "the domain has an IOMMU of model %q: Debian's kernels take no interrupts of the device through it", model)
		}
	}
	if virtual && strings.Contains(args, "-iommu") {
		no("remove it there, or attach with polling", "the domain has an IOMMU in <qemu:commandline>")
	}
	faults = append(faults, a.shmemFaults(root)...)
	if a.Convert && f.Chipset == I440FX {
		faults = append(faults, convertFaults(root, args)...)
	}
	return joined(faults)
}

// shmemFaults names devices that are ours, or on guardring's sockets, already.
func (a Attachment) shmemFaults(root *element) []error {
	var faults []error
	for _, e := range root.child("devices").named("shmem") {
		server := e.child("server").attr("path")
		doorbell := e.child("model").attr("type") == "ivshmem-doorbell"
		switch {
		case e.attr("name") == ShmemName && doorbell && server == a.ServerPath:
			// Somebody wrote it by hand. It stays theirs: detach leaves it.
		case e.attr("name") == ShmemName:
			faults = append(faults, refuse("detach that gateway, or remove the <shmem>", "the domain has a <shmem name='%s'> already, at the socket %q", ShmemName, server))
		case server != "" && path.Dir(server) == path.Dir(a.ServerPath):
			faults = append(faults, refuse("remove that <shmem>: a domain is one gateway", "the domain's <shmem name='%s'> is at a gateway's socket already, %q", e.attr("name"), server))
		}
	}
	return faults
}

// secureBoot reports whether the guest's kernel will be locked down.
func secureBoot(root *element) bool {
	if root.at("os/loader").attr("secure") == "yes" {
		return true
	}
	for _, f := range root.at("os/firmware").named("feature") {
		if f.attr("name") == "secure-boot" && f.attr("enabled") == "yes" {
			return true
		}
	}
	return false
}

// qemuArguments are what <qemu:commandline> passes to QEMU, a line each.
func qemuArguments(root *element) string {
	var b strings.Builder
	for _, c := range root.children {
		if c.name.Space != qemuNamespace || c.name.Local != "commandline" {
			continue
		}
		for _, arg := range c.children {
			if arg.name.Local == "arg" {
				b.WriteString(arg.attr("value") + "\n")
			}
		}
	}
	return b.String()
}
