package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"guardring/internal/configfile"
	"guardring/internal/hint"
	"guardring/internal/sockpath"
	"guardring/shmproto"
)

// Check implements configfile.Checker.
func (c *Config) Check(r *configfile.Report) {
	c.checkWays(r)
	oneOf(r, "policy", c.Policy, PolicyObey, PolicyObserve)
	oneOf(r, "circuits", c.Circuits, CircuitsLinger, CircuitsCut)
	oneOf(r, "enforce", c.Enforce, EnforceNone, EnforceNftables)
	oneOf(r, "join-gate", c.JoinGate, GateOff, GateOpen, GateClosed)
	c.checkRanges(r)
	c.checkExcept(r)
	c.checkInstances(r)
}

// checkWays is about the ways to the region and to ourselves.
func (c *Config) checkWays(r *configfile.Report) {
	if c.Region == "" {
		r.Fault("region", "no server socket", "name the gateway's socket, for instance /run/guardring/gateways/NAME.sock")
	}
	absoluteSocket(r, "region", c.Region)
	oneOf(r, "device", c.Device, DeviceAuto, DeviceVFIO, DevicePoll, DeviceSocket)
	if c.PCIAddress != "" && !pciAddress.MatchString(c.PCIAddress) {
		r.Fault("pci-address", fmt.Sprintf("%q is no PCI address", c.PCIAddress), "write it as lspci -D does, for instance 0000:00:10.0")
	} else if c.PCIAddress != "" && c.Device == DeviceSocket {
		r.Fault("pci-address", "device: socket uses no PCI device", "leave one of the two out")
	}
	if c.RunDir == "" {
		r.Fault("run-dir", "no directory", "name one, for instance /run/guardring-guest")
	}
	absolute(r, "run-dir", c.RunDir)
	if err := sockpath.Check(c.StatusSocket()); err != nil {
		r.Fault("run-dir", "status "+err.Error(), hint.Of(err))
	}
}

func (c *Config) checkRanges(r *configfile.Report) {
	within := func(key string, d, least, most time.Duration, remedy string) {
		if d < least || d > most {
			r.Fault(key, fmt.Sprintf("%s is out of range", d), remedy)
		}
	}
	within("join-gate-limit", c.JoinGateLimit, time.Second, time.Hour, "write 1s to 1h; Tor gives a stream up after two minutes (SocksTimeout)")
	if c.MinPassPercent < 20 || c.MinPassPercent > 100 {
		r.Fault("min-pass-percent", fmt.Sprintf("%d is out of range", c.MinPassPercent), "write 20 to 100; below 20 % Tor changes to another guard selection")
	}
	within("intro-gap", c.IntroGap, time.Second, time.Hour, "write 1s to 1h; the service must find time to build another one")
	within("request-timeout", c.RequestTimeout, time.Second, 10*time.Minute, "write 1s to 10m")
	// A host that ends just after a look was seen to live at the next one, too.
	within("slow-tick", c.SlowTick, 100*time.Millisecond, 28*time.Second, "write 100ms to 28s; the host's absence must be seen within a minute, which takes two of them")
}

func (c *Config) checkExcept(r *configfile.Report) {
	for i, name := range c.Except {
		key := fmt.Sprintf("except[%d]", i)
		if !shmproto.ValidName(name) {
			r.Fault(key, fmt.Sprintf("%q is no instance name", name), "write "+shmproto.NameRule)
		} else if len(c.Instances) > 0 {
			r.Fault(key, "except: is for Tors that are found, and instances: names them all", "leave the Tor out of instances:")
		}
	}
}

func (c *Config) checkInstances(r *configfile.Report) {
	if len(c.Instances) > shmproto.MaxMembers {
		r.Fault("instances", fmt.Sprintf("%d Tors", len(c.Instances)), fmt.Sprintf("a gateway has room for %d", shmproto.MaxMembers))
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
			absoluteSocket(r, key("control"), strings.TrimPrefix(in.Control, "unix:"))
		} else if in.Control != "" && !strings.Contains(in.Control, ":") {
			r.Fault(key("control"), fmt.Sprintf("%q is neither a socket's path nor host:port", in.Control), "write for instance /run/tor/control or 127.0.0.1:9051")
		}
		absolute(r, key("cookie"), in.Cookie)
		absolute(r, key("password-file"), in.PasswordFile)
		absolute(r, key("state"), in.State)
		absolute(r, key("torrc"), in.Torrc)
		absolute(r, key("include"), in.Include)
		absolute(r, key("settings-folder"), in.Folder)
	}
}

// absolute wants a path that means the same wherever the agent is started; "" is none.
func absolute(r *configfile.Report, key, path string) bool {
	if path == "" || filepath.IsAbs(path) {
		return true
	}
	r.Fault(key, fmt.Sprintf("%q is not an absolute path", path), "begin it with /")
	return false
}

// absoluteSocket wants besides that the path fits into a socket's address.
func absoluteSocket(r *configfile.Report, key, path string) {
	if path == "" || !absolute(r, key, path) {
		return
	}
	if err := sockpath.Check(path); err != nil {
		r.Fault(key, err.Error(), hint.Of(err))
	}
}

func oneOf(r *configfile.Report, key, value string, words ...string) {
	if !slices.Contains(words, value) {
		r.Fault(key, fmt.Sprintf("%q is not known", value), "write "+strings.Join(words, " or "))
	}
}
