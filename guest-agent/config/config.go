// Package config is the guest agent's configuration file: strict YAML, every
// fault reported with its line and remedy.
//
// Trust: the administrator writes the file; it may be wrong, not hostile.
package config

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"guardring/guest-agent/discovery"
	"guardring/internal/configfile"
)

// DefaultPath is where the file lies unless --config says otherwise.
const DefaultPath = "/etc/guardring/guest.yaml"

// Example is a commented file in which every setting has its default.
//
//go:embed example.yaml
var Example string

// Config is the agent's configuration.
type Config struct {
	// Device is auto, vfio, poll or socket: the way to the region.
	Device string `yaml:"device"`
	// PCIAddress is the address of the PCI device; "" is the one that is a gateway's.
	PCIAddress string `yaml:"pci-address"`
	// Region is the socket of the ivshmem server for this gateway, where there is no
	// PCI device.
	Region string `yaml:"region"`
	// RunDir holds the status socket and the writer locks. All agents of one
	// gateway must share it.
	RunDir string `yaml:"run-dir"`
	// User is the user that the agent runs as; `join` gives it the include files.
	// "" is whoever runs the command.
	User string `yaml:"user"`
	// Instances are the Tors; empty: all that are found on this machine.
	Instances []Instance `yaml:"instances"`
	// Except are names of Tors that are found but must not be served.
	Except []string `yaml:"except"`
	// Policy is obey or observe.
	Policy string `yaml:"policy"`
	// Circuits says what happens to circuits with streams through a guard that
	// must go: linger or cut.
	Circuits string `yaml:"circuits"`
	// Enforce is none or nftables: whether the packet filter drops what a Tor sends
	// to open a connection to an excluded guard.
	Enforce string `yaml:"enforce"`
	// IntroGap is the pause between two introduction circuits of an onion service
	// that are closed because they go through a guard that must go.
	IntroGap time.Duration `yaml:"intro-gap"`
	// JoinGate is off, open or closed: whether the streams of a new member wait until
	// the host has answered, and what becomes of them when it does not.
	JoinGate string `yaml:"join-gate"`
	// JoinGateLimit is how long they wait for the host.
	JoinGateLimit time.Duration `yaml:"join-gate-limit"`
	// MinPassPercent is the least share of the network's guards that must stay
	// usable, in percent.
	MinPassPercent int `yaml:"min-pass-percent"`
	// RequestTimeout bounds one request to a control port.
	RequestTimeout time.Duration `yaml:"request-timeout"`
	// SlowTick is how often everything is looked at although no event came.
	SlowTick time.Duration `yaml:"slow-tick"`
	// ShowFingerprints lets whole fingerprints into log and status.
	ShowFingerprints bool `yaml:"show-fingerprints"`
}

// Instance is one Tor. What is empty is taken from where Debian puts an instance
// of that name.
type Instance struct {
	Name         string `yaml:"name"`
	Role         string `yaml:"role"`          // what this Tor is for; "" is the name, unless that is "default"
	Control      string `yaml:"control"`       // unix socket, or host:port
	Cookie       string `yaml:"cookie"`        // "" is what Tor says
	PasswordFile string `yaml:"password-file"` // first line; only if Tor takes a password
	State        string `yaml:"state"`
	User         string `yaml:"user"` // the user that this Tor runs as; "" is what Tor says
	Torrc        string `yaml:"torrc"`
	Include      string `yaml:"include"`
	Folder       string `yaml:"settings-folder"` // Whonix: /usr/local/etc/torrc.d
	Group        string `yaml:"group"`           // a group that this Tor is in; `join` gives it the include file
}

// The values of Policy, Circuits, Enforce, Device and JoinGate.
const (
	PolicyObey     = "obey"
	PolicyObserve  = "observe"
	CircuitsLinger = "linger"
	CircuitsCut    = "cut"

	EnforceNone     = "none"
	EnforceNftables = "nftables"
	DeviceAuto      = "auto"
	DeviceVFIO      = "vfio"
	DevicePoll      = "poll"
	DeviceSocket    = "socket"
	GateOff         = "off"
	GateOpen        = "open"
	GateClosed      = "closed"
)

// Default returns the configuration of an empty file.
func Default() Config {
	return Config{
		Device:         DeviceAuto,
		Region:         "/run/guardring/gateways/default.sock",
		RunDir:         "/run/guardring-guest",
		Policy:         PolicyObey,
		Circuits:       CircuitsLinger,
		Enforce:        EnforceNone,
		IntroGap:       30 * time.Second,
		JoinGate:       GateOpen,
		JoinGateLimit:  90 * time.Second,
		MinPassPercent: 30,
		RequestTimeout: 15 * time.Second,
		SlowTick:       25 * time.Second,
	}
}

