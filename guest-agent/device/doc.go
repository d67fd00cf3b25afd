// Package device gives the agent its place in a gateway's region: the memory,
// its own seat, doorbells to the other seats and its own doorbell. There are
// three ways to it, and Open chooses:
//
//	VFIO    the ivshmem-doorbell PCI device through vfio-pci: doorbells both ways;
//	        needs an IOMMU in the VM
//	Poll    the same device through sysfs: we can ring, but not be rung
//	Socket  the ivshmem server's socket, as QEMU takes it: without a VM
//
// The PCI device is made ready by Prepare, as root; using it needs no root then.
// Restore undoes that.
//
// The package also shares out the lock's writer slots among the agents of one
// gateway, with flock(2), so that a slot's former agent is known to be gone.
//
// References: QEMU docs/specs/ivshmem-spec (registers), Linux
// Documentation/driver-api/vfio.rst and include/uapi/linux/vfio.h.
//
// Trust: the server is the host's, which the guest trusts; what is in the memory
// is checked by shmproto. A PCI device may be another program's: it is used only
// when revision, BARs, our own seat and the region's header are as they must be,
// and nothing is ever written to it before. The runtime directory belongs to the
// agent's user, the state file to root.
package device
