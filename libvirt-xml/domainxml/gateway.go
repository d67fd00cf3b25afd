package domainxml

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"libvirt.org/go/libvirtxml"

	"guardring/shmproto"
)

// ShmemName is the name of our shared memory device in a domain.
const ShmemName = "guardring"

// Slot is the PCI slot, on the root bus, that our device gets where it is free.
const Slot = 0x10

// Vectors is the number of interrupt vectors that the server has for each peer.
const Vectors = 2

// Gateway is what a new gateway's domain is made from. The zero value of a field
// means its default, where one is named.
type Gateway struct {
	Name        string // of the gateway and of its domain (shmproto.ValidName)
	UUID        string // of the domain, as libvirt writes it; the server checks it, so libvirt must not choose it
	GenID       string // generation ID; the domain's UUID if ""
	Title       string // one line for people; "" for none
	Role        string // what the gateway is for (shmproto.ValidName); the name if ""
	Type        string // kvm (default) or qemu
	Machine     string // q35 (default) or a versioned q35
	MemoryMiB   uint   // 512 if 0; at least 128
	VCPUs       uint   // 1 if 0
	Emulator    string // path of QEMU; libvirt's choice if ""
	Firmware    string // bios (default) or efi, by libvirt's choice of image
	Disk        string // path of the gateway's image; may be "" only if Kernel is given
	DiskFormat  string // qcow2 (default) or raw
	ISO         string // path of an image that is put in as a CD; "" for none
	Kernel      string // path for direct boot; "" for none
	Initrd      string // with Kernel
	Cmdline     string // with Kernel
	ServerPath  string // the gateway's socket of the guardring server; absolute
	UserNetwork string // network of QEMU itself instead of the external one, such as 192.168.71.0/24; "" for none

	ExternalNetwork string // libvirt's network to the Internet; guardring-external if ""
	InternalNetwork string // libvirt's network of the workstations; guardring-ROLE if ""
}

// withDefaults returns the gateway with every default filled in.
func (g Gateway) withDefaults() Gateway {
	fill := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	fill(&g.GenID, g.UUID)
	fill(&g.Role, g.Name)
	fill(&g.Type, "kvm")
	fill(&g.Machine, "q35")
	fill(&g.Firmware, "bios")
	fill(&g.DiskFormat, "qcow2")
	fill(&g.ExternalNetwork, "guardring-external")
	fill(&g.InternalNetwork, "guardring-"+g.Role)
	if g.MemoryMiB == 0 {
		g.MemoryMiB = 512
	}
	if g.VCPUs == 0 {
		g.VCPUs = 1
	}
	return g
}

// validate names every fault of a gateway with its defaults.
func (g Gateway) validate() error {
	var faults []error
	check := func(ok bool, remedy, format string, args ...any) {
		if !ok {
			faults = append(faults, refuse(remedy, format, args...))
		}
	}
	check(shmproto.ValidName(g.Name), "write "+shmproto.NameRule, "gateway name %q", g.Name)
	check(shmproto.ValidName(g.Role), "write "+shmproto.NameRule, "role %q", g.Role)
	for what, id := range map[string]string{"UUID": g.UUID, "generation ID": g.GenID} {
		check(validUUID(id), "write it as 01234567-89ab-cdef-0123-456789abcdef", "%s %q", what, id)
	}
	check(g.Type == "kvm" || g.Type == "qemu", "write kvm, or qemu for a machine without KVM", "domain type %q", g.Type)
	check(chipsetOf(g.Machine) == Q35, "write q35: only there the guest can be interrupted", "machine %q", g.Machine)
	check(g.Firmware == "bios" || g.Firmware == "efi", "write bios or efi", "firmware %q", g.Firmware)
	check(g.DiskFormat == "qcow2" || g.DiskFormat == "raw", "write qcow2 or raw", "disk format %q", g.DiskFormat)
	check(g.MemoryMiB >= 128 && g.MemoryMiB <= 1<<20, "give a gateway 128 MiB or more; 512 is a good value", "memory of %d MiB", g.MemoryMiB)
	check(g.VCPUs <= 255, "a gateway needs one or two", "%d virtual CPUs", g.VCPUs)
	check(g.Disk != "" || g.Kernel != "", "name the gateway's disk image", "no disk")
	check(g.Kernel != "" || g.Initrd+g.Cmdline == "", "name the kernel, too", "initrd or command line without a kernel")
	check(g.ServerPath != "", "it is RUN/gateways/NAME.sock of the server", "no server path")
	for what, path := range map[string]string{"disk": g.Disk, "ISO": g.ISO, "kernel": g.Kernel, "initrd": g.Initrd, "emulator": g.Emulator, "server path": g.ServerPath} {
		check(path == "" || strings.HasPrefix(path, "/"), "begin it with /", "%s %q is not an absolute path", what, path)
	}
	if g.UserNetwork != "" {
		p, err := netip.ParsePrefix(g.UserNetwork)
		check(err == nil && p.Addr().Is4(), "write it as 192.168.71.0/24", "user network %q", g.UserNetwork)
	}
	for what, text := range map[string]string{"title": g.Title, "command line": g.Cmdline, "external network": g.ExternalNetwork, "internal network": g.InternalNetwork,
		"disk": g.Disk, "ISO": g.ISO, "kernel": g.Kernel, "initrd": g.Initrd, "emulator": g.Emulator, "server path": g.ServerPath} {
		check(oneLine(text), "write it without control characters", "%s %q", what, text)
	}
	return joined(faults)
}

