package device

// What we use of include/uapi/linux/vfio.h. Requests are _IO(';', 100 + n).
const (
	vfioBase = ';'<<8 | 100

	vfioGetAPIVersion     = vfioBase + 0
	vfioCheckExtension    = vfioBase + 1
	vfioSetIOMMU          = vfioBase + 2
	vfioGroupGetStatus    = vfioBase + 3
	vfioGroupSetContainer = vfioBase + 4
	vfioGroupGetDeviceFD  = vfioBase + 6
	vfioGetRegionInfo     = vfioBase + 8
	vfioGetIRQInfo        = vfioBase + 9
	vfioSetIRQs           = vfioBase + 10

	vfioAPIVersion = 0
	vfioType1      = 1

	groupViable = 1 << 0

	regionRead  = 1 << 0
	regionWrite = 1 << 1
	regionMmap  = 1 << 2

	irqDataEventfd   = 1 << 2
	irqActionTrigger = 1 << 5

	// Indexes of a PCI device's regions and interrupts.
	regionConfig = 7
	irqMSIX      = 2
)

// The sizes of the structures with which the kernel is asked. Each begins with its
// size and flags, 32 bits each.
const (
	groupStatusSize = 8
	regionInfoSize  = 32 // size, flags, index, capabilities; 64 bits each: size, offset
	irqInfoSize     = 16 // size, flags, index, count
	irqSetSize      = 20 // size, flags, index, start, count; then a descriptor each
)

// PCI configuration space.
const (
	configCommand  = 4
	commandMemory  = 1 << 1
	commandBusMast = 1 << 2
)
