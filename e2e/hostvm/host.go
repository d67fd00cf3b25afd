package hostvm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"guardring/e2e/vmtest"
)

// File is brought into the host on a disk, read-only.
type File struct {
	// Name is its name in /kit, without folders.
	Name string
	// Source is a file of this machine, which keeps its mode.
	Source string
}

// Options describe a host.
type Options struct {
	// Name is short: it is part of socket names.
	Name string
	// Files are in /kit.
	Files []File
	// MemoryMiB is 1024 when zero.
	MemoryMiB int
	// Network is a network card; nil for none. Nothing in the host configures it.
	Network *vmtest.Network
	// Gateway makes it a gateway: it has an IOMMU, and no libvirt.
	Gateway bool
	// Region makes it a gateway with the device: the socket of an ivshmem server. QEMU cannot save such a host.
	Region string
	// Ports are as in vmtest.Options.
	Ports []string
	// CD is an image in a CD drive, as a gateway's domain has it; "" for no drive.
	CD string
}

// Host is a host that runs. Run, Sh, Put, Get, Await and Denials may be called by several goroutines; the others must be called when
// nothing else is.
type Host struct {
	guest  *vmtest.Guest
	kit    *vmtest.Kit
	image  Image
	opts   Options
	dir    string
	booted time.Duration
}

// startLimit bounds a boot until commands are taken, settleLimit until systemd has started all that it should. A calm machine takes 25 s for both.
const (
	startLimit  = 6 * time.Minute
	settleLimit = 3 * time.Minute
)

// kernelOptions: a kernel that enforces, and an audit log that loses nothing.
const kernelOptions = "root=/dev/vda rw apparmor=1 security=apparmor audit=1 audit_backlog_limit=8192"

// gatewayOptions: a gateway has no libvirt, and its own devices, all emulated, need not be kept apart by the emulated IOMMU, which takes long.
const gatewayOptions = " iommu=pt systemd.mask=libvirtd.service systemd.mask=libvirtd.socket systemd.mask=libvirtd-ro.socket systemd.mask=libvirtd-admin.socket" +
	" systemd.mask=libvirt-guests.service systemd.mask=virtlogd.socket systemd.mask=virtlockd.socket"

// Boot boots a host and returns when systemd has started everything. The caller must Close it.
func Boot(ctx context.Context, kit *vmtest.Kit, image Image, o Options) (*Host, error) {
	if o.MemoryMiB == 0 {
		o.MemoryMiB = 1024
	}
	dir, err := os.MkdirTemp("/tmp", "host-")
	if err != nil {
		return nil, err
	}
	h := &Host{dir: dir, kit: kit, image: image, opts: o}
	if err := h.boot(ctx); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

func (h *Host) boot(ctx context.Context) error {
	if err := run(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", h.image.disk(), h.overlay()); err != nil {
		return err
	}
	if err := makeKit(ctx, h.kitDisk(), append(h.opts.Files, File{Name: ".inside", Source: h.kit.Inside()})); err != nil {
		return err
	}
	began := time.Now()
	if err := h.start(ctx, h.kitDisk(), ""); err != nil {
		return err
	}
	if err := h.settle(ctx); err != nil {
		return err
	}
	h.booted = time.Since(began)
	return nil
}

func (h *Host) overlay() string { return filepath.Join(h.dir, "overlay") }
func (h *Host) kitDisk() string { return filepath.Join(h.dir, "kit") }

// start starts QEMU with the host's overlay, a disk for /kit, and the snapshot to go on from, or "" for a boot.
func (h *Host) start(ctx context.Context, kitDisk, snapshot string) error {
	o := h.opts
	gateway := o.Gateway || o.Region != ""
	commandLine := kernelOptions
	if gateway {
		commandLine += gatewayOptions
	}
	drives := []string{
		// Nothing on it outlives the host, so nothing has to reach this machine's disk.
		"-drive", "if=none,id=root,format=qcow2,cache=unsafe,file=" + h.overlay(), "-device", "virtio-blk-pci,drive=root,addr=0x4",
		"-drive", "if=none,id=kit,format=raw,readonly=on,file=" + kitDisk, "-device", "virtio-blk-pci,drive=kit,addr=0x5"}
	if o.CD != "" {
		drives = append(drives, "-drive", "if=none,id=cd,format=raw,readonly=on,media=cdrom,file="+o.CD,
			"-device", "virtio-scsi-pci,addr=0x11", "-device", "scsi-cd,drive=cd,id=cd")
	}
	if o.Gateway && o.Region == "" {
		// The firmware's tables name the devices that the IOMMU is for: a region that comes later needs one in its place, which QEMU's snapshots
		// do not mention.
		drives = append(drives, "-device", "pci-testdev,addr=0x10")
	}
	var err error
	h.guest, err = h.kit.Boot(ctx, vmtest.Options{
		Name: o.Name, MemoryMiB: o.MemoryMiB, Processors: 2, Network: o.Network, CommandLine: commandLine,
		System: &vmtest.System{Kernel: h.image.kernel(), Initrd: h.image.initrd(), StartLimit: startLimit},
		Region: o.Region, IOMMU: gateway, Ports: o.Ports, QEMU: drives, Resume: snapshot,
	})
	return err
}

// settle waits until systemd has nothing left to start, and says what did not start.
func (h *Host) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	r, err := h.Sh(ctx, "systemctl is-system-running --wait")
	if err != nil {
		return fmt.Errorf("systemd does not finish: %w", err)
	}
	if state := strings.TrimSpace(r.Stdout); state != "running" {
		failed, err := h.Sh(ctx, "systemctl --failed --no-legend --plain; journalctl -b -p warning --no-pager | tail -n 30")
		return errors.Join(fmt.Errorf("systemd is %s: %s", state, failed.Stdout), err)
	}
	return nil
}