// joined sorts faults, because some come from maps.
func joined(faults []error) error {
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(faults...)
}

// Domain returns the gateway as libvirt's document. It is a Refusal, or several
// of them joined, if something cannot be.
func (g Gateway) Domain() (*libvirtxml.Domain, error) {
	g = g.withDefaults()
	if err := g.validate(); err != nil {
		return nil, err
	}
	zero, slot, vectors := uint(0), uint(Slot), uint(Vectors)
	on := func(s string) *libvirtxml.DomainFeatureState { return &libvirtxml.DomainFeatureState{State: s} }
	d := &libvirtxml.Domain{
		Type: g.Type, Name: g.Name, UUID: g.UUID, Title: g.Title,
		GenID:    &libvirtxml.DomainGenID{Value: g.GenID},
		Metadata: &libvirtxml.DomainMetadata{XML: "\n    " + (&record{name: g.Name, role: g.Role, by: byCreate}).markup() + "\n  "},
		// The memory holds keys and guards: not in core dumps, not merged with others'.
		Memory:        &libvirtxml.DomainMemory{Value: g.MemoryMiB, Unit: "MiB", DumpCore: "off"},
		MemoryBacking: &libvirtxml.DomainMemoryBacking{MemoryNosharepages: &libvirtxml.DomainMemoryNosharepages{}},
		VCPU:          &libvirtxml.DomainVCPU{Placement: "static", Value: g.VCPUs},
		OS: &libvirtxml.DomainOS{
			Type:   &libvirtxml.DomainOSType{Arch: "x86_64", Machine: g.Machine, Type: "hvm"},
			Kernel: g.Kernel, Initrd: g.Initrd, Cmdline: g.Cmdline,
		},
		Features: &libvirtxml.DomainFeatureList{
			ACPI: &libvirtxml.DomainFeature{}, APIC: &libvirtxml.DomainFeatureAPIC{},
			PMU: on("off"), VMPort: on("off"),
			// Interrupts through the IOMMU need an I/O APIC in QEMU.
			IOAPIC: &libvirtxml.DomainFeatureIOAPIC{Driver: "qemu"},
		},
		Clock: &libvirtxml.DomainClock{Offset: "utc", Timer: []libvirtxml.DomainTimer{
			{Name: "rtc", TickPolicy: "catchup", Track: "guest"},
			{Name: "pit", Present: "no"},
			{Name: "hpet", Present: "no"},
		}},
		OnPoweroff: "destroy", OnReboot: "restart", OnCrash: "restart",
		PM: &libvirtxml.DomainPM{SuspendToMem: &libvirtxml.DomainPMPolicy{Enabled: "no"}, SuspendToDisk: &libvirtxml.DomainPMPolicy{Enabled: "no"}},
		Devices: &libvirtxml.DomainDeviceList{
			Emulator:    g.Emulator,
			Disks:       g.disks(),
			Controllers: g.controllers(),
			Interfaces:  g.interfaces(),
			Serials:     []libvirtxml.DomainSerial{{Source: pty(), Target: &libvirtxml.DomainSerialTarget{Port: &zero}}},
			Consoles:    []libvirtxml.DomainConsole{{Source: pty(), Target: &libvirtxml.DomainConsoleTarget{Type: "serial", Port: &zero}}},
			MemBalloon:  &libvirtxml.DomainMemBalloon{Model: "none"},
			RNGs: []libvirtxml.DomainRNG{{Model: "virtio", Backend: &libvirtxml.DomainRNGBackend{
				Random: &libvirtxml.DomainRNGBackendRandom{Device: "/dev/urandom"}}}},
			Shmems: []libvirtxml.DomainShmem{{
				Name:   ShmemName,
				Model:  &libvirtxml.DomainShmemModel{Type: "ivshmem-doorbell"},
				Server: &libvirtxml.DomainShmemServer{Path: g.ServerPath},
				MSI:    &libvirtxml.DomainShmemMSI{Vectors: vectors, IOEventFD: "on"},
				Address: &libvirtxml.DomainAddress{PCI: &libvirtxml.DomainAddressPCI{
					Domain: &zero, Bus: &zero, Slot: &slot, Function: &zero}},
			}},
			IOMMUs: []libvirtxml.DomainIOMMU{{Model: "intel", Driver: &libvirtxml.DomainIOMMUDriver{IntRemap: "on", CachingMode: "on"}}},
		},
	}
	if g.Kernel == "" {
		d.OS.BootDevices = []libvirtxml.DomainBootDevice{{Dev: "hd"}}
	}
	if g.Firmware == "efi" {
		d.OS.Firmware = "efi"
	}
	if g.Type == "kvm" {
		d.CPU = &libvirtxml.DomainCPU{Mode: "host-passthrough"}
		d.Features.PVSpinlock = on("on")
		d.Clock.Timer = append(d.Clock.Timer, libvirtxml.DomainTimer{Name: "kvmclock", Present: "yes"})
	}
	return d, nil
}

