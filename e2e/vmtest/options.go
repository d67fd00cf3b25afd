package vmtest

import (
	"fmt"
	"time"
)

// Options describe one guest.
type Options struct {
	// Name is its host name and directory; short.
	Name string
	// Region is the ivshmem server's socket; "" leaves the device out.
	Region string
	// Machine is q35 or pc; "" is q35.
	Machine string
	// IOMMU adds an emulated Intel IOMMU with interrupt remapping, which VFIO needs. Not with pc.
	IOMMU bool
	// MemoryMiB is 160 when zero, Processors 1.
	MemoryMiB, Processors int
	// System has the guest boot a system of its own instead of the kit's; then Files, Keep and Network's addresses are not set up in it.
	System *System
	// Files are added to what the kit gives every guest, and replace it.
	Files []File
	// Resume is a snapshot in a disk of QEMU's options: the guest goes on from there and does not boot. It is one of a guest with the same
	// options, Region and Forward aside: what is in Region is found by a new look at the PCI bus.
	Resume string
	// Network is a network card behind QEMU's user-mode network; nil for none.
	Network *Network
	// Keep are folders of the guest that outlive its machine: they lie on a disk, and begin as Files have them.
	Keep []string
	// Ports are virtio-serial ports, /dev/virtio-ports/NAME in the guest, that lead into files of the guest's Dir with the same names.
	Ports []string
	// CommandLine and QEMU are more options of the kernel and of QEMU.
	CommandLine string
	QEMU        []string
	// Hypervisor starts the machine; nil: QEMU is started as the fields above say.
	Hypervisor Hypervisor
}

// System is a kernel and an initramfs that start a whole system from disks that Options.QEMU gives it. It must run Kit.Inside, which
// takes commands, once the port /dev/virtio-ports/org.guardring.errand is there.
type System struct {
	Kernel, Initrd string
	// StartLimit bounds the time until it takes commands.
	StartLimit time.Duration
}

// Network is a network card whose traffic QEMU passes on as connections of its own, from this process's network namespace. Guest
// and router have the addresses 192.168.(70+Number).15 and .2.
type Network struct {
	// Number is from 0 to 99, different for guests that run at the same time.
	Number int
	// Forward are TCP ports on this side's 127.0.0.1 that lead into the guest.
	Forward []Forward
}

// Forward leads from a port here to one in the guest.
type Forward struct{ Host, Guest int }

func (n *Network) prefix() string { return fmt.Sprintf("192.168.%d", 70+n.Number) }
