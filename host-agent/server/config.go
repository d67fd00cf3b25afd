package server

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"guardring/host-agent/rundir"
	"guardring/internal/sockpath"
	"guardring/shmproto"
)

const defaultSocketMode = 0o660

// KeepID leaves a socket's owner or group as it is made: the server's own.
const KeepID = -1

// Config is what a server needs to know. The zero value of each field has the
// meaning that is stated there; New checks everything at once.
type Config struct {
	// RunDir is the directory of sockets and lock; "" is /run/guardring. It is
	// made if it is missing (its parent is not) and must belong to root or to
	// the server's user. No other user may be able to write in it.
	RunDir string
	// Gateways to serve from the start. See Server.Apply.
	Gateways []Gateway
	// Reread returns the gateways that are configured by now, for Server.Reload;
	// nil: they never change. It is called by one goroutine at a time.
	Reread func() ([]Gateway, error)
	// StatusMode is the mode of RUN/server.sock; 0 is 0600.
	StatusMode fs.FileMode
	// Store keeps all descriptors in systemd's store too, so that they survive
	// this process. It needs NotifySocket.
	Store bool
	// NotifySocket is the service manager's socket ($NOTIFY_SOCKET; a leading
	// "@" is an abstract address); "" if there is no service manager.
	NotifySocket string
	// Watchdog is how often the service manager must hear from us; 0 is never.
	Watchdog time.Duration
	// Inherited are descriptors out of the store ($LISTEN_FDS). Run owns them.
	Inherited []Descriptor
	// AcceptBurst connections on one socket are answered at once, then
	// AcceptRate a second; 0 is 16 and 10. More wait in the socket's queue.
	AcceptBurst int
	AcceptRate  float64
	// StoreTimeout is how long a client may be kept waiting until the service
	// manager has stored what it needs; 0 is 2 seconds. Past it the server goes
	// on without, and says so.
	StoreTimeout time.Duration
}

// Descriptor is an open descriptor with its name in the store.
type Descriptor struct {
	Name string
	FD   int
}

// Gateway is one gateway to serve.
type Gateway struct {
	Name string // see shmproto.ValidName
	// UID and GID own the socket RUN/gateways/NAME.sock; KeepID keeps the
	// server's. Note that 0 is root. QEMU under libvirt on Debian needs the
	// group libvirt-qemu.
	UID, GID int
	// Mode of that socket; 0 is 0660.
	Mode fs.FileMode
	// AllowUIDs and AllowGIDs are the users and (primary) groups of processes
	// that may take the guest seat: a process passes if either has its own. If
	// both are empty, root, the server's user, and UID and GID pass.
	AllowUIDs, AllowGIDs []uint32
	// Label, if not "", is the AppArmor profile that the process must be
	// confined by, in enforce mode, such as "libvirt-<UUID>".
	Label string
	// Domain, if not "", is the UUID of the libvirt domain whose QEMU the process
	// must be, in lower or upper case.
	Domain string
}

func (g Gateway) equal(h Gateway) bool {
	return g.Name == h.Name && g.UID == h.UID && g.GID == h.GID && g.Mode == h.Mode && g.Label == h.Label && g.Domain == h.Domain &&
		slices.Equal(g.AllowUIDs, h.AllowUIDs) && slices.Equal(g.AllowGIDs, h.AllowGIDs)
}

// validate sets the defaults and returns all faults, joined.
func (c *Config) validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if c.RunDir == "" {
		c.RunDir = rundir.Default
	}
	if !filepath.IsAbs(c.RunDir) {
		fault("run directory %q: must be an absolute path", c.RunDir)
	}
	if c.StatusMode == 0 {
		c.StatusMode = 0o600
	}
	if c.StatusMode&^0o777 != 0 {
		fault("status mode %#o: only permission bits (0 to 0777)", uint32(c.StatusMode))
	}
	if c.Store && c.NotifySocket == "" {
		fault("descriptor store: NOTIFY_SOCKET is not set; the store is systemd's, for services with Type=notify and FileDescriptorStoreMax")
	}
	if c.AcceptBurst == 0 {
		c.AcceptBurst = 16
	}
	if c.AcceptRate == 0 {
		c.AcceptRate = 10
	}
	if c.StoreTimeout == 0 {
		c.StoreTimeout = 2 * time.Second
	}
	if c.AcceptBurst < 1 || c.AcceptRate <= 0 {
		fault("accept burst %d, rate %g: both must be positive", c.AcceptBurst, c.AcceptRate)
	}
	if c.Watchdog < 0 || c.StoreTimeout < 0 {
		fault("watchdog %s, store timeout %s: neither may be negative", c.Watchdog, c.StoreTimeout)
	}
	faults = append(faults, validateGateways(c.RunDir, c.Gateways)...)
	return errors.Join(faults...)
}

func validateGateways(run string, gateways []Gateway) []error {
	var faults []error
	seen := make(map[string]bool)
	for i := range gateways {
		g := &gateways[i]
		if g.Mode == 0 {
			g.Mode = defaultSocketMode
		}
		fault := func(format string, args ...any) {
			faults = append(faults, fmt.Errorf("gateway %q: %w", g.Name, fmt.Errorf(format, args...)))
		}
		if !shmproto.ValidName(g.Name) {
			fault("no valid name: want %s", shmproto.NameRule)
		}
		if seen[g.Name] {
			fault("named twice")
		}
		seen[g.Name] = true
		if g.UID < KeepID || g.GID < KeepID {
			fault("socket owner %d:%d: want a user and a group number, or %d to keep the server's", g.UID, g.GID, KeepID)
		}
		if g.Mode&^0o777 != 0 {
			fault("socket mode %#o: only permission bits (0 to 0777)", uint32(g.Mode))
		}
		path := rundir.Dir(run).GuestSocket(g.Name)
		if err := sockpath.Check(path); err != nil {
			fault("%s: %w", path, err)
		}
	}
	return faults
}
