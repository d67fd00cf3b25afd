package tornet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Tor is one tor process of the network: an authority, a relay or a client. Its files outlive its process, so it can be
// stopped and started again.
type Tor struct {
	// Name is the nickname, and the name of its directory.
	Name string
	// Dir holds torrc, the data directory and the logs.
	Dir string

	// state reads the state file of a Tor that runs elsewhere; nil: it is here.
	state func() ([]byte, error)

	mu   sync.Mutex
	proc *Process
	ctl  *Control
}

// Torrc is the configuration file's path.
func (t *Tor) Torrc() string { return filepath.Join(t.Dir, "torrc") }

// DataDir is the data directory.
func (t *Tor) DataDir() string { return filepath.Join(t.Dir, "data") }

// StateFile is the state file's path.
func (t *Tor) StateFile() string { return filepath.Join(t.DataDir(), "state") }

// ControlSocket is the control port's path.
func (t *Tor) ControlSocket() string { return filepath.Join(t.Dir, "control") }

// CookieFile is the control port's cookie.
func (t *Tor) CookieFile() string { return filepath.Join(t.Dir, "control.authcookie") }

// NoticeLog is the log at level notice.
func (t *Tor) NoticeLog() string { return filepath.Join(t.Dir, "notice.log") }

// GuardLog is the log of Tor's guard code at level info; clients only.
func (t *Tor) GuardLog() string { return filepath.Join(t.Dir, "guard.log") }

// SocksSocket is a client's SOCKS port.
func (t *Tor) SocksSocket() string { return filepath.Join(t.Dir, "socks") }

// Control is the connection to the running Tor's control port.
func (t *Tor) Control() *Control {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ctl
}

// Running tells whether the process runs.
func (t *Tor) Running() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.proc != nil && t.proc.Running()
}

// PID is the process ID. Preconditions: Start has been called.
func (t *Tor) PID() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.proc.PID()
}

// Exited is closed when the process has ended. Preconditions: Start has been called.
func (t *Tor) Exited() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.proc.Done()
}

// Start starts the process and connects to its control port.
func (t *Tor) Start(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.proc != nil && t.proc.Running() {
		return fmt.Errorf("%s runs already", t.Name)
	}
	// A socket and cookie of the last run would be taken for the new one's.
	for _, f := range []string{t.ControlSocket(), t.CookieFile()} {
		if err := os.Remove(f); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	stdout, err := os.OpenFile(filepath.Join(t.Dir, "stdout.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer stdout.Close()
	cmd := exec.Command("tor", "--defaults-torrc", "/dev/null", "-f", t.Torrc(), "--__OwningControllerProcess", strconv.Itoa(os.Getpid()))
	cmd.Stdout, cmd.Stderr = stdout, stdout
	proc, err := Spawn(cmd)
	if err != nil {
		return err
	}
	t.proc = proc
	ctl, err := t.dial(ctx)
	if err != nil {
		proc.Kill()
		return fmt.Errorf("%s: %w", t.Name, err)
	}
	t.ctl = ctl
	return nil
}

// dial connects as soon as the control port listens. Tor announces that to nobody, so the socket is tried every few
// milliseconds until Tor has ended or ctx has.
func (t *Tor) dial(ctx context.Context) (*Control, error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var ended <-chan struct{}
	if t.proc != nil {
		ended = t.proc.Done()
	}
	for {
		ctl, err := DialControl(ctx, t.ControlSocket(), t.CookieFile())
		if err == nil {
			return ctl, nil
		}
		select {
		case <-tick.C:
		case <-ended:
			return nil, fmt.Errorf("tor ended at start: %w: %s", t.proc.Err(), t.lastWords())
		case <-ctx.Done():
			return nil, errors.Join(err, ctx.Err())
		}
	}
}

// lastWords is the end of what Tor said.
func (t *Tor) lastWords() string {
	b, err := os.ReadFile(filepath.Join(t.Dir, "stdout.log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-4):], " / ")
}

// Stop ends the process and waits for it. State is saved by Tor while it shuts down. Not running is no error.
func (t *Tor) Stop() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.proc == nil {
		return nil
	}
	t.hangUp()
	// A second SIGINT or SIGTERM skips ShutdownWaitLength; clients leave at once.
	return t.proc.Stop(10 * time.Second)
}

// Kill ends the process with SIGKILL: Tor saves nothing.
func (t *Tor) Kill() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hangUp()
	if t.proc == nil {
		return nil
	}
	return t.proc.Kill()
}

// hangUp closes the control connection. The caller holds mu.
func (t *Tor) hangUp() {
	if t.ctl != nil {
		t.ctl.Close()
		t.ctl = nil
	}
}

// HUP sends SIGHUP, as logrotate does.
func (t *Tor) HUP() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.proc.Signal(syscall.SIGHUP)
}

// ReadState reads the state file.
func (t *Tor) ReadState() ([]byte, error) {
	if t.state != nil {
		return t.state()
	}
	return os.ReadFile(t.StateFile())
}

// Log reads the log at level notice.
func (t *Tor) Log() (string, error) {
	b, err := os.ReadFile(t.NoticeLog())
	return string(b), err
}
