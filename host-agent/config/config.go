// Package config is the host's configuration: one file that server,
// coordinator and status commands share, and a directory of gateways beside it.
//
// Trust: the administrator writes it. Its faults are reported all at once, with
// file, line and remedy (package configfile).
package config

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"guardring/host-agent/rundir"
	"guardring/internal/configfile"
	"guardring/shmproto"
)

// DefaultPath is read when no file is named; it may be missing.
const DefaultPath = "/etc/guardring/guardring.yaml"

// Example is a commented file that gives every key its default.
//
//go:embed guardring.yaml
var Example string

// Config is the host's configuration. The documentation of each key for
// administrators is Example.
type Config struct {
	RunDir           string        `yaml:"run-dir"`           // sockets; absolute
	LedgerDir        string        `yaml:"ledger-dir"`        // absolute
	Policy           Policy        `yaml:"policy"`            // observe or disjoint
	Heartbeat        time.Duration `yaml:"heartbeat"`         // 100ms to 1m; the standby acts within three of them
	Rescan           time.Duration `yaml:"rescan"`            // 100ms to 10m; how often everything is looked at without a doorbell
	Retention        time.Duration `yaml:"retention"`         // how long claims of what was left or is away stay
	Hold             time.Duration `yaml:"hold"`              // least time of an exclusion
	Levels           []Level       `yaml:"levels"`            // compared besides the relay itself
	Groups           []RelayGroup  `yaml:"groups"`            // relays in one hand, as the operator knows
	Consensus        string        `yaml:"consensus"`         // file that verifies relays' addresses; absolute; "" for none
	Delay            Delay         `yaml:"delay"`             // before a used guard is moved
	Budgets          Budgets       `yaml:"budgets"`           // of each member
	JournalSize      Size          `yaml:"journal-size"`      // of one of the two segments in RUN/host/journal
	ShowFingerprints bool          `yaml:"show-fingerprints"` // whole fingerprints in logs and status
	StatusMode       Mode          `yaml:"status-mode"`       // of the status sockets
	DescriptorStore  bool          `yaml:"descriptor-store"`  // keep descriptors in systemd's store
	LibvirtURI       string        `yaml:"libvirt-uri"`       // which driver
	LibvirtSocket    string        `yaml:"libvirt-socket"`    // absolute; for guardring gateway
	LibvirtWatch     string        `yaml:"libvirt-watch"`     // read-only socket, for the coordinator; absolute; "" for not
	DomainsDir       string        `yaml:"domains-dir"`       // backups of domains' documents; absolute
	AgentISO         string        `yaml:"agent-iso"`         // image with the guest's agent; absolute
	GuestAgent       string        `yaml:"guest-agent"`       // the program that is put on it; absolute; "" for where it is usually
	GatewaysDir      string        `yaml:"gateways-dir"`      // one file per gateway; relative to the file's directory; "" for none
	Gateways         []Gateway     `yaml:"gateways"`
}

// Gateway is one gateway: an item of Config.Gateways, or a file in GatewaysDir.
type Gateway struct {
	Name            string  `yaml:"name"`
	Owner           User    `yaml:"owner"` // of the socket; Keep if not given
	Group           Group   `yaml:"group"` // of the socket; Keep if not given
	Mode            Mode    `yaml:"mode"`  // of the socket
	AllowUsers      []User  `yaml:"allow-users"`
	AllowGroups     []Group `yaml:"allow-groups"`
	AppArmorProfile string  `yaml:"apparmor-profile"`
	Domain          UUID    `yaml:"domain"` // of the libvirt domain whose QEMU takes the seat; "" for any
}

// Default returns the configuration of an empty file.
func Default() Config {
	return Config{
		RunDir: rundir.Default, LedgerDir: "/var/lib/guardring", Policy: "observe",
		Heartbeat: time.Second, Rescan: 5 * time.Second, Retention: 60 * day, Hold: 120 * day,
		Levels: []Level{"family"}, Groups: []RelayGroup{}, Delay: Delay{10 * time.Minute, 6 * time.Hour},
		Budgets: defaultBudgets(), JournalSize: 4 << 20,
		LibvirtURI: "qemu:///system", LibvirtSocket: "/run/libvirt/libvirt-sock", LibvirtWatch: "/run/libvirt/libvirt-sock-ro",
		DomainsDir: "/var/lib/guardring-domains", AgentISO: "/var/lib/libvirt/images/guardring-guest.iso",
		StatusMode: 0o600, GatewaysDir: "gateways.d", Gateways: []Gateway{},
	}
}

// Default gives a gateway its defaults (see configfile.Defaulter).
func (Gateway) Default() any { return Gateway{Owner: Keep, Group: Keep, Mode: 0o660} }

// Load reads the file at path and the gateways beside it into a Config that
// starts from Default. With path "" it is DefaultPath, and a missing file means
// the defaults. The error is a configfile.Faults.
func Load(path string) (Config, error) {
	cfg := Default()
	optional := path == ""
	if optional {
		path = DefaultPath
	}
	files := []*configfile.File{}
	if _, err := os.Lstat(path); !optional || !errors.Is(err, fs.ErrNotExist) {
		files = append(files, configfile.Open(path, &cfg))
	}
	dir := cfg.GatewaysDir
	if dir != "" && !filepath.IsAbs(dir) {
		dir = filepath.Join(filepath.Dir(path), dir)
	}
	cfg.GatewaysDir = dir
	firsts := map[string]string{} // gateway name -> where it was met first
	for i, g := range cfg.Gateways {
		met(firsts, g.Name, files[0], fmt.Sprintf("gateways[%d].name", i))
	}
	dropIns, _ := filepath.Glob(filepath.Join(dir, "*.yaml")) // the pattern is well-formed
	if dir == "" {
		dropIns = nil
	}
	for _, name := range dropIns { // sorted
		g := Gateway{}.Default().(Gateway)
		f := configfile.Open(name, &g)
		met(firsts, g.Name, f, "name")
		files = append(files, f)
		cfg.Gateways = append(cfg.Gateways, g)
	}
	if err := configfile.Join(files...); err != nil {
		return Config{}, err
	}
	return cfg, nil
}

