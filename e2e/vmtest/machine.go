package vmtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"guardring/e2e/tornet"
	"guardring/e2e/vmtest/errand"
)

// accelerator is how QEMU runs a guest's instructions.
type accelerator string

const (
	kvm accelerator = "kvm"
	tcg accelerator = "tcg"
)

// probeLimit bounds the attempt to boot a guest with KVM; one that works takes a second or two.
const probeLimit = 10 * time.Second

// Accelerator is "kvm" where a guest boots with it, else "tcg". /dev/kvm may exist and open, and yet run no kernel: only booting one
// tells. The first call may take ten seconds.
func (k *Kit) Accelerator(ctx context.Context) string {
	k.probe.Do(func() {
		began := time.Now()
		k.accel = tcg
		if err := k.probeKVM(ctx); err != nil {
			k.cfg.Log("guests run without KVM (%v after %.1f s)", err, time.Since(began).Seconds())
			return
		}
		k.accel = kvm
		k.cfg.Log("guests run with KVM")
	})
	return string(k.accel)
}

// probeKVM boots a guest that does nothing but power off.
func (k *Kit) probeKVM(ctx context.Context) error {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	f.Close()
	console := filepath.Join(k.dir, "probe.console")
	args := append(machineArgs(kvm, "q35", false, 1), "-m", "160", "-no-reboot", "-serial", "file:"+console,
		"-kernel", k.kernel.image(), "-initrd", k.base,
		"-append", commandLine+" rdinit=/bin/busybox -- poweroff -f")
	p, err := tornet.Spawn(exec.Command("qemu-system-x86_64", args...))
	if err != nil {
		return err
	}
	defer p.Kill()
	limit := time.NewTimer(probeLimit)
	defer limit.Stop()
	select {
	case <-p.Done():
		return p.Err()
	case <-limit.C:
		return fmt.Errorf("a guest does not boot with /dev/kvm")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// commandLine are the kernel's options. Without no_timer_check, one boot of twenty panics on a busy machine without KVM: the timer's
// interrupt seems lost.
const commandLine = "console=ttyS0 quiet no_timer_check mitigations=off"

// machineArgs are QEMU's options for machine and accelerator.
func machineArgs(a accelerator, machine string, iommu bool, processors int) []string {
	args := []string{"-nodefaults", "-no-user-config", "-display", "none", "-cpu", "max", "-smp", strconv.Itoa(processors)}
	split := ""
	if a == kvm {
		args = append(args, "-accel", "kvm")
		if iommu {
			split = ",kernel-irqchip=split" // interrupt remapping needs it
		}
	} else {
		translated := 64 // MiB of translated code: enough for a small guest
		if processors > 1 {
			translated = 256
		}
		args = append(args, "-accel", "tcg,tb-size="+strconv.Itoa(translated))
	}
	args = append(args, "-machine", machine+split)
	if iommu {
		args = append(args, "-device", "intel-iommu,intremap=on")
	}
	return args
}

// args are QEMU's arguments for the guest.
func (g *Guest) args(ctx context.Context) []string {
	o := g.opts
	args := machineArgs(accelerator(g.kit.Accelerator(ctx)), o.Machine, o.IOMMU, o.Processors)
	args = append(args, "-name", o.Name, "-m", strconv.Itoa(o.MemoryMiB),
		"-kernel", g.kernel(), "-initrd", g.initrd(), "-append", g.commandLine(),
		"-chardev", "file,id=console,append=on,path="+g.file("console"), "-serial", "chardev:console", "-device", "virtio-rng-pci")
	args = append(args, g.plumbing()...)
	if len(o.Keep) > 0 {
		args = append(args, "-drive", "if=none,id=disk,format=raw,file="+g.file("disk"), "-device", "virtio-blk-pci,drive=disk")
	}
	if o.Region != "" {
		args = append(args, "-chardev", "socket,id=region,path="+o.Region,
			"-device", "ivshmem-doorbell,chardev=region,vectors=2,addr=0x10")
	}
	if n := o.Network; n != nil {
		user := fmt.Sprintf("user,id=net,ipv6=off,net=%s.0/24,host=%[1]s.2,dhcpstart=%[1]s.15", n.prefix())
		for _, f := range n.Forward {
			user += fmt.Sprintf(",hostfwd=tcp:127.0.0.1:%d-:%d", f.Host, f.Guest)
		}
		args = append(args, "-netdev", user, "-device", "virtio-net-pci,netdev=net,romfile=")
	}
	if o.Resume != "" {
		args = append(args, "-loadvm", o.Resume)
	}
	return append(args, o.QEMU...)
}

// plumbing are QEMU's arguments by which we reach into the guest. The slot is one that a libvirt domain leaves free.
func (g *Guest) plumbing() []string {
	args := []string{"-chardev", "socket,id=qmp,path=" + g.file("qmp"), "-mon", "chardev=qmp,mode=control", "-device", "virtio-serial-pci,id=errands,addr=0x1c",
		"-chardev", "socket,id=errand,path=" + g.file("errand"), "-device", "virtserialport,bus=errands.0,chardev=errand,name=" + errand.Port}
	for i, name := range g.opts.Ports {
		args = append(args, "-chardev", fmt.Sprintf("file,id=port%d,append=on,path=%s", i, g.file(name)),
			"-device", fmt.Sprintf("virtserialport,bus=errands.0,chardev=port%d,name=%s", i, name))
	}
	return args
}

func (g *Guest) commandLine() string {
	line := commandLine + " vm.name=" + g.opts.Name
	if n := g.opts.Network; n != nil {
		line += fmt.Sprintf(" vm.address=%s.15/24 vm.router=%[1]s.2", n.prefix())
	}
	if len(g.opts.Keep) > 0 {
		line += " vm.keep=" + strings.Join(g.opts.Keep, ",")
	}
	if g.opts.CommandLine != "" {
		line += " " + g.opts.CommandLine
	}
	return line
}

// diskSize is that of a guest's disk, a sparse file.
const diskSize = 64 << 20

// makeDisk makes an empty file system in a file.
func makeDisk(ctx context.Context, file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(diskSize), f.Close()); err != nil {
		return err
	}
	return in(ctx, filepath.Dir(file), "mke2fs", "-q", "-t", "ext4", file)
}
