package vmtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"guardring/e2e/vmtest/errand"
)

// Start starts QEMU and waits until the guest answers. Preconditions: it does not run.
func (g *Guest) Start(ctx context.Context) error {
	g.kit.Accelerator(ctx)
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, g.startLimit())
	defer cancel()
	if err := g.launch(ctx); err != nil {
		return errors.Join(fmt.Errorf("guest %s: %w", g.Name, err), g.Kill())
	}
	if err := g.awaitStart(ctx); err != nil {
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

func (g *Guest) startLimit() time.Duration {
	if s := g.opts.System; s != nil {
		return s.StartLimit
	}
	return startLimit
}

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

// awaitStart waits until the guest answers. One that resumes has said hello long ago.
func (g *Guest) awaitStart(ctx context.Context) error {
	if g.opts.Resume == "" {
		return g.awaitHello(ctx)
	}
	if _, err := g.Run(ctx, "true"); err != nil {
		return fmt.Errorf("%w: %s", err, g.QEMULog())
	}
	return nil
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