// XML returns the gateway's document as text, with a line feed at its end.
func (g Gateway) XML() (string, error) {
	d, err := g.Domain()
	if err != nil {
		return "", err
	}
	return document(d, "domain")
}

func (g Gateway) controllers() []libvirtxml.DomainController {
	all := []libvirtxml.DomainController{{Type: "usb", Model: "none"}} // nobody sits at a gateway
	if g.ISO != "" {
		all = append(all, libvirtxml.DomainController{Type: "scsi", Model: "virtio-scsi"}) // see patching.addCD
	}
	return all
}

func (g Gateway) disks() []libvirtxml.DomainDisk {
	var disks []libvirtxml.DomainDisk
	if g.Disk != "" {
		disks = append(disks, libvirtxml.DomainDisk{
			Device: "disk",
			Driver: &libvirtxml.DomainDiskDriver{Name: "qemu", Type: g.DiskFormat},
			Source: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: g.Disk}},
			Target: &libvirtxml.DomainDiskTarget{Dev: "vda", Bus: "virtio"},
		})
	}
	if g.ISO != "" {
		disks = append(disks, libvirtxml.DomainDisk{
			Device:   "cdrom",
			Driver:   &libvirtxml.DomainDiskDriver{Name: "qemu", Type: "raw"},
			Source:   &libvirtxml.DomainDiskSource{File: imageOfRoot(g.ISO), StartupPolicy: "optional"},
			Target:   &libvirtxml.DomainDiskTarget{Dev: "sda", Bus: "scsi"},
			ReadOnly: &libvirtxml.DomainDiskReadOnly{},
		})
	}
	return disks
}

// imageOfRoot keeps libvirt from giving the image to QEMU's user, who could then
// write to what all gateways run.
func imageOfRoot(path string) *libvirtxml.DomainDiskSourceFile {
	return &libvirtxml.DomainDiskSourceFile{File: path, SecLabel: []libvirtxml.DomainDeviceSecLabel{{Model: "dac", Relabel: "no"}}}
}

// interfaces are the external one first, as Whonix-Gateway has them.
func (g Gateway) interfaces() []libvirtxml.DomainInterface {
	link := func(network string) libvirtxml.DomainInterface {
		return libvirtxml.DomainInterface{
			Source: &libvirtxml.DomainInterfaceSource{Network: &libvirtxml.DomainInterfaceSourceNetwork{Network: network}},
			Model:  &libvirtxml.DomainInterfaceModel{Type: "virtio"},
			Driver: &libvirtxml.DomainInterfaceDriver{Name: "qemu"},
		}
	}
	external := link(g.ExternalNetwork)
	// Gateways share the external network, and must not reach each other there.
	external.PortOptions = &libvirtxml.DomainInterfacePortOptions{Isolated: "yes"}
	if g.UserNetwork != "" {
		p := netip.MustParsePrefix(g.UserNetwork) // validate has parsed it
		external = libvirtxml.DomainInterface{
			Source: &libvirtxml.DomainInterfaceSource{User: &libvirtxml.DomainInterfaceSourceUser{}},
			IP:     []libvirtxml.DomainInterfaceIP{{Family: "ipv4", Address: p.Masked().Addr().String(), Prefix: uint(p.Bits())}},
			Model:  &libvirtxml.DomainInterfaceModel{Type: "virtio"},
		}
	}
	return []libvirtxml.DomainInterface{external, link(g.InternalNetwork)}
}

func pty() *libvirtxml.DomainChardevSource {
	return &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}}
}

// document writes a document as people do: <x/> for an empty element, and a line
// feed at the end.
func document(d interface{ Marshal() (string, error) }, root string) (string, error) {
	text, err := d.Marshal()
	if err != nil {
		return "", fmt.Errorf("write the document: %w", err)
	}
	t, err := parse(text, root)
	if err != nil {
		return "", fmt.Errorf("write the document: %w", err)
	}
	var cuts []cut
	t.root.walk(func(e *element) {
		if e.open == e.close && !e.isEmpty() {
			cuts = append(cuts, cut{e.open - 1, e.end, "/>"})
		}
	})
	return t.cutOut(t.root, cuts) + "\n", nil
}