// met reports a gateway that was named before.
func met(firsts map[string]string, name string, f *configfile.File, key string) {
	if name == "" {
		return
	}
	if first, ok := firsts[name]; ok {
		f.Fault(key, fmt.Sprintf("gateway %q is configured already, in %s", name, first), "remove one of the two, or rename it")
		return
	}
	firsts[name] = fmt.Sprintf("%s:%d", f.Name(), f.Line(key))
}

// Check reports what the types do not (configfile.Checker).
func (c *Config) Check(r *configfile.Report) {
	for key, dir := range map[string]string{
		"run-dir": c.RunDir, "ledger-dir": c.LedgerDir, "libvirt-socket": c.LibvirtSocket, "libvirt-watch": c.LibvirtWatch,
		"domains-dir": c.DomainsDir, "agent-iso": c.AgentISO, "guest-agent": c.GuestAgent,
	} {
		if !filepath.IsAbs(dir) && (dir != "" || key != "libvirt-watch" && key != "guest-agent") {
			r.Fault(key, fmt.Sprintf("%q is not an absolute path", dir), "begin it with /")
		}
	}
	if c.Consensus != "" && !filepath.IsAbs(c.Consensus) {
		r.Fault("consensus", fmt.Sprintf("%q is not an absolute path", c.Consensus), "begin it with /, or write \"\" for none")
	}
	checkGroups(r, c.Groups)
	checkJournalSize(r, c.JournalSize)
	between(r, "heartbeat", c.Heartbeat, 100*time.Millisecond, time.Minute)
	between(r, "rescan", c.Rescan, 100*time.Millisecond, 10*time.Minute)
	between(r, "retention", c.Retention, time.Hour, 400*day)
	between(r, "hold", c.Hold, time.Hour, 400*day)
	if c.Delay.Most > c.Retention {
		r.Fault("delay.most", configfile.FormatDuration(c.Delay.Most)+" is longer than the retention, "+configfile.FormatDuration(c.Retention), "shorten it")
	}
}

func between(r *configfile.Report, key string, d, least, most time.Duration) {
	if d < least || d > most {
		r.Fault(key, configfile.FormatDuration(d)+" is out of range",
			fmt.Sprintf("want %s to %s", configfile.FormatDuration(least), configfile.FormatDuration(most)))
	}
}

// Check reports what the types do not (configfile.Checker).
func (g *Gateway) Check(r *configfile.Report) {
	if g.Name == "" {
		r.Fault("name", "is missing", "name the gateway, for instance after its libvirt domain")
	} else if !shmproto.ValidName(g.Name) {
		r.Fault("name", fmt.Sprintf("%q cannot be part of a socket's name", g.Name), "write "+shmproto.NameRule)
	}
}

// Policy is observe or disjoint.
type Policy string

var policies = []string{"observe", "disjoint"}

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Policy) UnmarshalText(b []byte) error {
	if !slices.Contains(policies, string(b)) {
		return fmt.Errorf("%q is no policy: observe or disjoint%s", b, didYouMean(string(b), policies))
	}
	*p = Policy(b)
	return nil
}

// Mode is permission bits, written in octal.
type Mode fs.FileMode

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *Mode) UnmarshalText(b []byte) error {
	n, err := strconv.ParseUint(strings.TrimPrefix(string(b), "0o"), 8, 32)
	if err != nil || n > 0o777 || n == 0 {
		return fmt.Errorf("%q is no mode: three octal digits such as 0660", b)
	}
	*m = Mode(n)
	return nil
}

// UUID is a libvirt domain's, in lower case.
type UUID string

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// UnmarshalText implements encoding.TextUnmarshaler.
func (u *UUID) UnmarshalText(b []byte) error {
	text := strings.ToLower(string(b))
	if text != "" && !uuidForm.MatchString(text) {
		return fmt.Errorf("%q is no UUID: virsh domuuid NAME shows the domain's", b)
	}
	*u = UUID(text)
	return nil
}

// Keep, as a User or Group, leaves owner or group as the server makes the file.
const Keep = -1

// lookup turns a name or number into a number.
func lookup(b []byte, what string, byName func(string) (string, error)) (int, error) {
	text := string(b)
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return int(n), nil
	}
	id, err := byName(text)
	if err != nil {
		return 0, fmt.Errorf("%s %q is not known on this machine", what, text)
	}
	n, err := strconv.ParseUint(id, 10, 31)
	return int(n), err
}

func userID(name string) (string, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return "", err
	}
	return u.Uid, nil
}

func groupID(name string) (string, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return "", err
	}
	return g.Gid, nil
}

// User is a user's number; a name in the file is looked up.
type User int

// UnmarshalText implements encoding.TextUnmarshaler.
func (u *User) UnmarshalText(b []byte) error {
	id, err := lookup(b, "user", userID)
	if err == nil {
		*u = User(id)
	}
	return err
}

// Group is a group's number; a name in the file is looked up.
type Group int

// UnmarshalText implements encoding.TextUnmarshaler.
func (g *Group) UnmarshalText(b []byte) error {
	id, err := lookup(b, "group", groupID)
	if err == nil {
		*g = Group(id)
	}
	return err
}
