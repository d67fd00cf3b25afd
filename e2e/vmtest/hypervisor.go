package vmtest

import (
	"context"
	"os"
	"os/exec"

	"guardring/e2e/tornet"
)

// Process is a machine's QEMU.
type Process interface {
	// PID is its process ID.
	PID() int
	// Done is closed when it has ended; Err says how.
	Done() <-chan struct{}
	Err() error
	// Kill ends it at once and waits for its end. One that has ended is no error.
	Kill() error
}

// Hypervisor starts machines in another way than by starting QEMU, for instance by libvirt.
type Hypervisor interface {
	// Start starts the machine and returns when its QEMU runs, which connects to the sockets in Plumbing.
	Start(ctx context.Context, m Machine) (Process, error)
}

// Machine is what a Hypervisor starts.
type Machine struct {
	Name, Dir, Accelerator      string // Dir is for files of its own
	Kernel, Initrd, CommandLine string
	Disk                        string // a raw image; "" for none
	MemoryMiB                   int
	// Plumbing are QEMU's arguments by which the harness reaches into the guest. They belong to the test, not to the machine.
	Plumbing []string
	// Network is the first network card.
	Network *Network
}

// Prefix is the network's, with its size.
func (n *Network) Prefix() string { return n.prefix() + ".0/24" }

// startMachine starts QEMU, whose output goes to log.
func (g *Guest) startMachine(ctx context.Context, log *os.File) (Process, error) {
	accelerator := g.kit.Accelerator(ctx)
	if h := g.opts.Hypervisor; h != nil {
		m := Machine{Name: g.Name, Dir: g.Dir, Accelerator: accelerator, Kernel: g.kernel(), Initrd: g.initrd(), CommandLine: g.commandLine(),
			MemoryMiB: g.opts.MemoryMiB, Plumbing: g.plumbing(), Network: g.opts.Network}
		if len(g.opts.Keep) > 0 {
			m.Disk = g.file("disk")
		}
		return h.Start(ctx, m)
	}
	cmd := exec.Command("qemu-system-x86_64", g.args(ctx)...)
	cmd.Stdout, cmd.Stderr = log, log
	p, err := tornet.Spawn(cmd)
	if err != nil {
		return nil, err
	}
	return p, nil
}
