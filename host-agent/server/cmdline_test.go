package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// hanging makes up command lines that let the reader wait: opening a FIFO that nobody
// writes to does. release lets the one of a process go.
func hanging(t *testing.T) (c *commandLines, release func(pid int, line string)) {
	t.Helper()
	dir := t.TempDir()
	c = newCommandLines()
	c.limit = 20 * time.Millisecond
	c.path = func(pid int) string { return filepath.Join(dir, fmt.Sprint(pid)) }
	for pid := 1; pid <= maxReadings+2; pid++ {
		if err := unix.Mkfifo(c.path(pid), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c, func(pid int, line string) {
		t.Helper()
		if err := os.WriteFile(c.path(pid), []byte(line), 0); err != nil {
			t.Fatal(err)
		}
	}
}

// waitsForLines sets how long a command line of any gateway is waited for.
func (r *runner) waitsForLines(limit time.Duration) {
	for _, g := range r.regions() {
		g.lines.mu.Lock()
		g.lines.limit = limit
		g.lines.mu.Unlock()
	}
}

// patient makes sure that no honest process is refused because this machine is busy.
func (r *runner) patient() { r.waitsForLines(patience) }

func TestACommandLineThatHangs(t *testing.T) {
	c, release := hanging(t)
	if _, err := c.read(t.Context(), 1); !errors.Is(err, errStuck) || c.waiting() != 1 {
		t.Fatalf("%v, %d wait", err, c.waiting())
	}
	// The same process again does not start another reading; another one is read.
	c.limit = time.Hour
	if _, err := c.read(t.Context(), 1); !errors.Is(err, errStuck) {
		t.Errorf("%v", err)
	}
	go release(2, "qemu\x00-uuid\x00x\x00")
	if args, err := c.read(t.Context(), 2); err != nil || strings.Join(args, " ") != "qemu -uuid x" {
		t.Errorf("%q, %v", args, err)
	}
	// Many processes cannot take all threads.
	c.limit = time.Millisecond
	for pid := 2; pid <= maxReadings+2; pid++ {
		if _, err := c.read(t.Context(), pid); !errors.Is(err, errStuck) {
			t.Errorf("%d: %v", pid, err)
		}
	}
	if n := c.waiting(); n != maxReadings {
		t.Errorf("%d readings wait, want %d", n, maxReadings)
	}
	for pid := 1; pid <= maxReadings; pid++ {
		release(pid, "x\x00")
	}
	eventually(t, "all readings have ended", func() bool { return c.waiting() == 0 })
}

// TestAHangingProcessKeepsNobodyOut: it is refused with a reason, and the gateway's own
// QEMU gets the seat.
func TestAHangingProcessKeepsNobodyOut(t *testing.T) {
	cfg := testConfig(runDir(t), "a")
	cfg.Gateways[0].Domain = ours
	r := startServer(t, cfg)
	c, release := hanging(t)
	bad := startChildWith(t, "-name", "guest=a", "-uuid", ours)
	r.Server.mu.Lock()
	g := r.Server.running.regions["a"]
	r.Server.mu.Unlock()
	real := g.lines.path
	fifo := c.path(1)
	g.lines.mu.Lock()
	g.lines.path = func(pid int) string {
		if pid == bad.cmd.Process.Pid {
			return fifo
		}
		return real(pid)
	}
	g.lines.mu.Unlock()
	r.waitsForLines(20 * time.Millisecond)
	for range 3 {
		if got := bad.do(t, "dial "+guestSocket(r.run, "a")); !strings.HasPrefix(got, "error") {
			t.Fatalf("%q", got)
		}
	}
	if n := r.gateway(t, "a").Refused["command line hangs"]; n != 3 {
		t.Errorf("%d refused, want 3", n)
	}
	if text := r.log.String(); !strings.Contains(text, "cannot be read in time") {
		t.Errorf("the log says not why: %s", text)
	}
	r.patient()
	startChildWith(t, "-name", "guest=a", "-uuid", ours).want(t, "dial "+guestSocket(r.run, "a"), "seat 2")
	release(1, "")
}