// makeKit makes a disk with the files.
func makeKit(ctx context.Context, disk string, files []File) error {
	stage := disk + ".d"
	if err := os.Mkdir(stage, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(stage)
	size := int64(4 << 20)
	for _, f := range files {
		n, err := copyFile(filepath.Join(stage, f.Name), f.Source)
		if err != nil {
			return err
		}
		size += n + n/8
	}
	return run(ctx, "mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d", stage, disk, strconv.FormatInt(size>>10, 10)+"k")
}

func copyFile(to, from string) (size int64, err error) {
	in, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return 0, err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, info.Mode().Perm())
	if err != nil {
		return 0, err
	}
	size, err = io.Copy(out, in)
	return size, errors.Join(err, out.Close())
}

func run(ctx context.Context, argv ...string) error {
	if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s (hint: make setup, as root)", strings.Join(argv, " "), err, out)
	}
	return nil
}

// Sh runs a script in the host by sh -e, as root. The error says that it could not be run, or that ctx has ended it; how it ended is in the result.
func (h *Host) Sh(ctx context.Context, script string) (vmtest.Result, error) {
	return h.guest.Do(ctx, "", "sh", "-ec", script)
}

// Run runs a script as Sh does, and returns its standard output. The error is a *vmtest.ExitError if its code is not 0.
func (h *Host) Run(ctx context.Context, script string) (string, error) {
	return h.guest.Run(ctx, "sh", "-ec", script)
}

// Put writes a file in the host, as root's, and the folders above it.
func (h *Host) Put(ctx context.Context, path string, data []byte, mode os.FileMode) error {
	return h.guest.WriteFile(ctx, path, data, mode)
}

// Get reads a file of the host.
func (h *Host) Get(ctx context.Context, path string) ([]byte, error) {
	return h.guest.ReadFile(ctx, path)
}

// Await runs a script until its code is 0. When ctx ends before, the error says what was waited for and how the script ended last.
func (h *Host) Await(ctx context.Context, what, script string) error {
	for {
		r, err := h.Sh(ctx, script)
		switch {
		case err == nil && r.Code == 0:
			return nil
		case err != nil && ctx.Err() == nil:
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("still not: %s: %w; %s: code %d: %s%s", what, ctx.Err(), script, r.Code, r.Stdout, r.Stderr)
		}
	}
}

// Reboot restarts the host, as `systemctl reboot` does, and returns when systemd has started everything.
func (h *Host) Reboot(ctx context.Context) error {
	if _, err := h.Run(ctx, "systemctl reboot --no-block"); err != nil {
		return err
	}
	limit, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := h.guest.AwaitBoot(limit); err != nil {
		return err
	}
	return h.settle(ctx)
}

// Save keeps the whole state of the running host under a name: memory, devices, disk.
func (h *Host) Save(_ context.Context, name string) error { return h.monitor("savevm " + name) }

