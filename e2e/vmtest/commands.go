package vmtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"guardring/e2e/vmtest/errand"
)

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
