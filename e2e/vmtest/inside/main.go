// Command inside runs in a test's guest and carries out what the test asks for over a virtio-serial port.
//
// Trust: it does whatever it is told, as root. It is for guests that a test made.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"guardring/e2e/vmtest/errand"
)

func main() {
	log.SetFlags(0)
	log.Fatalf("inside: %v", serve())
}

// worker carries out requests; commands are those that run, by token.
type worker struct {
	out *errand.Line

	mu       sync.Mutex
	commands map[uint64]context.CancelFunc
}

// serve ends with an error, or not at all.
func serve() error {
	// A port can be opened once only.
	port, err := os.OpenFile("/dev/virtio-ports/"+errand.Port, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	w := &worker{out: &errand.Line{W: port}, commands: map[uint64]context.CancelFunc{}}
	if err := w.out.Send(errand.Reply{Hello: strings.TrimSpace(string(boot))}); err != nil {
		return err
	}
	return errand.Receive(port, w.take)
}

func (w *worker) take(r errand.Request) {
	if r.Cancel != 0 {
		w.mu.Lock()
		defer w.mu.Unlock()
		if cancel := w.commands[r.Cancel]; cancel != nil {
			cancel()
		}
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.mu.Lock()
	w.commands[r.Token] = cancel
	w.mu.Unlock()
	go func() {
		reply := do(ctx, r)
		reply.Token = r.Token
		w.mu.Lock()
		delete(w.commands, r.Token)
		w.mu.Unlock()
		cancel()
		if err := w.out.Send(reply); err != nil {
			log.Printf("inside: %v", err)
		}
	}()
}

func do(ctx context.Context, r errand.Request) errand.Reply {
	var err error
	switch {
	case len(r.Argv) > 0:
		return run(ctx, r)
	case r.Write != "":
		err = write(r)
	case r.Read != "":
		var b []byte
		if b, err = os.ReadFile(r.Read); err == nil {
			return errand.Reply{Stdout: b}
		}
	case r.Listen != "":
		err = pass(r.Listen, r.Target)
	default:
		err = errors.New("an empty request")
	}
	if err != nil {
		return errand.Reply{Error: err.Error()}
	}
	return errand.Reply{}
}

func run(ctx context.Context, r errand.Request) errand.Reply {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, r.Argv[0], r.Argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(r.Stdin), &stdout, &stderr
	// What a command leaves running may keep its output open; it is the command that is waited for.
	cmd.WaitDelay = 300 * time.Millisecond
	err := cmd.Run()
	reply := errand.Reply{Stdout: stdout.Bytes(), Stderr: stderr.Bytes()}
	var exit *exec.ExitError
	switch {
	case err == nil || errors.Is(err, exec.ErrWaitDelay):
	case errors.As(err, &exit):
		reply.Code = exit.ExitCode()
		if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() {
			reply.Code = 128 + int(s.Signal())
		}
	default:
		reply.Error = err.Error()
	}
	return reply
}

func write(r errand.Request) error {
	if err := os.MkdirAll(filepath.Dir(r.Write), 0o755); err != nil {
		return err
	}
	mode := os.FileMode(r.Mode)
	if err := os.WriteFile(r.Write, r.Data, mode); err != nil {
		return err
	}
	return os.Chmod(r.Write, mode) // a file that was there kept its own
}

// pass joins connections to a TCP address with a unix socket.
func pass(listen, target string) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	go func() {
		for {
			a, err := l.Accept()
			if err != nil {
				log.Printf("inside: %v", err)
				return
			}
			go join(a, target)
		}
	}()
	return nil
}

func join(a net.Conn, target string) {
	defer a.Close()
	b, err := net.Dial("unix", target)
	if err != nil {
		fmt.Fprintf(os.Stderr, "inside: %v\n", err)
		return
	}
	defer b.Close()
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		go func() {
			io.Copy(way[0], way[1])
			done <- struct{}{}
		}()
	}
	<-done
}
