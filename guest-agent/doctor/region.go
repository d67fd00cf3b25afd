package doctor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"guardring/guest-agent/device"
	"guardring/guest-agent/pci"
	"guardring/internal/hint"
	"guardring/shmproto"
)

// vfioDriver is the driver that gives us the device with its interrupts.
const vfioDriver = "vfio-pci"

// lookAtDevice says by which way the region is reached, and what that way needs.
func (d *doctor) lookAtDevice() {
	o := d.cfg.Device
	if o.Kind == device.BySocket {
		d.lookAtSocket("the configuration says so")
		return
	}
	found, refused, err := device.Candidates(o.Bus, o.Address)
	if err != nil && !errors.Is(err, pci.ErrNoBus) {
		d.lines.Fail("device", hint.Of(err), "%v", err)
		return
	}
	for _, r := range refused {
		if len(found) == 0 {
			d.lines.Fail("device", r.Remedy, "%v", r)
		} else {
			d.lines.Pass("another device", "%v", r)
		}
	}
	switch {
	case len(found) == 0 && len(refused) > 0:
		return
	case len(found) == 0 && (o.Address != "" || o.Kind == device.ByVFIO || o.Kind == device.ByPolling):
		d.lines.Fail("device", "add the <shmem> element to the domain's XML (guardring gateway attach on the host), or correct device: and pci-address: in the configuration", "there is no ivshmem PCI device here")
		return
	case len(found) == 0:
		d.lookAtSocket("there is no ivshmem PCI device")
		return
	case len(found) > 1 && d.agent == nil:
		d.lines.Warn("device", "set pci-address: in the configuration", "%d ivshmem devices could be the gateway's, the first is %s", len(found), found[0].Address)
	}
	card := found[0]
	for _, f := range found {
		if d.agent != nil && f.Address == d.agent.Region.Path {
			card = f
		}
	}
	d.lines.Pass("device", "PCI %s, revision %d, a region of %d bytes", card.Address, card.Revision, card.Size[2])
	if d.lookAtIOMMU(card) {
		d.lookAtVFIO(card)
	} else {
		d.lookAtPolling(card)
	}
}

func (d *doctor) lookAtSocket(why string) {
	path := d.cfg.Device.Socket
	switch st, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
		d.lines.Fail("device", "start guardring on the host, and check region: in the configuration; in a VM add the <shmem> element to the domain's XML", "%s, and there is no socket %s", why, path)
	case err != nil:
		d.lines.Fail("device", "let the agent's user come to the socket", "%v", err)
	case st.Mode().Type() != fs.ModeSocket:
		d.lines.Fail("device", "correct region: in the configuration", "%s is no socket", path)
	case unix.Access(path, unix.R_OK|unix.W_OK) != nil:
		d.lines.Fail("device", "put this user into the socket's group, or name it in the gateway's configuration on the host", "%s may not be used by user %d", path, os.Geteuid())
	default:
		d.lines.Pass("device", "the server's socket %s, because %s", path, why)
	}
	d.lines.Skip("iommu", "the region comes from a socket")
}

const iommuXML = "for doorbells: machine q35, <iommu model='intel'><driver intremap='on' caching_mode='on'/></iommu> and <ioapic driver='qemu'/> in the domain's XML (guardring gateway attach does it)"

// lookAtIOMMU reports whether VFIO is the way.
func (d *doctor) lookAtIOMMU(card pci.Device) bool {
	kind := d.cfg.Device.Kind
	switch {
	case kind == device.ByPolling:
		d.lines.Skip("iommu", "the configuration says device: poll")
	case card.Group == "" && kind == device.ByVFIO:
		d.lines.Fail("iommu", iommuXML, "the device is in no IOMMU group, and the configuration says device: vfio")
		return true
	case card.Group == "":
		d.lines.Warn("iommu", iommuXML, "the device is in no IOMMU group: the agent polls")
	default:
		members, err := d.cfg.Device.Bus.Members(card.Group)
		if err == nil && len(members) > 1 {
			d.lines.Warn("iommu", "give the device a PCI slot of its own on bus 0 in the domain's XML", "IOMMU group %s has %d devices: VFIO wants all of them", card.Group, len(members))
		} else {
			d.lines.Pass("iommu", "group %s", card.Group)
		}
		return true
	}
	return false
}

func (d *doctor) lookAtVFIO(card pci.Device) {
	bus := d.cfg.Device.Bus
	polls := card.Driver == "" && card.Enabled && d.cfg.Device.Kind != device.ByVFIO
	switch modules := bus.HasDriver(vfioDriver) && bus.HasModule("vfio_iommu_type1"); {
	case modules:
		d.lines.Pass("modules", "vfio-pci and vfio_iommu_type1 are loaded")
	case polls:
		d.lines.Warn("modules", "stop the agent, then modprobe vfio-pci vfio_iommu_type1 and guardring-guest prepare, both as root", "vfio-pci or vfio_iommu_type1 is not loaded: the agent polls")
	default:
		d.lines.Fail("modules", "guardring-guest prepare as root (or: modprobe vfio-pci vfio_iommu_type1)", "vfio-pci or vfio_iommu_type1 is not loaded")
	}
	if polls {
		d.lines.Warn("vfio", "guardring-guest status says why; "+iommuXML, "the device was prepared for polling")
		d.lookAtPolling(card)
		return
	}
	if card.Driver != vfioDriver {
		d.lines.Fail("driver", "guardring-guest prepare as root, at each start of the machine (the systemd unit does it)", "the device's driver is %s, not %s", orNone(card.Driver), vfioDriver)
		return
	}
	d.lines.Pass("driver", vfioDriver)
	d.lookAtNodes("permission", bus.Path("dev/vfio/vfio"), bus.Path("dev/vfio", card.Group))
}

