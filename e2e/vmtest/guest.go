package vmtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"guardring/e2e/vmtest/errand"
)

const errandPort = errand.Port

// Options describe one guest.
type Options struct {
	// Name is its host name and directory; short.
	Name string
	// Region is the ivshmem server's socket; "" leaves the device out.
	Region string
	// Machine is q35 or pc; "" is q35.
	Machine string
	// IOMMU adds an emulated Intel IOMMU with interrupt remapping, which VFIO needs. Not with pc.
	IOMMU bool
	// MemoryMiB is 160 when zero, Processors 1.
	MemoryMiB, Processors int
	// System has the guest boot a system of its own instead of the kit's; then Files, Keep and Network's addresses are not set up in it.
	System *System
	// Files are added to what the kit gives every guest, and replace it.
	Files []File
	// Network is a network card behind QEMU's user-mode network; nil for none.
	Network *Network
	// Keep are folders of the guest that outlive its machine: they lie on a disk, and begin as Files have them.
	Keep []string
	// Ports are virtio-serial ports, /dev/virtio-ports/NAME in the guest, that lead into files of the guest's Dir with the same names.
	Ports []string
	// CommandLine and QEMU are more options of the kernel and of QEMU.
	CommandLine string
	QEMU        []string
	// Hypervisor starts the machine; nil: QEMU is started as the fields above say.
	Hypervisor Hypervisor
}

// System is a kernel and an initramfs that start a whole system from disks that Options.QEMU gives it. It must run Kit.Inside, which
// takes commands, once the port /dev/virtio-ports/org.guardring.errand is there.
type System struct {
	Kernel, Initrd string
	// StartLimit bounds the time until it takes commands.
	StartLimit time.Duration
}

// Network is a network card whose traffic QEMU passes on as connections of its own, from this process's network namespace. Guest
// and router have the addresses 192.168.(70+Number).15 and .2.
type Network struct {
	// Number is from 0 to 99, different for guests that run at the same time.
	Number int
	// Forward are TCP ports on this side's 127.0.0.1 that lead into the guest.
	Forward []Forward
}

// Forward leads from a port here to one in the guest.
type Forward struct{ Host, Guest int }

func (n *Network) prefix() string { return fmt.Sprintf("192.168.%d", 70+n.Number) }

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

