// Package libvirtd runs a libvirtd for tests, in mount and PID namespaces of its
// own: its sockets, configuration and state lie in a directory of the caller's,
// the machine's own libvirt is never touched, and when it is closed, or the test
// dies, everything that it started is gone. The network is the caller's.
//
// Needed: root, and Debian's libvirt-daemon and libvirt-daemon-driver-qemu.
// Domains run as root, without AppArmor and cgroups; facts about those come from a
// whole host in a VM.
//
// Inside, /run, /var/lib, /var/cache and /var/log are empty but for libvirt's
// folders: what a domain needs (disks, the server's sockets) must lie elsewhere,
// for instance below /tmp.
//
// Trust: a test's own.
package libvirtd

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// startTime is how long a libvirtd may take until it is ready: it looks at every
// QEMU binary then.
const startTime = 60 * time.Second

// inside prepares the namespaces and starts libvirtd for each line on its
// standard input.
//
//go:embed inside.sh
var inside string

// Daemon is a libvirtd that can be ended and started again while its domains run.
// Its methods are not for several goroutines at once.
type Daemon struct {
	dir    string
	cmd    *exec.Cmd
	orders io.WriteCloser
	ended  *bufio.Reader // a line each time libvirtd has ended
	notify *net.UnixConn
	log    *logFile
	pid    int // of libvirtd, 0 while it does not run
}

// Start runs a libvirtd with everything of it below dir, which must exist, and
// waits until it is ready. ctx ends it all.
func Start(ctx context.Context, dir string) (*Daemon, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("libvirtd needs mount namespaces: run the test as root")
	}
	for _, program := range []string{"libvirtd", "unshare"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, fmt.Errorf("%w (try: apt-get install --no-install-recommends libvirt-daemon libvirt-daemon-driver-qemu)", err)
		}
	}
	d := &Daemon{dir: dir}
	var err error
	address := &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"}
	if d.notify, err = net.ListenUnixgram("unixgram", address); err != nil {
		return nil, err
	}
	if err := passCredentials(d.notify); err != nil {
		return nil, err
	}
	file, err := os.Create(filepath.Join(dir, "libvirtd.log"))
	if err != nil {
		return nil, err
	}
	d.log = &logFile{f: file}
	d.cmd = exec.CommandContext(ctx, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", inside, "inside", dir)
	d.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+address.Name)
	d.cmd.Stderr = d.log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if d.orders, err = d.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	d.ended = bufio.NewReader(out)
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	if err := d.StartDaemon(); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// Socket is where libvirt is controlled.
func (d *Daemon) Socket() string { return filepath.Join(d.dir, "run", "libvirt-sock") }

// ReadOnlySocket is where libvirt may only be looked at.
func (d *Daemon) ReadOnlySocket() string { return filepath.Join(d.dir, "run", "libvirt-sock-ro") }

// Config is the directory that is /etc/libvirt inside; hooks are below it.
func (d *Daemon) Config() string { return filepath.Join(d.dir, "etc") }

// Virsh runs virsh against the driver of this URI, such as "qemu:///system", and
// returns its standard output.
func (d *Daemon) Virsh(uri string, args ...string) (string, error) {
	scheme, rest, _ := strings.Cut(uri, ":")
	cmd := exec.Command("virsh", append([]string{"-q", "-c", scheme + "+unix:" + rest + "?socket=" + d.Socket()}, args...)...)
	var out, text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &text
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("virsh %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(text.String()))
	}
	return out.String(), nil
}

// Log is what libvirtd has written so far.
func (d *Daemon) Log() string { return d.log.String() }

// StartDaemon starts libvirtd, which must not run, and waits until it is ready.
func (d *Daemon) StartDaemon() error {
	if _, err := io.WriteString(d.orders, "start\n"); err != nil {
		return fmt.Errorf("libvirtd: %w: %s", err, d.log)
	}
	if err := d.notify.SetReadDeadline(time.Now().Add(startTime)); err != nil {
		return err
	}
	message, control := make([]byte, 4096), make([]byte, 256)
	for {
		n, m, _, _, err := d.notify.ReadMsgUnix(message, control)
		if err != nil {
			return fmt.Errorf("libvirtd is not ready: %w: %s", err, d.log)
		}
		if !bytes.Contains(message[:n], []byte("READY=1")) {
			continue
		}
		d.pid, err = sender(control[:m])
		return err
	}
}

// StopDaemon ends libvirtd with the signal and waits for it. Its domains live on.
func (d *Daemon) StopDaemon(with syscall.Signal) error {
	if d.pid == 0 {
		return nil
	}
	if err := syscall.Kill(d.pid, with); err != nil {
		return err
	}
	d.pid = 0
	_, err := d.ended.ReadString('\n')
	return err
}

// Close ends libvirtd and everything that it started.
func (d *Daemon) Close() {
	_ = d.cmd.Process.Kill() // unshare, and with it the first process of the PID namespace
	_ = d.cmd.Wait()
	_ = d.notify.Close()
	_ = os.Remove(filepath.Join(d.dir, "notify"))
	_ = d.log.f.Close()
}

func passCredentials(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) { set = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_PASSCRED, 1) })
	return errors.Join(err, set)
}

// sender is the process that sent a message, by its number in our namespace.
func sender(control []byte) (int, error) {
	messages, err := syscall.ParseSocketControlMessage(control)
	if err != nil {
		return 0, err
	}
	for i := range messages {
		if cred, err := syscall.ParseUnixCredentials(&messages[i]); err == nil {
			return int(cred.Pid), nil
		}
	}
	return 0, errors.New("libvirtd's message says not who sent it")
}

// logFile keeps a log for looking into.
type logFile struct {
	mu   sync.Mutex
	f    *os.File
	text bytes.Buffer
}

func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	return l.f.Write(p)
}

func (l *logFile) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
