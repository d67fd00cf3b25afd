package device

import (
	"errors"
	"fmt"
	"io/fs"

	"guardring/guest-agent/pci"
	"guardring/shmproto"
)

// The PCI device of QEMU's ivshmem.
const (
	vendor   = 0x1af4
	deviceID = 0x1110

	barRegisters = 0
	barMSIX      = 1
	barMemory    = 2
)

// Refusal is an ivshmem device that cannot be ours, and what to do if it should be.
type Refusal struct {
	Address string
	Why     string
	Remedy  string
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("PCI device %s is not used: %s", r.Address, r.Why)
}

// Candidates returns the ivshmem devices that can be a gateway's, judged by what
// sysfs says of them, and those that cannot. address "" looks at all of them. No
// device at all is no error.
func Candidates(bus pci.Bus, address string) (found []pci.Device, refused []*Refusal, err error) {
	var all []pci.Device
	if address == "" {
		all, err = bus.Find(vendor, deviceID)
	} else {
		var d pci.Device
		d, err = bus.Device(address)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil, nil
		}
		if r := judgeKind(d); err == nil && r != nil {
			return nil, []*Refusal{r}, nil
		}
		all = []pci.Device{d}
	}
	if err != nil {
		return nil, nil, err
	}
	for _, d := range all {
		if r := judge(d); r != nil {
			refused = append(refused, r)
		} else {
			found = append(found, d)
		}
	}
	return found, refused, nil
}

// judgeKind refuses what is no ivshmem device.
func judgeKind(d pci.Device) *Refusal {
	if d.Vendor == vendor && d.ID == deviceID {
		return nil
	}
	why := fmt.Sprintf("it is %04x:%04x, not %04x:%04x (ivshmem)", d.Vendor, d.ID, vendor, deviceID)
	return &Refusal{d.Address, why, "correct pci-address: in the configuration, or leave it out"}
}

// judge says why an ivshmem device cannot be ours; nil: it can.
func judge(d pci.Device) *Refusal {
	r := &Refusal{Address: d.Address}
	switch {
	case d.Revision == 0:
		// Its registers and MSI-X behave otherwise (ivshmem-spec, "Differences").
		r.Why, r.Remedy = "revision 0 is ivshmem 1, of QEMU 2.5 and older", "use model ivshmem-doorbell on a newer QEMU"
	case d.Size[barMemory] != shmproto.RegionSize:
		r.Why = fmt.Sprintf("its memory (BAR2) has %d bytes, a gateway's region %d", d.Size[barMemory], shmproto.RegionSize)
		r.Remedy = "it is another program's; add the gateway's own <shmem> element to the domain's XML (guardring gateway attach on the host)"
	case d.Size[barMSIX] == 0:
		r.Why, r.Remedy = "it has no MSI-X: ivshmem-plain has no doorbells", "use model ivshmem-doorbell with <msi vectors='2' ioeventfd='on'/>"
	case d.Size[barRegisters] < registersSize:
		r.Why, r.Remedy = fmt.Sprintf("its registers (BAR0) have %d bytes, want %d", d.Size[barRegisters], registersSize), "use model ivshmem-doorbell"
	default:
		return nil
	}
	return r
}