// StateDir holds what must be remembered across restarts.
const StateDir = "/var/lib/guardring-guest"

// pciAddress is how sysfs writes one, with the domain.
var pciAddress = regexp.MustCompile(`^[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]$`)

// Load reads the file at path. An error is configfile.Faults.
func Load(path string) (Config, error) {
	c := Default()
	if err := configfile.Load(path, &c); err != nil {
		return Config{}, err
	}
	return c, nil
}

// StatusSocket is where the agent's status document is read.
func (c *Config) StatusSocket() string { return filepath.Join(c.RunDir, "status.sock") }

// LeaveFile holds the names of the members that a running agent is asked to let
// go, one a line; the agent takes it away.
func (c *Config) LeaveFile() string { return filepath.Join(c.RunDir, "leave") }

// EnforceTable is the name of the agent's nftables table (inet). Each run-dir has
// its own: two agents on one machine must not undo each other's rules.
func (c *Config) EnforceTable() string {
	if c.RunDir == Default().RunDir {
		return "guardring-guest"
	}
	sum := sha256.Sum256([]byte(c.RunDir))
	return "guardring-guest-" + hex.EncodeToString(sum[:4])
}

// Tors lists the Tors to serve, with every path filled in: the configured
// instances, or those found below root ("/" in production), which may be more
// than a gateway has room for.
func (c *Config) Tors(root string) ([]Instance, error) {
	if len(c.Instances) == 0 {
		found, err := discovery.Find(root)
		if err != nil {
			return nil, err
		}
		var out []Instance
		for _, t := range found {
			if slices.Contains(c.Except, t.Name) {
				continue
			}
			in := Instance{Name: t.Name}
			in.fill(t)
			in.fillRole()
			out = append(out, in)
		}
		return out, nil
	}
	out := append([]Instance(nil), c.Instances...)
	for i := range out {
		in := &out[i]
		t := discovery.Instance(root, in.Name)
		if in.Name == discovery.Default {
			t = discovery.DefaultTor(root)
		}
		in.fill(t)
		in.fillRole()
	}
	return out, nil
}

// fillRole says what the Tor is for where the user did not: an instance's name
// tells, "default" does not.
func (in *Instance) fillRole() {
	if in.Role == "" && in.Name != discovery.Default {
		in.Role = in.Name
	}
}

// fill takes from t what is empty. A Tor that is reached elsewhere than where
// Debian puts one has its files elsewhere, too: they are not guessed.
func (in *Instance) fill(t discovery.Tor) {
	if in.Control != "" && in.Control != t.Control {
		if in.Torrc != "" && in.Include == "" {
			in.Include = filepath.Join(filepath.Dir(in.Torrc), "guardring", in.Name+".conf")
		}
		return
	}
	for _, f := range []struct {
		to   *string
		from string
	}{
		{&in.Control, t.Control}, {&in.State, t.State}, {&in.Torrc, t.Torrc}, {&in.Include, t.Include}, {&in.Folder, t.Folder}, {&in.Group, t.User}, {&in.User, t.User},
	} {
		if *f.to == "" {
			*f.to = f.from
		}
	}
}

// Owner looks up the user and group that own an instance's include file; -1
// where nothing is to be changed. Without a group of Tor's it is that of the agent's
// user, who writes the file anew and could not give it to another.
func (c *Config) Owner(in Instance) (uid, gid int, err error) {
	uid, gid = -1, -1
	if c.User != "" {
		u, err := user.Lookup(c.User)
		if err != nil {
			return -1, -1, fmt.Errorf("user %s of the configuration: %w", c.User, err)
		}
		if uid, err = strconv.Atoi(u.Uid); err != nil {
			return -1, -1, fmt.Errorf("user %s: %w", c.User, err)
		}
		if gid, err = strconv.Atoi(u.Gid); err != nil {
			return -1, -1, fmt.Errorf("group of user %s: %w", c.User, err)
		}
	}
	if in.Group != "" {
		// Debian names an instance's user and group alike. A group that does not
		// exist means a Tor that is not Debian's.
		if g, err := user.LookupGroup(in.Group); err == nil {
			if gid, err = strconv.Atoi(g.Gid); err != nil {
				return -1, -1, fmt.Errorf("group %s: %w", in.Group, err)
			}
		}
	}
	return uid, gid, nil
}
