package device

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"guardring/guest-agent/pci"
	"guardring/internal/eventfd"
	"guardring/internal/hint"
	"guardring/internal/killpoint"
	"guardring/shmproto"
)

const vfioDriver = "vfio-pci"

// errNoRemapping: type 1 refuses an IOMMU that does not keep a device from making
// up interrupts (its option allow_unsafe_interrupts is not ours to set).
var errNoRemapping = errors.New("the IOMMU cannot remap interrupts")

// VFIO is the PCI device through vfio-pci: we ring its register and are rung by
// MSI-X. All of it lives in descriptors, so a killed agent leaves nothing behind
// and its successor takes the device anew.
type VFIO struct {
	container, group int
	device           *os.File // guards its descriptor against a Close meanwhile
	registers        int64    // where BAR0 is in the device's file
	memory           []byte
	bells            []*eventfd.Eventfd // one for each vector
}

func openVFIO(bus pci.Bus, d pci.Device) (*VFIO, error) {
	v := &VFIO{container: -1, group: -1}
	err := v.takeGroup(bus, d.Group)
	if err == nil {
		err = v.takeDevice(d.Address)
	}
	if err == nil {
		err = v.setUp()
	}
	if err != nil {
		_ = v.release()
		return nil, err
	}
	return v, nil
}

// takeGroup opens container and group, and joins them. The kernel lets only one
// process have a group.
func (v *VFIO) takeGroup(bus pci.Bus, group string) error {
	container, path := bus.Path("dev/vfio/vfio"), bus.Path("dev/vfio", group)
	var err error
	if v.container, err = unix.Open(container, unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return hint.Wrap(fmt.Errorf("open %s: %w", container, err), "load the kernel module vfio: "+prepareRemedy)
	}
	killpoint.Here("vfio-container")
	if n, err := ioctl(v.container, vfioGetAPIVersion, 0); err != nil || n != vfioAPIVersion {
		return hint.Wrap(errors.Join(fmt.Errorf("VFIO has version %d, want %d", n, vfioAPIVersion), err), "use a kernel that still has VFIO's version 0, or device: poll")
	}
	if n, err := ioctl(v.container, vfioCheckExtension, vfioType1); err != nil || n == 0 {
		return hint.Wrap(errors.Join(errors.New("VFIO has no driver for this IOMMU (type 1)"), err), "load the kernel module vfio_iommu_type1: "+prepareRemedy)
	}
	v.group, err = unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.EBUSY):
		return hint.Wrap(fmt.Errorf("open %s: %w", path, err), "another process has the device: stop the other agent (guardring-guest status), or whatever else uses vfio-pci")
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM), errors.Is(err, unix.ENOENT):
		return hint.Wrap(fmt.Errorf("open %s: %w", path, err), prepareRemedy+", with the agent's group")
	case err != nil:
		return fmt.Errorf("open %s: %w", path, err)
	}
	killpoint.Here("vfio-group")
	status := sized(groupStatusSize)
	if _, err := ioctlBytes(v.group, vfioGroupGetStatus, status); err != nil {
		return fmt.Errorf("ask for the state of IOMMU group %s: %w", group, err)
	}
	if word(status, 1)&groupViable == 0 {
		return hint.Errorf("give the device a PCI slot of its own in the domain's XML (bus 0), so that its group holds nothing else", "IOMMU group %s is shared with devices that other drivers have", group)
	}
	fd := binary.NativeEndian.AppendUint32(nil, uint32(v.container))
	if _, err := ioctlBytes(v.group, vfioGroupSetContainer, fd); err != nil {
		return fmt.Errorf("put IOMMU group %s into a container: %w", group, err)
	}
	killpoint.Here("vfio-joined")
	if _, err := ioctl(v.container, vfioSetIOMMU, vfioType1); err != nil {
		if errors.Is(err, unix.EPERM) {
			return hint.Wrap(fmt.Errorf("switch the IOMMU on for group %s: %w: %w", group, errNoRemapping, err), iommuRemedy+"; or device: poll")
		}
		return fmt.Errorf("switch the IOMMU on for group %s: %w", group, err)
	}
	killpoint.Here("vfio-iommu")
	return nil
}

func (v *VFIO) takeDevice(address string) error {
	fd, err := ioctlBytes(v.group, vfioGroupGetDeviceFD, append([]byte(address), 0))
	if err != nil {
		return fmt.Errorf("open the device: %w", err)
	}
	unix.CloseOnExec(fd)
	v.device = os.NewFile(uintptr(fd), "vfio:"+address)
	killpoint.Here("vfio-device")
	return nil
}

