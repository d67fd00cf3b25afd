package device

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"guardring/guest-agent/pci"
	"guardring/internal/hint"
	"guardring/internal/killpoint"
	"guardring/shmproto"
)

// Prepared says what Prepare or Restore did, in sentences without a full stop.
type Prepared struct {
	Choice  Choice   // of Prepare: which way Open will take
	Changed []string // in order; with a dry run: what would be; empty: nothing had to be
}

// step is one change. Steps are made from what is there, each may be repeated,
// and whoever is killed between two of them finds the rest when run again.
type step struct {
	name string // for killpoint
	what string
	do   func() error
}

// Prepare gives our PCI device to vfio-pci and its IOMMU group's node to o.GID;
// for polling it switches the memory on, and gives the two resource files. With a
// dry run it only says what it would do. A machine that has no such device, or is
// to use the socket, needs nothing. It needs root.
func Prepare(o Options, dry bool) (Prepared, error) {
	if o.Kind == BySocket {
		return Prepared{Choice: Choice{BySocket, o.Socket, "the configuration says so"}}, nil
	}
	found, refused, err := Candidates(o.Bus, o.Address)
	if err != nil && !errors.Is(err, pci.ErrNoBus) {
		return Prepared{}, err
	}
	if len(found) > 1 {
		found = o.ours(found)
	}
	switch {
	case len(found) > 1:
		return Prepared{}, hint.Errorf("set pci-address: in the configuration", "the PCI devices %s could all be the gateway's", addresses(found))
	case len(found) == 0 && len(refused) == 0 && o.Address == "" && (o.Kind == Auto || o.Kind == ""):
		return Prepared{Choice: Choice{BySocket, o.Socket, fmt.Sprintf("there is no PCI device %04x:%04x", vendor, deviceID)}}, nil
	case len(found) == 0:
		return Prepared{}, noDevice(o.Address, refused)
	}
	d := found[0]
	p := Prepared{Choice: Choice{Address: d.Address}}
	switch past := o.noVFIO(d); {
	case o.Kind == ByPolling:
		p.Choice.Reason = "the configuration says so"
	case d.Group == "" && o.Kind == ByVFIO:
		return p, noGroup(d.Address)
	case d.Group == "":
		p.Choice.Reason = "the VM has no IOMMU that Linux uses: " + iommuRemedy
	case past != "" && o.Kind != ByVFIO: // tried in this boot: it will not be better now
		p.Choice.Reason = past
	default:
		p.Choice.Kind, p.Choice.Reason = ByVFIO, "the device is in IOMMU group "+d.Group
		err = o.run(&p, o.forVFIO(d), dry)
		if err == nil && !dry {
			err = o.try(d)
		}
		var missing *ModuleError
		if err == nil || o.Kind == ByVFIO || !errors.As(err, &missing) && !errors.Is(err, errNoRemapping) {
			return p, err
		}
		p.Choice.Reason = "VFIO cannot be had: " + err.Error() + ": " + hint.Of(err)
		if err := o.remember(d, p.Choice.Reason); err != nil {
			return p, err
		}
		if d, err = o.Bus.Device(d.Address); err != nil {
			return p, err
		}
	}
	p.Choice.Kind = ByPolling
	steps, err := o.forPolling(d)
	if err != nil {
		return p, err
	}
	return p, o.run(&p, steps, dry)
}

func (o Options) run(p *Prepared, steps []step, dry bool) error {
	for _, s := range steps {
		if !dry {
			if err := s.do(); err != nil {
				if errors.Is(err, fs.ErrPermission) && hint.Of(err) == "" {
					err = hint.Wrap(err, "run this command as root")
				}
				return err
			}
			killpoint.Here(s.name)
		}
		if s.what != "" {
			p.Changed = append(p.Changed, s.what)
		}
	}
	return nil
}

func (o Options) forVFIO(d pci.Device) []step {
	var steps []step
	add := func(name, what string, do func() error) { steps = append(steps, step{name, what, do}) }
	for _, m := range []struct {
		module string
		there  bool
	}{
		{vfioDriver, o.Bus.HasDriver(vfioDriver)},
		{"vfio_iommu_type1", o.Bus.HasModule("vfio_iommu_type1")},
	} {
		if !m.there {
			add("prepare-module", "loaded the kernel module "+m.module, func() error { return o.modprobe(m.module) })
		}
	}
	steps = append(steps, o.note(d)...)
	if d.Driver != vfioDriver {
		if d.Override != vfioDriver {
			add("prepare-override", "reserved "+d.Address+" for "+vfioDriver, func() error { return o.Bus.SetOverride(d.Address, vfioDriver) })
		}
		if d.Driver == "" && d.Enabled { // a former preparation for polling counts, and vfio-pci would find it on for ever
			add("prepare-off", "switched its memory off", func() error { return o.Bus.Enable(d.Address, false) })
		}
		if d.Driver != "" {
			add("prepare-unbound", "took "+d.Address+" from its driver "+d.Driver, func() error { return o.Bus.Unbind(d.Address) })
		}
		add("prepare-bound", "gave "+d.Address+" to "+vfioDriver, func() error {
			if err := o.Bus.Probe(d.Address); err != nil {
				return err
			}
			now, err := o.Bus.Device(d.Address)
			if err == nil && now.Driver != vfioDriver {
				err = hint.Errorf("look at the kernel's log (dmesg)", "PCI device %s: %s did not take it; its driver is %s", d.Address, vfioDriver, orNone(now.Driver))
			}
			return err
		})
	}
	return append(steps, o.give("prepare-group", o.Bus.Path("dev/vfio", d.Group))...)
}

