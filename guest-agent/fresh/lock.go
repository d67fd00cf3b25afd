package fresh

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// answerTime is how long a control port may take to accept a connection.
const answerTime = 2 * time.Second

// lock takes Tor's own lock, so that this Tor does not run and is not started
// until release. A data directory without a lock file was never used by a Tor,
// or its lock was not copied; then only the control port tells. The lock file is
// not made: it would be ours, and Tor could not open it.
func (s Site) lock() (release func(), err error) {
	if s.answers() {
		return nil, fmt.Errorf("%w: its control port %s answers; nothing was changed", ErrRunning, s.Control)
	}
	path := filepath.Join(filepath.Dir(s.State), "lock")
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return func() {}, nil
	}
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: it holds %s; nothing was changed", ErrRunning, path)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { _ = f.Close() }, nil
}

// answers reports whether somebody accepts connections at the control port.
func (s Site) answers() bool {
	if s.Control == "" {
		return false
	}
	network, address := "tcp", s.Control
	if path := strings.TrimPrefix(s.Control, "unix:"); strings.HasPrefix(path, "/") {
		network, address = "unix", path
	}
	c, err := net.DialTimeout(network, address, answerTime)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}
