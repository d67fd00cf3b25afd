package server

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// FromSystemd fills in what a service manager says by environment variables:
// NotifySocket, Watchdog, Inherited and, if the manager says that it has a store
// (systemd 254 and later: $FDSTORE), Store. It is for main, to be called once;
// LISTEN_FDS and its companions are unset, so that no child takes them for its
// own. Without a service manager it changes nothing.
func (c *Config) FromSystemd() error {
	c.NotifySocket = os.Getenv("NOTIFY_SOCKET")
	watchdog, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("WATCHDOG_USEC or WATCHDOG_PID: %w", err)
	}
	c.Watchdog = watchdog
	if room, err := strconv.Atoi(os.Getenv("FDSTORE")); err == nil && room > 0 {
		c.Store = true
	}
	var faults []error
	for _, f := range activation.Files(true) {
		fd := -1
		conn, err := f.SyscallConn()
		if err == nil {
			var dup error
			err = conn.Control(func(own uintptr) { fd, dup = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
			err = errors.Join(err, dup)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("descriptor %s of the store: %w", f.Name(), err))
		} else {
			c.Inherited = append(c.Inherited, Descriptor{Name: f.Name(), FD: fd})
		}
		_ = f.Close()
	}
	return errors.Join(faults...)
}