func (o Options) forPolling(d pci.Device) ([]step, error) {
	if err := o.unused(d); err != nil {
		return nil, err
	}
	steps := o.note(d)
	add := func(name, what string, do func() error) { steps = append(steps, step{name, what, do}) }
	if d.Override == vfioDriver {
		add("prepare-override", "lifted its reservation for "+vfioDriver, func() error { return o.Bus.SetOverride(d.Address, "") })
	}
	if d.Driver != "" {
		add("prepare-unbound", "took "+d.Address+" from its driver "+d.Driver, func() error { return o.Bus.Unbind(d.Address) })
	}
	if !d.Enabled || d.Driver != "" {
		add("prepare-on", "switched on the memory of "+d.Address, func() error {
			if now, err := o.Bus.Device(d.Address); err != nil || now.Enabled {
				return err // taken from a driver that had left it on
			}
			return o.Bus.Enable(d.Address, true)
		})
	}
	for _, bar := range []int{barRegisters, barMemory} {
		steps = append(steps, o.give("prepare-resource", o.Bus.ResourceFile(d.Address, bar))...)
	}
	return steps, nil
}

// try takes the device for a moment: some IOMMUs have groups, and yet VFIO refuses
// them. Whatever else is wrong is for the agent to say.
func (o Options) try(d pci.Device) error {
	v, err := openVFIO(o.Bus, d)
	switch {
	case errors.Is(err, errNoRemapping):
		return err
	case err == nil:
		return v.Close()
	}
	return nil
}

// give lets o.GID use a file, root besides, and nobody else.
func (o Options) give(name, path string) []step {
	const mode = 0o660
	st, err := os.Stat(path)
	if err == nil && st.Mode().Perm() == mode {
		if sys, ok := st.Sys().(*syscall.Stat_t); ok && (o.GID < 0 || int(sys.Gid) == o.GID) {
			return nil
		}
	}
	whom := "root alone"
	if o.GID >= 0 {
		whom = fmt.Sprintf("group %d", o.GID)
	}
	return []step{{name, "gave " + path + " to " + whom, func() error {
		if err := os.Chown(path, -1, o.GID); err != nil {
			return err
		}
		return os.Chmod(path, mode)
	}}}
}

// unused refuses to take a device from vfio-pci while a process has it: the kernel
// would let us wait for that process's end.
func (o Options) unused(d pci.Device) error {
	if d.Driver != vfioDriver || d.Group == "" {
		return nil
	}
	path := o.Bus.Path("dev/vfio", d.Group)
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.EBUSY):
		return hint.Wrap(fmt.Errorf("PCI device %s is in use (%s): %w", d.Address, path, err), "stop the guest agent first")
	case err == nil:
		return unix.Close(fd)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return fmt.Errorf("PCI device %s: %w", d.Address, err)
}

// ModuleError: a kernel module cannot be loaded.
type ModuleError struct {
	Module string
	Err    error
}

func (e *ModuleError) Error() string { return "kernel module " + e.Module + ": " + e.Err.Error() }

// Unwrap returns why.
func (e *ModuleError) Unwrap() error { return e.Err }

// Hint is the remedy.
func (e *ModuleError) Hint() string {
	return "load it (modprobe " + e.Module + "; on Debian it is in every kernel package), or device: poll"
}

func (o Options) modprobe(module string) error {
	load := o.Modprobe
	if load == nil {
		load = modprobe
	}
	if err := load(module); err != nil {
		return &ModuleError{module, err}
	}
	return nil
}

func modprobe(module string) error {
	path, err := exec.LookPath("modprobe")
	if err != nil { // a user's PATH often has no sbin
		if path = "/usr/sbin/modprobe"; !isFile(path) {
			path = "/sbin/modprobe"
		}
	}
	out, err := exec.Command(path, module).CombinedOutput()
	if text := strings.TrimSpace(string(out)); err != nil && text != "" {
		return fmt.Errorf("%w: %s", err, text)
	}
	return err
}

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}

// ours leaves the devices whose memory has a region's header, as far as one can
// look: only root can, and only where no driver has the device.
func (o Options) ours(found []pci.Device) []pci.Device {
	var left []pci.Device
	for _, d := range found {
		if is, known := o.peek(d); is || !known {
			left = append(left, d)
		}
	}
	return left
}

// peek looks at the memory of a device for a moment.
func (o Options) peek(d pci.Device) (is, known bool) {
	if d.Driver != "" {
		return false, false
	}
	if !d.Enabled {
		if o.Bus.Enable(d.Address, true) != nil {
			return false, false
		}
		defer func() { _ = o.Bus.Enable(d.Address, false) }()
	}
	mem, err := mapFile(o.Bus.ResourceFile(d.Address, barMemory), shmproto.RegionSize)
	if err != nil {
		return false, false
	}
	defer func() { _ = unmap(&mem) }()
	return !errors.Is(checkRegion(mem, shmproto.GuestSeat), ErrNotOurs), true
}

func addresses(devices []pci.Device) string {
	var names []string
	for _, d := range devices {
		names = append(names, d.Address)
	}
	return strings.Join(names, ", ")
}

// bootID names this start of the machine: what was bound before it is not any more.
func (o Options) bootID() string {
	b, err := os.ReadFile(o.Bus.Path("proc/sys/kernel/random/boot_id"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