// Revert has the host go on from where Save was; it goes on with today's clock. Everything since is forgotten.
//
// Preconditions: no script runs.
func (h *Host) Revert(ctx context.Context, name string) error {
	if err := h.monitor("loadvm " + name); err != nil {
		return err
	}
	_, err := h.Run(ctx, "date -s @"+strconv.FormatInt(time.Now().Unix(), 10)+" >/dev/null")
	return err
}

// frozen is the snapshot of a host that was frozen.
const frozen = "frozen"

// Freeze keeps the whole state of the running host, a Gateway without a Region, and ends it. Thaw starts it again, as often as is wanted.
func (h *Host) Freeze(ctx context.Context) error {
	if _, err := h.Run(ctx, "echo 1 >/sys/bus/pci/devices/0000:00:10.0/remove"); err != nil {
		return err
	}
	if err := h.Save(ctx, frozen); err != nil {
		return err
	}
	// In order: what QEMU has not written yet is lost otherwise.
	if _, err := h.guest.QMP("quit", nil); err != nil {
		return err
	}
	select {
	case <-h.guest.Exited():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Thaw starts a host that goes on from where h was frozen, on a copy of its disk: with today's clock, random numbers of its own, and the region and
// the ways into its network that it is given. It has h's files, memory, CD and ports, and the same machine ID. h must be closed after it.
func (h *Host) Thaw(ctx context.Context, name, region string, forward ...vmtest.Forward) (*Host, error) {
	dir, err := os.MkdirTemp("/tmp", "host-")
	if err != nil {
		return nil, err
	}
	o := h.opts
	o.Name, o.Region = name, region
	if o.Network != nil {
		o.Network = &vmtest.Network{Number: o.Network.Number, Forward: forward}
	}
	c := &Host{dir: dir, kit: h.kit, image: h.image, opts: o}
	if err := c.thaw(ctx, h); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (h *Host) thaw(ctx context.Context, from *Host) error {
	began := time.Now()
	if err := run(ctx, "cp", "--reflink=auto", "--sparse=always", from.overlay(), h.overlay()); err != nil {
		return err
	}
	if err := h.start(ctx, from.kitDisk(), frozen); err != nil {
		return err
	}
	var seed [64]byte
	rand.Read(seed[:])
	if err := h.Put(ctx, "/run/seed", seed[:], 0o600); err != nil {
		return err
	}
	// Two that were one would draw the same numbers: RNDRESEEDCRNG takes the new ones at once. The device is new on the bus.
	_, err := h.Run(ctx, `cat /run/seed >/dev/urandom; rm /run/seed; perl -e 'open(my $f, "+<", "/dev/urandom") or die $!; defined ioctl($f, 0x5207, 0) or die $!'
date -s @`+strconv.FormatInt(time.Now().Unix(), 10)+` >/dev/null; echo 1 >/sys/bus/pci/rescan; udevadm settle`)
	h.booted = time.Since(began)
	return err
}

// monitor runs a command of QEMU's human monitor, which says nothing if all is well.
func (h *Host) monitor(command string) error {
	answer, err := h.guest.QMP("human-monitor-command", map[string]string{"command-line": command})
	if said := strings.TrimSpace(strings.Trim(string(answer), `"`)); err == nil && said != "" {
		err = fmt.Errorf("QEMU: %s: %s", command, said)
	}
	return err
}

// ChangeCD puts another image of the same label into the CD drive. Preconditions: it is not mounted.
func (h *Host) ChangeCD(ctx context.Context, image string) error {
	// udev has the drive locked (CDROM_LOCKDOOR). One that is opened by force has udev eject what is in it, and that may be the next image.
	if _, err := h.Run(ctx, `perl -MFcntl -e 'sysopen(my $f, "/dev/sr0", O_RDONLY|O_NONBLOCK) or die $!; defined ioctl($f, 0x5329, 0) or die $!'`); err != nil {
		return err
	}
	return h.monitor("change cd " + image + " raw")
}

// Booted is how long the boot took, until systemd had started everything, or the thaw.
func (h *Host) Booted() time.Duration { return h.booted }

// Console is what the kernel and systemd wrote on the console.
func (h *Host) Console() string { return h.guest.Console() }

// Close ends the host and deletes its files.
func (h *Host) Close() error {
	var err error
	if h.guest != nil {
		err = h.guest.Close()
	}
	return errors.Join(err, os.RemoveAll(h.dir))
}
