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
	"strings"
	"time"

	"guardring/guest-agent/discovery"
	"guardring/internal/configfile"
	"guardring/internal/hint"
	"guardring/internal/sockpath"
	"guardring/shmproto"
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

// Check implements configfile.Checker.
func (c *Config) Check(r *configfile.Report) {
	absolute := func(key, path string, socket bool) {
		switch {
		case path == "":
		case !filepath.IsAbs(path):
			r.Fault(key, fmt.Sprintf("%q is not an absolute path", path), "begin it with /")
		case socket && sockpath.Check(path) != nil:
			r.Fault(key, sockpath.Check(path).Error(), hint.Of(sockpath.Check(path)))
		}
	}
	oneOf := func(key, value string, words ...string) {
		for _, w := range words {
			if value == w {
				return
			}
		}
		r.Fault(key, fmt.Sprintf("%q is not known", value), "write "+strings.Join(words, " or "))
	}
	if c.Region == "" {
		r.Fault("region", "no server socket", "name the gateway's socket, for instance /run/guardring/gateways/NAME.sock")
	}
	absolute("region", c.Region, true)
	oneOf("device", c.Device, DeviceAuto, DeviceVFIO, DevicePoll, DeviceSocket)
	if c.PCIAddress != "" && !pciAddress.MatchString(c.PCIAddress) {
		r.Fault("pci-address", fmt.Sprintf("%q is no PCI address", c.PCIAddress), "write it as lspci -D does, for instance 0000:00:10.0")
	} else if c.PCIAddress != "" && c.Device == DeviceSocket {
		r.Fault("pci-address", "device: socket uses no PCI device", "leave one of the two out")
	}
	if c.RunDir == "" {
		r.Fault("run-dir", "no directory", "name one, for instance /run/guardring-guest")
	}
	absolute("run-dir", c.RunDir, false)
	if err := sockpath.Check(c.StatusSocket()); err != nil {
		r.Fault("run-dir", "status "+err.Error(), hint.Of(err))
	}
	oneOf("policy", c.Policy, PolicyObey, PolicyObserve)
	oneOf("circuits", c.Circuits, CircuitsLinger, CircuitsCut)
	oneOf("enforce", c.Enforce, EnforceNone, EnforceNftables)
	oneOf("join-gate", c.JoinGate, GateOff, GateOpen, GateClosed)
	if c.JoinGateLimit < time.Second || c.JoinGateLimit > time.Hour {
		r.Fault("join-gate-limit", fmt.Sprintf("%s is out of range", c.JoinGateLimit), "write 1s to 1h; Tor gives a stream up after two minutes (SocksTimeout)")
	}
	if c.MinPassPercent < 20 || c.MinPassPercent > 100 {
		r.Fault("min-pass-percent", fmt.Sprintf("%d is out of range", c.MinPassPercent), "write 20 to 100; below 20 % Tor changes to another guard selection")
	}
	if c.IntroGap < time.Second || c.IntroGap > time.Hour {
		r.Fault("intro-gap", fmt.Sprintf("%s is out of range", c.IntroGap), "write 1s to 1h; the service must find time to build another one")
	}
	if c.RequestTimeout < time.Second || c.RequestTimeout > 10*time.Minute {
		r.Fault("request-timeout", fmt.Sprintf("%s is out of range", c.RequestTimeout), "write 1s to 10m")
	}
	// A host that ends just after a look was seen to live at the next one, too.
	if c.SlowTick < 100*time.Millisecond || c.SlowTick > 28*time.Second {
		r.Fault("slow-tick", fmt.Sprintf("%s is out of range", c.SlowTick), "write 100ms to 28s; the host's absence must be seen within a minute, which takes two of them")
	}
	if len(c.Instances) > shmproto.MaxMembers {
		r.Fault("instances", fmt.Sprintf("%d Tors", len(c.Instances)), fmt.Sprintf("a gateway has room for %d", shmproto.MaxMembers))
	}
	for i, name := range c.Except {
		key := fmt.Sprintf("except[%d]", i)
		if !shmproto.ValidName(name) {
			r.Fault(key, fmt.Sprintf("%q is no instance name", name), "write "+shmproto.NameRule)
		} else if len(c.Instances) > 0 {
			r.Fault(key, "except: is for Tors that are found, and instances: names them all", "leave the Tor out of instances:")
		}
	}
	seen := map[string]bool{}
	for i, in := range c.Instances {
		key := func(k string) string { return fmt.Sprintf("instances[%d].%s", i, k) }
		if !shmproto.ValidName(in.Name) {
			r.Fault(key("name"), fmt.Sprintf("%q is no instance name", in.Name), "write "+shmproto.NameRule)
		} else if seen[in.Name] {
			r.Fault(key("name"), fmt.Sprintf("%q is named twice", in.Name), "give each Tor a name of its own")
		}
		seen[in.Name] = true
		if in.Role != "" && !shmproto.ValidName(in.Role) {
			r.Fault(key("role"), fmt.Sprintf("%q is no role", in.Role), "write "+shmproto.NameRule)
		}
		if strings.Contains(in.Control, "/") {
			absolute(key("control"), strings.TrimPrefix(in.Control, "unix:"), true)
		} else if in.Control != "" && !strings.Contains(in.Control, ":") {
			r.Fault(key("control"), fmt.Sprintf("%q is neither a socket's path nor host:port", in.Control), "write for instance /run/tor/control or 127.0.0.1:9051")
		}
		for k, p := range map[string]string{"cookie": in.Cookie, "password-file": in.PasswordFile, "state": in.State, "torrc": in.Torrc, "include": in.Include, "settings-folder": in.Folder} {
			absolute(key(k), p, false)
		}
	}
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
// where nothing is to be changed.
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
	}
	if in.Group != "" {
		// Debian names an instance's user and group alike. A group that does not
		// exist means a Tor that is not Debian's: the creator's group stays.
		if g, err := user.LookupGroup(in.Group); err == nil {
			if gid, err = strconv.Atoi(g.Gid); err != nil {
				return -1, -1, fmt.Errorf("group %s: %w", in.Group, err)
			}
		}
	}
	return uid, gid, nil
}
