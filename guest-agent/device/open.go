package device

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"guardring/guest-agent/pci"
	"guardring/internal/hint"
	"guardring/shmproto"
)

// Device is the agent's place in a region. Its methods may be called
// concurrently, except that Wait belongs to one goroutine.
type Device interface {
	Memory() []byte        // the region, valid until Close
	Seat() int             // our own peer ID
	Ring() error           // rings both host seats; may block
	Wait() error           // until something may have changed; os.ErrClosed after Close
	Gone() <-chan struct{} // the region's server has gone; memory and doorbells go on. nil: a PCI device cannot know
	Close() error
}

// Kind is a way to the region.
type Kind string

// Kinds. Auto is only a wish: a Choice names one of the others.
const (
	Auto      Kind = "auto"
	ByVFIO    Kind = "vfio"
	ByPolling Kind = "poll"
	BySocket  Kind = "socket"
)

// Choice is which way was taken, or tried.
type Choice struct {
	Kind    Kind
	Address string // the PCI device's address, or the socket's path
	Reason  string // why this way: one sentence without a full stop
}

// Options of Open, Prepare and Restore.
type Options struct {
	Kind    Kind   // "" is Auto
	Address string // the PCI device's; "" is the only one that is ours
	Socket  string // the server's socket
	Bus     pci.Bus
	// StateFile remembers what Prepare found, for Restore.
	StateFile string
	// GID is the group that may use the prepared device; -1 leaves it to root.
	GID int
	// Modprobe loads kernel modules; nil: with modprobe(8).
	Modprobe func(module string) error
	// Root: we may prepare a device that is not.
	Root bool
}

// ErrUnprepared: the PCI device is there, but nobody has given it to us.
var ErrUnprepared = errors.New("the device is not prepared")

const prepareRemedy = "run guardring-guest prepare as root (the systemd unit does it at each start)"

// Open takes the region in the way that o asks for, or else in the best one that
// there is: VFIO where our PCI device is in an IOMMU group, polling where it is
// not, the socket where there is no such device. A device that is not prepared
// is, if we may. The Choice is set on an error, too, as far as it was made.
// Errors carry a remedy (package hint).
func Open(o Options) (Device, Choice, error) {
	if o.Kind == BySocket {
		return o.openSocket("the configuration says so")
	}
	found, refused, err := Candidates(o.Bus, o.Address)
	if err != nil && !errors.Is(err, pci.ErrNoBus) {
		return nil, Choice{Kind: o.Kind}, err
	}
	if len(found) == 0 {
		if o.Kind == ByVFIO || o.Kind == ByPolling || o.Address != "" {
			return nil, Choice{Kind: o.Kind}, noDevice(o.Address, refused)
		}
		reason := fmt.Sprintf("there is no PCI device %04x:%04x", vendor, deviceID)
		if len(refused) > 0 {
			reason = refused[0].Error()
		}
		d, c, err := o.openSocket(reason)
		if err != nil && len(refused) > 0 {
			err = hint.Wrap(fmt.Errorf("%w; %w", noDevice("", refused), err), hint.Of(noDevice("", refused)))
		}
		return d, c, err
	}
	var device Device
	var choice Choice
	var errs []error
	for _, d := range found {
		got, c, err := o.openPCI(d)
		switch {
		case err != nil:
			errs = append(errs, err)
			if device == nil {
				choice = c
			}
		case device != nil:
			_, _ = got.Close(), device.Close()
			return nil, Choice{}, hint.Errorf("set pci-address: in the configuration to the one that this agent must use",
				"the PCI devices %s and %s are both gateways' regions", choice.Address, c.Address)
		default:
			device, choice = got, c
		}
	}
	if device != nil {
		return device, choice, nil
	}
	if len(errs) == 1 {
		return nil, choice, errs[0]
	}
	return nil, choice, errors.Join(errs...)
}

func (o Options) openSocket(reason string) (Device, Choice, error) {
	c := Choice{BySocket, o.Socket, reason}
	s, err := Dial(o.Socket)
	if err != nil {
		return nil, c, err // no Device that is a nil *Socket
	}
	return s, c, nil
}

// openPCI opens one candidate, and prepares it before, where it must and may.
func (o Options) openPCI(d pci.Device) (Device, Choice, error) {
	dev, c, err := o.openPrepared(d)
	if !errors.Is(err, ErrUnprepared) || !o.Root {
		return dev, c, err
	}
	o.Address = d.Address
	if _, err := Prepare(o, false); err != nil {
		return nil, c, err
	}
	if d, err = o.Bus.Device(d.Address); err != nil {
		return nil, c, err
	}
	return o.openPrepared(d)
}

