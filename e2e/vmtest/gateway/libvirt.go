package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"guardring/e2e/libvirtd"
	"guardring/e2e/vmtest"
)

// Libvirt starts a gateway's machine as a domain of a libvirtd, from the document that Define has made there.
//
// Everything about the domain is libvirt's. Only its emulator is a script of ours, which starts QEMU with libvirt's arguments and those
// by which the harness reaches into the guest.
type Libvirt struct {
	Daemon *libvirtd.Daemon
	// Define makes the domain with this name, once, with the emulator at this path.
	Define func(ctx context.Context, m vmtest.Machine, emulator string) error

	defined bool
}

const libvirtURI = "qemu:///system"

// Start implements vmtest.Hypervisor.
func (l *Libvirt) Start(ctx context.Context, m vmtest.Machine) (vmtest.Process, error) {
	// QEMU connects when it starts, and its end closes the connection, by whatever hand.
	life := filepath.Join(m.Dir, "life")
	if err := os.Remove(life); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: life, Net: "unix"})
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	emulator := filepath.Join(m.Dir, "emulator")
	if err := os.WriteFile(emulator, []byte(emulatorScript(m, life)), 0o755); err != nil {
		return nil, err
	}
	if !l.defined {
		if err := l.Define(ctx, m, emulator); err != nil {
			return nil, err
		}
		l.defined = true
	}
	if _, err := l.Daemon.Virsh(libvirtURI, "start", m.Name); err != nil {
		return nil, err
	}
	d := &domain{daemon: l.Daemon, name: m.Name, done: make(chan struct{})}
	conn, err := listener.AcceptUnix() // it has connected before libvirt says that it runs
	if err != nil {
		return nil, err
	}
	if d.pid, err = peer(conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	go func() {
		_, _ = io.Copy(io.Discard, conn) // its only message is its end
		conn.Close()
		close(d.done)
	}()
	return d, nil
}

// emulatorScript starts QEMU as libvirt wants it, with the harness's own ports. libvirt runs it for other things, too: then it adds
// nothing.
func emulatorScript(m vmtest.Machine, life string) string {
	var b strings.Builder
	for _, a := range append(m.Plumbing, "-chardev", "socket,id=life,path="+life) {
		b.WriteString(" '" + strings.ReplaceAll(a, "'", `'\\''`) + "'")
	}
	forward := ""
	if m.Network != nil {
		var all []string
		for _, f := range m.Network.Forward {
			all = append(all, fmt.Sprintf(`{"str":"tcp:127.0.0.1:%d-:%d"}`, f.Host, f.Guest))
		}
		forward = `"ipv6":false,"hostfwd":[` + strings.Join(all, ",") + "],"
	}
	return `#!/bin/sh
case "$*" in *guest=` + m.Name + `,*) ;; *) exec qemu-system-x86_64 "$@" ;; esac
n=$#
while [ $n -gt 0 ]; do
	a=$1
	shift
	case $a in
	'{"type":"user",'*) a='{"type":"user",` + forward + `'${a#'{"type":"user",'} ;;
	tcg) a=tcg,tb-size=64 ;;
	esac
	set -- "$@" "$a"
	n=$((n - 1))
done
exec qemu-system-x86_64 "$@"` + b.String() + "\n"
}

func peer(c *net.UnixConn) (int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *syscall.Ucred
	var failure error
	err = raw.Control(func(fd uintptr) {
		cred, failure = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err := errors.Join(err, failure); err != nil {
		return 0, err
	}
	return int(cred.Pid), nil
}

// domain is a running domain's QEMU.
type domain struct {
	daemon *libvirtd.Daemon
	name   string
	pid    int
	done   chan struct{}
}

// PID implements vmtest.Process.
func (d *domain) PID() int { return d.pid }

// Done implements vmtest.Process.
func (d *domain) Done() <-chan struct{} { return d.done }

// Err implements vmtest.Process.
func (d *domain) Err() error { return fmt.Errorf("the domain %s has ended", d.name) }

// Kill implements vmtest.Process.
func (d *domain) Kill() error {
	select {
	case <-d.done:
		return nil
	default:
	}
	_, err := d.daemon.Virsh(libvirtURI, "destroy", d.name)
	if err != nil && strings.Contains(err.Error(), "is not running") {
		err = nil
	}
	if err == nil {
		<-d.done
	}
	return err
}

// CreateArguments are those of `guardring gateway create` for the machine.
func CreateArguments(m vmtest.Machine, emulator string) []string {
	kind := "qemu"
	if m.Accelerator == "kvm" {
		kind = "kvm"
	}
	return []string{"gateway", "create", m.Name, "--type", kind, "--emulator", emulator, "--memory", strconv.Itoa(m.MemoryMiB), "--disk", m.Disk, "--disk-format", "raw",
		"--kernel", m.Kernel, "--initrd", m.Initrd, "--cmdline", m.CommandLine, "--user-network", m.Network.Prefix()}
}

// ForeignDocument is a domain such as an administrator has already, after Whonix's for its gateway.
func ForeignDocument(m vmtest.Machine, emulator string) string {
	kind, cpu := "qemu", ""
	if m.Accelerator == "kvm" {
		kind, cpu = "kvm", "<cpu mode='host-passthrough'/>"
	}
	address, bits, _ := strings.Cut(m.Network.Prefix(), "/")
	return strings.NewReplacer("KIND", kind, "CPU", cpu, "NAME", m.Name, "MEMORY", strconv.Itoa(m.MemoryMiB), "KERNEL", m.Kernel, "INITRD", m.Initrd, "CMDLINE", m.CommandLine,
		"EMULATOR", emulator, "DISK", m.Disk, "ADDRESS", address, "BITS", bits).Replace(`<domain type='KIND'>
  <name>NAME</name>
  <description>An administrator's own gateway, made by hand.</description>
  <genid/>
  <memory dumpCore='off' unit='MiB'>MEMORY</memory>
  <memoryBacking><nosharepages/></memoryBacking>
  <vcpu placement='static'>1</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>KERNEL</kernel>
    <initrd>INITRD</initrd>
    <cmdline>CMDLINE</cmdline>
  </os>
  <features><acpi/><apic/><pae/><pmu state='off'/><vmport state='off'/></features>
  CPU
  <clock offset='utc'><timer name='rtc' tickpolicy='catchup'/><timer name='pit' tickpolicy='delay'/><timer name='hpet' present='no'/></clock>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <pm><suspend-to-mem enabled='no'/><suspend-to-disk enabled='no'/></pm>
  <devices>
    <emulator>EMULATOR</emulator>
    <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='DISK'/><target dev='vda' bus='virtio'/></disk>
    <interface type='user'><ip family='ipv4' address='ADDRESS' prefix='BITS'/><model type='virtio'/></interface>
    <serial type='pty'/>
    <memballoon model='none'/>
    <rng model='virtio'><backend model='random'>/dev/random</backend></rng>
  </devices>
</domain>
`)
}
