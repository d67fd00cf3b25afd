package vmtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"guardring/e2e/vmtest/errand"
)

// Guest is one guest. Its methods may be called by several goroutines, but for Start, Kill and Reboot, which must not overlap.
type Guest struct {
	// Name is as in the options, Dir holds its console and sockets.
	Name, Dir string

	kit  *Kit
	opts Options

	mu      sync.Mutex
	proc    Process
	monitor *qmp
	out     *errand.Line
	token   uint64
	waiting map[uint64]chan errand.Reply
	hello   chan string // the boot IDs of guests that have started
	bootID  string
	ready   time.Duration
}

// Boot starts a guest and returns when it answers. The kit ends it at Close at the latest.
func (k *Kit) Boot(ctx context.Context, o Options) (*Guest, error) {
	if o.Machine == "" {
		o.Machine = "q35"
	}
	if o.MemoryMiB == 0 {
		o.MemoryMiB = 160
	}
	if o.Processors == 0 {
		o.Processors = 1
	}
	dir, err := os.MkdirTemp(k.dir, o.Name+"-")
	if err != nil {
		return nil, err
	}
	g := &Guest{Name: o.Name, Dir: dir, kit: k, opts: o, waiting: map[uint64]chan errand.Reply{}}
	if o.System == nil {
		if err := g.writeInitrd(); err != nil {
			return nil, err
		}
	}
	if len(o.Keep) > 0 {
		if err := makeDisk(ctx, g.file("disk")); err != nil {
			return nil, err
		}
	}
	k.mu.Lock()
	k.guests = append(k.guests, g)
	k.mu.Unlock()
	return g, g.Start(ctx)
}

func (g *Guest) file(name string) string { return filepath.Join(g.Dir, name) }

func (g *Guest) kernel() string {
	if s := g.opts.System; s != nil {
		return s.Kernel
	}
	return g.kit.kernel.image()
}

func (g *Guest) initrd() string {
	if s := g.opts.System; s != nil {
		return s.Initrd
	}
	return g.file("initrd")
}

// writeInitrd appends the guest's own archive to the kit's. The kernel unpacks one after the other.
func (g *Guest) writeInitrd() error {
	out, err := os.Create(g.file("initrd"))
	if err != nil {
		return err
	}
	defer out.Close()
	base, err := os.Open(g.kit.base)
	if err != nil {
		return err
	}
	defer base.Close()
	n, err := io.Copy(out, base)
	if err != nil {
		return err
	}
	if _, err := out.Write(make([]byte, -n&511)); err != nil { // an archive begins at a multiple of four
		return err
	}
	return writeArchive(out, g.opts.Files)
}

// QMP sends a command to QEMU's monitor.
func (g *Guest) QMP(command string, arguments any) (json.RawMessage, error) {
	g.mu.Lock()
	m := g.monitor
	g.mu.Unlock()
	if m == nil {
		return nil, fmt.Errorf("guest %s does not run", g.Name)
	}
	return m.do(command, arguments)
}

// Pause stops the guest's processor. Its clock stands still, too.
func (g *Guest) Pause() error { _, err := g.QMP("stop", nil); return err }

// Resume lets it go on.
func (g *Guest) Resume() error { _, err := g.QMP("cont", nil); return err }

// Kill ends QEMU with SIGKILL, and waits for its end. A guest that does not run is no error.
func (g *Guest) Kill() error {
	g.mu.Lock()
	p := g.proc
	g.out, g.monitor = nil, nil
	g.mu.Unlock()
	if p == nil {
		return nil
	}
	return p.Kill()
}

// Close ends the guest for good and deletes its files, unless KEEP_VMTEST is in the environment.
func (g *Guest) Close() error {
	err := g.Kill()
	if os.Getenv("KEEP_VMTEST") == "" {
		err = errors.Join(err, os.RemoveAll(g.Dir))
	}
	return err
}

// PID is QEMU's process ID. Preconditions: it was started.
func (g *Guest) PID() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.proc.PID()
}

// Exited is closed when the QEMU that was started last has ended. Preconditions: it was started.
func (g *Guest) Exited() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.proc.Done()
}

// Ready is how long the last start took, from QEMU's start until the guest answered.
func (g *Guest) Ready() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ready
}

// Console is what the guest's kernel and programs wrote on the serial console since Boot.
func (g *Guest) Console() string { return read(g.file("console")) }

// QEMULog is what QEMU itself said.
func (g *Guest) QEMULog() string { return read(g.file("qemu.log")) }

// Port is what came out of one of Options.Ports since Boot.
func (g *Guest) Port(name string) string { return read(g.file(name)) }

func read(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func tail(s string) string { return s[max(0, len(s)-3000):] }