func (o Options) openPrepared(d pci.Device) (Device, Choice, error) {
	c := Choice{Address: d.Address}
	unprepared := func(format string, args ...any) error {
		return hint.Wrap(fmt.Errorf("PCI device %s: %w: %s", d.Address, ErrUnprepared, fmt.Sprintf(format, args...)), prepareRemedy)
	}
	polls := d.Driver == "" && d.Enabled
	switch {
	case o.Kind != ByPolling && d.Driver == vfioDriver:
		c.Kind, c.Reason = ByVFIO, "the device is in IOMMU group "+d.Group
		if d.Group == "" {
			return nil, c, noGroup(d.Address)
		}
	case o.Kind == ByVFIO && d.Group == "":
		c.Kind = ByVFIO
		return nil, c, noGroup(d.Address)
	case o.Kind == ByVFIO:
		c.Kind = ByVFIO
		return nil, c, unprepared("its driver is %s, not %s", orNone(d.Driver), vfioDriver)
	case polls && o.Kind == ByPolling:
		c.Kind, c.Reason = ByPolling, "the configuration says so"
	case polls && d.Group == "":
		c.Kind, c.Reason = ByPolling, "the VM has no IOMMU that Linux uses: "+iommuRemedy
	case polls:
		c.Kind, c.Reason = ByPolling, "the device is in IOMMU group "+d.Group+", but it was prepared for polling"
		if past := o.noVFIO(d); past != "" {
			c.Reason = past
		} else if !o.Bus.HasDriver(vfioDriver) {
			c.Reason = "the device is in IOMMU group " + d.Group + ", but the kernel module vfio-pci is not loaded"
		}
	default:
		c.Kind = o.Kind
		return nil, c, unprepared("its driver is %s, and its memory is %s", orNone(d.Driver), map[bool]string{true: "on", false: "off"}[d.Enabled])
	}
	var dev Device
	var err error
	if c.Kind == ByVFIO {
		dev, err = openVFIO(o.Bus, d)
	} else {
		dev, err = openPoll(o.Bus, d)
	}
	if err != nil {
		return nil, c, fmt.Errorf("PCI device %s (%s): %w", d.Address, c.Kind, err)
	}
	return dev, c, nil
}

// ErrNotOurs: a PCI device of this kind, but not with a gateway's region.
var ErrNotOurs = errors.New("it holds no region of guardring")

// checkRegion refuses memory without our header, and a seat that is not the guest's.
// A region of a version that we do not speak is ours: the caller says so later.
func checkRegion(mem []byte, seat uint32) error {
	if _, err := shmproto.Open(mem); errors.Is(err, shmproto.ErrMagic) {
		return hint.Wrap(fmt.Errorf("%w: %w", ErrNotOurs, err), "set pci-address: in the configuration, if another device is the gateway's; else look at the server path of its <shmem> element")
	}
	switch seat {
	case shmproto.GuestSeat:
		return nil
	case 1<<32 - 1:
		return hint.Errorf("restart this VM with guardring's server running on the host", "the device has no seat (IVPosition -1): its server has not answered")
	}
	return hint.Errorf("use the gateway's own server path in the <shmem> element", "the device has seat %d, not the guest's (%d): its server does not serve a gateway of guardring", seat, shmproto.GuestSeat)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// iommuRemedy is what a domain's XML needs for VFIO.
const iommuRemedy = "doorbells need <iommu model='intel'><driver intremap='on' caching_mode='on'/></iommu> and <ioapic driver='qemu'/> in the domain's XML, on machine q35"

func noGroup(address string) error {
	return hint.Wrap(fmt.Errorf("PCI device %s is in no IOMMU group: %w", address, os.ErrNotExist), iommuRemedy+"; or device: poll")
}

func noDevice(address string, refused []*Refusal) error {
	what := fmt.Sprintf("no PCI device %04x:%04x (ivshmem) on this machine", vendor, deviceID)
	remedy := "add the <shmem> element to the domain's XML (guardring gateway attach on the host), or device: socket"
	if address != "" {
		what = fmt.Sprintf("no PCI device %04x:%04x (ivshmem) at %s", vendor, deviceID, address)
		remedy = "correct pci-address: in the configuration, or leave it out"
	}
	if len(refused) == 0 {
		return hint.Wrap(errors.New(what), remedy)
	}
	var texts []string
	for _, r := range refused {
		texts = append(texts, r.Error())
	}
	return hint.Wrap(errors.New(strings.Join(texts, "; ")), refused[0].Remedy)
}