// setUp makes memory and interrupts work: first the memory, so that nothing else
// is done to a device that is not ours.
func (v *VFIO) setUp() error {
	config, _, err := v.region(regionConfig, configCommand+2, regionRead|regionWrite)
	if err != nil {
		return err
	}
	if v.registers, _, err = v.region(barRegisters, registersSize, regionRead|regionWrite); err != nil {
		return err
	}
	memory, size, err := v.region(barMemory, shmproto.RegionSize, regionMmap)
	if err != nil {
		return err
	}
	// VFIO leaves the command register to us. Without memory no BAR answers;
	// without bus master everything looks well and no interrupt ever comes.
	var command [2]byte
	if _, err := v.device.ReadAt(command[:], config+configCommand); err != nil {
		return fmt.Errorf("read the command register: %w", err)
	}
	binary.LittleEndian.PutUint16(command[:], binary.LittleEndian.Uint16(command[:])|commandMemory|commandBusMast)
	if _, err := v.device.WriteAt(command[:], config+configCommand); err != nil {
		return fmt.Errorf("write the command register: %w", err)
	}
	killpoint.Here("vfio-command")
	err = v.control(func(fd int) error {
		v.memory, err = unix.Mmap(fd, memory, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		return err
	})
	if err != nil {
		return fmt.Errorf("map BAR%d: %w", barMemory, err)
	}
	killpoint.Here("vfio-mapped")
	var seat [4]byte
	if _, err := v.device.ReadAt(seat[:], v.registers+registerIVPosition); err != nil {
		return fmt.Errorf("read our seat: %w", err)
	}
	if err := checkRegion(v.memory, binary.LittleEndian.Uint32(seat[:])); err != nil {
		return err
	}
	return v.takeInterrupts()
}

// takeInterrupts has MSI-X vectors ring eventfds of ours.
func (v *VFIO) takeInterrupts() error {
	info := sized(irqInfoSize)
	putWord(info, 2, irqMSIX)
	err := v.control(func(fd int) error { _, err := ioctlBytes(fd, vfioGetIRQInfo, info); return err })
	if err != nil {
		return fmt.Errorf("ask for the MSI-X vectors: %w", err)
	}
	vectors := min(word(info, 3), shmproto.Vectors)
	if vectors <= shmproto.VectorChanged {
		return hint.Errorf("use model ivshmem-doorbell with <msi vectors='2' ioeventfd='on'/>", "the device has no MSI-X vectors")
	}
	for range vectors {
		e, err := eventfd.New()
		if err != nil {
			return err
		}
		v.bells = append(v.bells, e)
	}
	set := sized(irqSetSize + 4*int(vectors))
	putWord(set, 1, irqDataEventfd|irqActionTrigger)
	putWord(set, 2, irqMSIX)
	putWord(set, 4, vectors)
	for i, e := range v.bells {
		putWord(set, irqSetSize/4+i, uint32(e.FD()))
	}
	if err := v.control(func(fd int) error { _, err := ioctlBytes(fd, vfioSetIRQs, set); return err }); err != nil {
		return fmt.Errorf("take the MSI-X vectors: %w", err)
	}
	killpoint.Here("vfio-interrupts")
	return nil
}

// region asks where a region lies in the device's file, and how large it is. It
// must have at least the size and the flags.
func (v *VFIO) region(index uint32, size uint64, flags uint32) (offset int64, length uint64, err error) {
	info := sized(regionInfoSize)
	putWord(info, 2, index)
	err = v.control(func(fd int) error { _, err := ioctlBytes(fd, vfioGetRegionInfo, info); return err })
	if err != nil {
		return 0, 0, fmt.Errorf("ask for region %d of the device: %w", index, err)
	}
	length = binary.NativeEndian.Uint64(info[16:])
	if length < size || word(info, 1)&flags != flags {
		return 0, 0, fmt.Errorf("region %d of the device has %d bytes and flags %#x, want %d bytes and flags %#x", index, length, word(info, 1), size, flags)
	}
	return int64(binary.NativeEndian.Uint64(info[24:])), length, nil
}

// control uses the device's descriptor while nobody can close it.
func (v *VFIO) control(use func(fd int) error) error {
	conn, err := v.device.SyscallConn()
	if err != nil {
		return err
	}
	var failure error
	if err := conn.Control(func(fd uintptr) { failure = use(int(fd)) }); err != nil {
		return err
	}
	return failure
}

// sized makes a structure for the kernel, with its size in front.
func sized(n int) []byte {
	b := make([]byte, n)
	putWord(b, 0, uint32(n))
	return b
}

func word(b []byte, i int) uint32       { return binary.NativeEndian.Uint32(b[4*i:]) }
func putWord(b []byte, i int, v uint32) { binary.NativeEndian.PutUint32(b[4*i:], v) }

// Memory is the region. It is valid until Close.
func (v *VFIO) Memory() []byte { return v.memory }

// Seat is our own peer ID.
func (v *VFIO) Seat() int { return shmproto.GuestSeat }

// Ring rings both host agents. The kernel makes one 32-bit write of each call.
func (v *VFIO) Ring() error {
	var b [4]byte
	for seat := range uint32(shmproto.HostSeats) {
		binary.LittleEndian.PutUint32(b[:], doorbell(seat))
		if _, err := v.device.WriteAt(b[:], v.registers+registerDoorbell); err != nil {
			return fmt.Errorf("ring seat %d: %w", seat, err)
		}
	}
	return nil
}

// Wait waits until we are rung. It ends with os.ErrClosed after Close.
func (v *VFIO) Wait() error {
	_, err := v.bells[shmproto.VectorChanged].Wait()
	return err
}

// Gone is nil: the device goes on when its server has gone, and does not tell.
func (v *VFIO) Gone() <-chan struct{} { return nil }

// Close gives the device up; the kernel then takes interrupts, bus master and
// memory from it.
//
// Preconditions: nobody uses Memory any more.
func (v *VFIO) Close() error { return v.release() }

func (v *VFIO) release() error {
	errs := []error{unmap(&v.memory)}
	if v.device != nil {
		errs = append(errs, v.device.Close())
	}
	for _, fd := range []int{v.group, v.container} {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	v.group, v.container = -1, -1
	for _, e := range v.bells {
		errs = append(errs, e.Close())
	}
	return errors.Join(errs...)
}
