package main

import (
	"github.com/urfave/cli/v2"

	"guardring/libvirt-xml/domainxml"
)

// networkFlags say which networks a gateway is in.
func networkFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "role", Usage: "what the gateway is for", DefaultText: "its name"},
		&cli.StringFlag{Name: "external-network", Usage: "libvirt `NETWORK` to the Internet (Whonix: Whonix-External)", DefaultText: "guardring-external"},
		&cli.StringFlag{Name: "internal-network", Usage: "libvirt `NETWORK` of the workstations (Whonix: Whonix-Internal)", DefaultText: "guardring-ROLE"},
		&cli.StringFlag{Name: "user-network", Usage: "`NETWORK` of QEMU itself instead of the external one, such as 192.168.71.0/24"},
	}
}

// gatewayFlags say what a new gateway is.
func gatewayFlags() []cli.Flag {
	return append(networkFlags(),
		&cli.StringFlag{Name: "disk", Usage: "the gateway's disk image `FILE`"},
		&cli.StringFlag{Name: "disk-format", Usage: "qcow2 or raw", DefaultText: "qcow2"},
		&cli.UintFlag{Name: "memory", Usage: "in `MIB`", DefaultText: "512"},
		&cli.UintFlag{Name: "vcpus", Usage: "virtual CPUs", DefaultText: "1"},
		&cli.StringFlag{Name: "type", Usage: "kvm, or qemu: emulated and slow", DefaultText: "kvm; create: qemu where libvirt has no KVM"},
		&cli.StringFlag{Name: "machine", Usage: "q35, or a version of it"},
		&cli.StringFlag{Name: "firmware", Usage: "bios or efi", DefaultText: "bios"},
		&cli.StringFlag{Name: "title", Usage: "one line for people"},
		&cli.StringFlag{Name: "emulator", Usage: "`PATH` of QEMU", DefaultText: "libvirt's choice"},
		&cli.StringFlag{Name: "kernel", Usage: "boot this `FILE` directly"},
		&cli.StringFlag{Name: "initrd", Usage: "`FILE`, with --kernel"},
		&cli.StringFlag{Name: "cmdline", Usage: "`TEXT`, with --kernel"})
}

// gatewayFrom reads gatewayFlags; what is not given keeps its zero value.
func gatewayFrom(c *cli.Context, name string) domainxml.Gateway {
	return domainxml.Gateway{
		Name: name, Title: c.String("title"), Role: c.String("role"), Type: c.String("type"), Machine: c.String("machine"),
		MemoryMiB: c.Uint("memory"), VCPUs: c.Uint("vcpus"), Emulator: c.String("emulator"), Firmware: c.String("firmware"),
		Disk: c.String("disk"), DiskFormat: c.String("disk-format"), Kernel: c.String("kernel"), Initrd: c.String("initrd"), Cmdline: c.String("cmdline"),
		UserNetwork: c.String("user-network"), ExternalNetwork: c.String("external-network"), InternalNetwork: c.String("internal-network"),
	}
}