func (g *Guest) startLimit() time.Duration {
	if s := g.opts.System; s != nil {
		return s.StartLimit
	}
	return startLimit
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

// Start starts QEMU and waits until the guest answers. Preconditions: it does not run.
func (g *Guest) Start(ctx context.Context) error {
	g.kit.Accelerator(ctx)
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, g.startLimit())
	defer cancel()
	if err := g.launch(ctx); err != nil {
		return errors.Join(fmt.Errorf("guest %s: %w", g.Name, err), g.Kill())
	}
	if err := g.awaitHello(ctx); err != nil {
		return errors.Join(fmt.Errorf("guest %s does not start: %w; its console ends with: %s", g.Name, err, tail(g.Console())), g.Kill())
	}
	if strings.Contains(g.Console(), "Initramfs unpacking failed") {
		return errors.Join(fmt.Errorf("guest %s: its files do not fit into %d MiB of memory", g.Name, g.opts.MemoryMiB), g.Kill())
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ready = time.Since(began)
	return nil
}

// startLimit bounds a boot; three at once on two busy cores without KVM were seen to take 20 s.
const startLimit = 3 * time.Minute

// launch starts QEMU, which connects to us: so nothing has to be waited for but the connections.
func (g *Guest) launch(ctx context.Context) error {
	lines := map[string]net.Listener{}
	for _, name := range []string{"qmp", "errand"} {
		if err := os.Remove(g.file(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		l, err := net.Listen("unix", g.file(name))
		if err != nil {
			return err
		}
		defer l.Close()
		lines[name] = l
	}
	log, err := os.OpenFile(g.file("qemu.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	p, err := g.startMachine(ctx, log)
	if err != nil {
		return err
	}
	hello := make(chan string, 1)
	g.mu.Lock()
	g.proc, g.hello = p, hello
	g.mu.Unlock()
	monitor, err := accept(ctx, p, lines["qmp"])
	if err != nil {
		return fmt.Errorf("%w: %s", err, g.QEMULog())
	}
	port, err := accept(ctx, p, lines["errand"])
	if err != nil {
		return fmt.Errorf("%w: %s", err, g.QEMULog())
	}
	m, err := openQMP(monitor)
	if err != nil {
		return err
	}
	g.mu.Lock()
	g.monitor, g.out = m, &errand.Line{W: port}
	g.mu.Unlock()
	go g.listen(port, monitor, hello)
	return nil
}

// accept takes QEMU's connection.
func accept(ctx context.Context, p Process, l net.Listener) (net.Conn, error) {
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-p.Done():
		case <-ctx.Done():
		case <-ended:
		}
		l.Close()
	}()
	c, err := l.Accept()
	switch {
	case err == nil:
		return c, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	default:
		return nil, fmt.Errorf("QEMU ended: %v", p.Err())
	}
}

// listen hands out replies until QEMU closes the port.
func (g *Guest) listen(port, monitor net.Conn, hello chan<- string) {
	defer port.Close()
	defer monitor.Close()
	_ = errand.Receive(port, func(r errand.Reply) { // its only error is the end
		if r.Hello != "" {
			g.dropWaiting()
			select {
			case hello <- r.Hello:
			default: // nobody has asked; the newest is asked for
			}
			return
		}
		g.mu.Lock()
		w := g.waiting[r.Token]
		delete(g.waiting, r.Token)
		g.mu.Unlock()
		if w != nil {
			w <- r
		}
	})
	g.dropWaiting()
}

// dropWaiting tells those who wait for a reply that none will come.
func (g *Guest) dropWaiting() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for token, w := range g.waiting {
		delete(g.waiting, token)
		w <- errand.Reply{Error: "the guest has ended or started anew"}
	}
}

func (g *Guest) awaitHello(ctx context.Context) error {
	g.mu.Lock()
	hello, p := g.hello, g.proc
	g.mu.Unlock()
	select {
	case id := <-hello:
		g.mu.Lock()
		g.bootID = id
		g.mu.Unlock()
		return nil
	case <-p.Done():
		return fmt.Errorf("QEMU ended: %v: %s", p.Err(), g.QEMULog())
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ExitError is a command that ended with another code than 0.
type ExitError struct {
	Argv   []string
	Code   int // 128+n for signal n
	Stderr string
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("%s: exit code %d: %s", strings.Join(e.Argv, " "), e.Code, strings.TrimSpace(e.Stderr))
}

// Result is what a command said and how it ended.
type Result struct {
	Stdout, Stderr string
	Code           int // 128+n for signal n
}

// Do runs a command in the guest as root, with stdin as its standard input. The end of ctx kills it. The error says that it could not be
// carried out, not that it ended with another code than 0.
func (g *Guest) Do(ctx context.Context, stdin string, argv ...string) (Result, error) {
	reply, err := g.ask(ctx, errand.Request{Argv: argv, Stdin: []byte(stdin)})
	return Result{Stdout: string(reply.Stdout), Stderr: string(reply.Stderr), Code: reply.Code}, err
}

// Run runs a command in the guest as root and returns its standard output. The end of ctx kills it. The error is an *ExitError if
// it ended with another code than 0.
func (g *Guest) Run(ctx context.Context, argv ...string) (string, error) {
	r, err := g.Do(ctx, "", argv...)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("guest %s: %w", g.Name, &ExitError{Argv: argv, Code: r.Code, Stderr: r.Stderr})
	}
	return r.Stdout, err
}

// WriteFile writes a file in the guest.
func (g *Guest) WriteFile(ctx context.Context, path string, data []byte, mode os.FileMode) error {
	_, err := g.ask(ctx, errand.Request{Write: path, Data: data, Mode: uint32(mode.Perm())})
	return err
}

// ReadFile reads a file of the guest.
func (g *Guest) ReadFile(ctx context.Context, path string) ([]byte, error) {
	reply, err := g.ask(ctx, errand.Request{Read: path})
	return reply.Stdout, err
}

// Pass has connections to a TCP address in the guest joined with a unix socket in it, for as long as the guest runs.
func (g *Guest) Pass(ctx context.Context, listen, socket string) error {
	_, err := g.ask(ctx, errand.Request{Listen: listen, Target: socket})
	return err
}

func (g *Guest) ask(ctx context.Context, r errand.Request) (errand.Reply, error) {
	g.mu.Lock()
	out := g.out
	g.token++
	r.Token = g.token
	w := make(chan errand.Reply, 1)
	g.waiting[r.Token] = w
	g.mu.Unlock()
	fail := func(err error) (errand.Reply, error) {
		g.mu.Lock()
		delete(g.waiting, r.Token)
		g.mu.Unlock()
		return errand.Reply{}, fmt.Errorf("guest %s: %s%s%s: %w", g.Name, strings.Join(r.Argv, " "), r.Read, r.Write+r.Listen, err)
	}
	if out == nil {
		return fail(errors.New("it does not run"))
	}
	if err := out.Send(r); err != nil {
		return fail(err)
	}
	select {
	case reply := <-w:
		if reply.Error != "" {
			return fail(errors.New(reply.Error))
		}
		return reply, nil
	case <-ctx.Done():
		_ = out.Send(errand.Request{Cancel: r.Token}) // the guest may be gone
		return fail(ctx.Err())
	}
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

// Reboot resets the machine inside the same QEMU, without warning, and waits until the guest answers again.
func (g *Guest) Reboot(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, g.startLimit())
	defer cancel()
	if _, err := g.QMP("system_reset", nil); err != nil {
		return err
	}
	return g.AwaitBoot(ctx)
}

// AwaitBoot waits until a guest that resets itself answers again. Each boot is waited for once.
func (g *Guest) AwaitBoot(ctx context.Context) error {
	if err := g.awaitHello(ctx); err != nil {
		return fmt.Errorf("guest %s does not come back: %w; its console ends with: %s", g.Name, err, tail(g.Console()))
	}
	return nil
}

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

func read(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func tail(s string) string { return s[max(0, len(s)-3000):] }
