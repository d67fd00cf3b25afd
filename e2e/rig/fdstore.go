package rig

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"guardring/e2e/tornet"
)

// FDStore emulates a service manager's descriptor store (sd_notify(3), "FDSTORE=1"): it takes descriptors with their names, closes a
// barrier's descriptor once everything before it is stored, and hands all of them to the next start.
type FDStore struct {
	conn  *net.UnixConn
	path  string
	ready chan struct{} // a READY=1 that nobody has waited for yet

	mu    sync.Mutex
	names []string
	files []*os.File
}

// NewFDStore listens on a notify socket in dir.
func NewFDStore(dir string) (*FDStore, error) {
	s := &FDStore{path: filepath.Join(dir, "notify"), ready: make(chan struct{}, 1)}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: s.path, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	s.conn = conn
	go s.serve()
	return s, nil
}

func (s *FDStore) serve() {
	text, oob := make([]byte, 1<<16), make([]byte, 1<<16)
	for {
		n, m, _, _, err := s.conn.ReadMsgUnix(text, oob)
		if err != nil {
			return
		}
		var fds []int
		if msgs, err := syscall.ParseSocketControlMessage(oob[:m]); err == nil {
			for _, msg := range msgs {
				if f, err := syscall.ParseUnixRights(&msg); err == nil {
					fds = append(fds, f...)
				}
			}
		}
		s.take(string(text[:n]), fds)
	}
}

// take handles one message.
func (s *FDStore) take(message string, fds []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fields := map[string]string{}
	for line := range strings.SplitSeq(message, "\n") {
		if k, v, ok := strings.Cut(line, "="); ok {
			fields[k] = v
		}
	}
	if fields["READY"] == "1" {
		select {
		case s.ready <- struct{}{}:
		default:
		}
	}
	name := fields["FDNAME"]
	switch {
	case fields["FDSTORE"] == "1":
		for _, fd := range fds {
			s.names = append(s.names, name)
			s.files = append(s.files, os.NewFile(uintptr(fd), name))
		}
		return
	case fields["FDSTOREREMOVE"] == "1":
		for i := len(s.names) - 1; i >= 0; i-- {
			if s.names[i] == name {
				s.files[i].Close()
				s.names, s.files = slices.Delete(s.names, i, i+1), slices.Delete(s.files, i, i+1)
			}
		}
	}
	for _, fd := range fds { // a barrier's
		syscall.Close(fd)
	}
}

// AwaitReady waits until the server that was started last, p, has said that it is ready.
func (s *FDStore) AwaitReady(ctx context.Context, p *tornet.Process) error {
	select {
	case <-s.ready:
		return nil
	case <-p.Done():
		return fmt.Errorf("the server ended at start: %w", p.Err())
	case <-ctx.Done():
		return fmt.Errorf("the server does not become ready: %w", ctx.Err())
	}
}

// Len counts the stored descriptors.
func (s *FDStore) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.files)
}

// Close ends the store and closes what it holds.
func (s *FDStore) Close() error {
	err := s.conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.files {
		f.Close()
	}
	s.names, s.files = nil, nil
	return err
}

// StartServer runs `guardring serve` under the emulated service manager, with everything that is in the store.
func (r *Rig) StartServer(s *FDStore) (*tornet.Process, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out, err := os.OpenFile(r.LogFile("server"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	// LISTEN_PID must be the server's own, which only the shell that becomes it knows beforehand.
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$@"`, "sh", r.Host, "serve", "--config", r.ConfigFile())
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+s.path, "FDSTORE=512")
	if len(s.files) > 0 {
		cmd.Env = append(cmd.Env, "LISTEN_FDS="+strconv.Itoa(len(s.files)), "LISTEN_FDNAMES="+strings.Join(s.names, ":"))
	}
	cmd.ExtraFiles = s.files
	cmd.Stdout, cmd.Stderr = out, out
	p, err := tornet.Spawn(cmd)
	if err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.procs = append(r.procs, p)
	return p, nil
}
