package server

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"guardring/internal/statussock"
)

// systemd emulates the service manager's side of the descriptor store: it
// receives descriptors, closes a barrier's end in turn, drops a stored
// connection that hangs up, and passes the rest on, in reverse order.
type systemd struct {
	socket string
	conn   *net.UnixConn

	mu     sync.Mutex
	stored []Descriptor
	log    []string // texts received, in order
	deaf   bool     // barriers are not answered
	held   []int    // the barriers' ends meanwhile
}

func startSystemd(t testing.TB) *systemd {
	t.Helper()
	m := &systemd{socket: filepath.Join(tempDir(t), "notify")}
	var err error
	if m.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.socket, Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); m.receive() }()
	t.Cleanup(func() {
		_ = m.conn.Close()
		<-done
		for _, d := range m.stored {
			_ = unix.Close(d.FD)
		}
		for _, fd := range m.held {
			_ = unix.Close(fd)
		}
	})
	return m
}

func (m *systemd) receive() {
	b, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4*16))
	for {
		n, oobn, _, _, err := m.conn.ReadMsgUnix(b, oob)
		if err != nil {
			return
		}
		var fds []int
		messages, _ := unix.ParseSocketControlMessage(oob[:oobn])
		for i := range messages {
			got, _ := unix.ParseUnixRights(&messages[i])
			fds = append(fds, got...)
		}
		m.take(string(b[:n]), fds)
	}
}

func (m *systemd) take(text string, fds []int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log = append(m.log, text)
	fields := make(map[string]string)
	for line := range strings.SplitSeq(text, "\n") {
		k, v, _ := strings.Cut(line, "=")
		fields[k] = v
	}
	switch {
	case fields["FDSTORE"] == "1":
		for _, fd := range fds {
			m.stored = append(m.stored, Descriptor{fields["FDNAME"], fd})
		}
		return
	case fields["FDSTOREREMOVE"] == "1":
		m.stored = slices.DeleteFunc(m.stored, func(d Descriptor) bool {
			if d.Name == fields["FDNAME"] {
				_ = unix.Close(d.FD)
			}
			return d.Name == fields["FDNAME"]
		})
	case fields["BARRIER"] == "1" && m.deaf:
		m.held = append(m.held, fds...)
		return
	}
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// names returns what is stored, sorted; connections that have hung up are
// dropped first, as systemd does.
func (m *systemd) names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stored = slices.DeleteFunc(m.stored, func(d Descriptor) bool {
		gone := strings.Contains(d.Name, "/connection/") && pollNow(d.FD, 0)&unix.POLLHUP != 0
		if gone {
			_ = unix.Close(d.FD)
		}
		return gone
	})
	var names []string
	for _, d := range m.stored {
		names = append(names, d.Name)
	}
	slices.Sort(names)
	return names
}

// drop makes the store forget names that contain s, as if they had never come.
func (m *systemd) drop(s string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stored = slices.DeleteFunc(m.stored, func(d Descriptor) bool { return strings.Contains(d.Name, s) })
}

func (m *systemd) heard(text string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Contains(m.log, text)
}

// service is a server process under the emulated service manager.
type service struct {
	cmd *exec.Cmd
	log *logBuffer
}

// start starts a server process with what is stored.
func (m *systemd) start(t testing.TB, run string, gateways ...string) *service {
	t.Helper()
	m.names()
	s := &service{cmd: self(t, "server"), log: &logBuffer{}}
	s.cmd.Stderr = s.log
	m.mu.Lock()
	m.log = nil
	var names []string
	for _, d := range slices.Backward(m.stored) {
		fd, err := unix.FcntlInt(uintptr(d.FD), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), d.Name)
		defer f.Close()
		s.cmd.ExtraFiles = append(s.cmd.ExtraFiles, f)
		names = append(names, d.Name)
	}
	m.mu.Unlock()
	s.cmd.Env = append(s.cmd.Env,
		"NOTIFY_SOCKET="+m.socket, "GUARDRING_TEST_RUN="+run, "GUARDRING_TEST_GATEWAYS="+strings.Join(gateways, " "))
	if len(names) > 0 {
		s.cmd.Env = append(s.cmd.Env, fmt.Sprintf("LISTEN_FDS=%d", len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			t.Logf("server process:\n%s", s.log)
		}
	})
	eventually(t, "READY=1", func() bool { return m.heard("READY=1") })
	if _, err := statussock.Fetch(statusSocket(run), "server", patience); err != nil {
		t.Fatal(err)
	}
	return s
}

// says waits until the log, which comes through a pipe, has the text.
func (s *service) says(t testing.TB, text string) {
	t.Helper()
	eventually(t, "the log says "+text, func() bool { return strings.Contains(s.log.String(), text) })
}

func (s *service) kill() {
	if s.cmd.ProcessState == nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
}

func (s *service) terminate(t testing.TB) {
	t.Helper()
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	if err := s.cmd.Wait(); err != nil {
		t.Fatalf("server: %v", err)
	}
}