func (d *doctor) lookAtPolling(card pci.Device) {
	if card.Driver != "" || !card.Enabled {
		d.lines.Fail("driver", "guardring-guest prepare as root, at each start of the machine (the systemd unit does it)", "the device is not prepared for polling: its driver is %s, its memory is switched %s", orNone(card.Driver), map[bool]string{true: "on", false: "off"}[card.Enabled])
		return
	}
	d.lines.Pass("driver", "none, and the memory is switched on: ready for polling")
	bus := d.cfg.Device.Bus
	d.lookAtNodes("permission", bus.ResourceFile(card.Address, 0), bus.ResourceFile(card.Address, 2))
}

// lookAtNodes says whether the agent may use the files: by that it does so, by its
// group where that is known, else by ourselves.
func (d *doctor) lookAtNodes(name string, paths ...string) {
	const remedy = "guardring-guest prepare --group GROUP as root, with a group of the agent's user"
	if d.agent != nil && d.agent.Region.Attached && d.agent.Region.Device != string(device.BySocket) {
		d.lines.Pass(name, "the running agent has the device")
		return
	}
	for _, path := range paths {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			d.lines.Fail(name, remedy, "%s: %v", path, err)
			return
		}
		const groupUses, allUse = 0o060, 0o006
		free := st.Mode&allUse == allUse
		known := d.cfg.Device.Root && d.cfg.Device.GID >= 0
		switch {
		case known && !free && (st.Mode&groupUses != groupUses || int(st.Gid) != d.cfg.Device.GID):
			d.lines.Fail(name, remedy, "%s belongs to group %d with mode %o: the agent's group %d may not use it", path, st.Gid, st.Mode&0o777, d.cfg.Device.GID)
			return
		case !d.cfg.Device.Root && unix.Access(path, unix.R_OK|unix.W_OK) != nil:
			d.lines.Fail(name, remedy, "%s may not be used by user %d", path, os.Geteuid())
			return
		}
	}
	d.lines.Pass(name, "the agent may use the device")
}

// lookAtRegion says what the region's header and the host's lease show.
func (d *doctor) lookAtRegion(ctx context.Context) {
	if d.agent != nil {
		d.agentsRegion()
		return
	}
	o := d.cfg.Device
	o.Root = false // a doctor prepares nothing
	if o.Kind == device.BySocket || d.bySocket(o) {
		// Taking the guest seat is a new attachment: the host would note a new start.
		d.lines.Skip("region", "only a running agent may take the guest seat")
		d.lines.Skip("host", "only a running agent sees its heartbeat")
		return
	}
	dev, choice, err := device.Open(o)
	if err != nil {
		d.lines.Fail("region", hint.Of(err), "%v", err)
		d.lines.Skip("host", "its heartbeat is seen in the region")
		return
	}
	defer dev.Close()
	region, err := shmproto.Open(dev.Memory())
	if err != nil {
		d.lines.Fail("region", "upgrade guardring on the host or here, to the same version", "%v", err)
		d.lines.Skip("host", "its heartbeat is seen in the region")
		return
	}
	h := region.Header()
	d.lines.Pass("region", "gateway %s, attachment %d, by %s", h.Gateway, h.Attachment, choice.Kind)
	d.lookForHeartbeat(ctx, region)
}

func (d *doctor) bySocket(o device.Options) bool {
	found, refused, _ := device.Candidates(o.Bus, o.Address)
	return len(found) == 0 && len(refused) == 0 && o.Address == "" && (o.Kind == device.Auto || o.Kind == "")
}

func (d *doctor) agentsRegion() {
	r := d.agent.Region
	switch {
	case !r.Attached:
		d.lines.Fail("region", "see the agent's complaint", "the agent has none: %s", r.Error)
		d.lines.Skip("host", "its heartbeat is seen in the region")
		return
	case r.Device == string(device.ByPolling):
		d.lines.Warn("region", iommuXML, "gateway %s, by polling: %s", r.Gateway, r.Because)
	default:
		d.lines.Pass("region", "gateway %s, attachment %d, by %s", r.Gateway, r.Attachment, r.Device)
	}
	if h := d.agent.Host; h.Acting {
		d.lines.Pass("host", "seat %d acts, term %d", h.Seat, h.Term)
	} else {
		d.lines.Fail("host", hostRemedy, "no host agent acts: no heartbeat for %.0f s", h.LastSignal)
	}
}

const hostRemedy = "start guardring on the host (guardring doctor there says more); if it runs, restart this VM: its device may belong to a server that is gone"

// lookForHeartbeat watches the leases for a moment.
func (d *doctor) lookForHeartbeat(ctx context.Context, region *shmproto.Region) {
	guest := region.Guest(0, 0) // reads only
	beats := func() (all [shmproto.HostSeats]uint64) {
		for seat := range all {
			if l, err := guest.ReadLease(seat); err == nil && l.Acting {
				all[seat] = l.Heartbeat
			}
		}
		return all
	}
	first := beats()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	end := time.NewTimer(d.cfg.Look)
	defer end.Stop()
	for beats() == first {
		select {
		case <-tick.C:
		case <-end.C:
			d.lines.Fail("host", hostRemedy, "no host agent acts: no heartbeat within %s", d.cfg.Look)
			return
		case <-ctx.Done():
			d.lines.Skip("host", "interrupted")
			return
		}
	}
	d.lines.Pass("host", "its heartbeat is seen")
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
