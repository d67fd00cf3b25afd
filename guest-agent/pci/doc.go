// Package pci reads and changes what Linux says of PCI devices in sysfs: which
// are there, their BARs, driver, IOMMU group, driver_override, enable (kernel,
// Documentation/ABI/testing/sysfs-bus-pci). It knows nothing of guardring.
//
// Everything lies below a root, "/" in production, so that tests use a made-up
// tree. Changing anything needs root.
//
// Trust: sysfs is the kernel's. Its numbers are checked all the same, for the
// device behind them is made by a hypervisor.
package pci
