//go:build e2e

package device

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"guardring/e2e/impostor"
	"guardring/e2e/rig"
	"guardring/e2e/tornet"
	"guardring/e2e/vmtest"
)

// gateway is one VM with an agent and a script for a Tor, on a host of its own. On the host an impostor stands for a second gateway, to
// have the first one ordered about.
type gateway struct {
	*vmtest.Guest
	t      *testing.T
	rig    *rig.Rig
	other  *impostor.Impostor
	script *script
	// Server and coordinator are processes of their own, the server with a descriptor store.
	store               *rig.FDStore
	server, coordinator *tornet.Process
}

// status is what this package reads of `guardring-guest status --json`.
type status struct {
	PID    int `json:"pid"`
	Region struct {
		Path       string `json:"path"`
		Attached   bool   `json:"attached"`
		Attachment uint64 `json:"attachment"`
		Device     string `json:"device"`
		Because    string `json:"because"`
		Polls      uint64 `json:"poll_wakeups"`
		Error      string `json:"error"`
	} `json:"region"`
	Host struct {
		Acting bool   `json:"acting"`
		Term   uint64 `json:"term"`
	} `json:"host"`
	Uptime  float64 `json:"uptime_seconds"`
	Wakeups uint64  `json:"timer_wakeups"`
	Members []struct {
		Guards []struct {
			Fingerprint string `json:"fingerprint"` // shortened
			Primary     bool   `json:"primary"`
		} `json:"guards"`
	} `json:"members"`
	Problems []struct {
		Text string `json:"text"`
	} `json:"problems"`
}

const member = "one/default"

var numbers atomic.Int32

// options say what is special about a gateway.
type options struct {
	noIOMMU bool
	machine string
	qemu    []string // options of QEMU
	device  string   // "" is auto
	tick    time.Duration
	lines   string // of the agent's configuration
}

// newGateway boots a VM whose agent is installed, prepared for nothing, and does not run.
func newGateway(t *testing.T, o options) *gateway {
	t.Helper()
	g := &gateway{t: t, script: newScript(t)}
	var err error
	if g.rig, err = rig.New(hostBinary, guestBinary, "disjoint"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.rig.Stop(); err != nil {
			t.Error(err)
		}
	})
	one, err := g.rig.Add("one")
	if err != nil {
		t.Fatal(err)
	}
	two, err := g.rig.Add("two")
	if err != nil {
		t.Fatal(err)
	}
	if g.store, err = rig.NewFDStore(g.rig.Dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.store.Close() })
	g.startServer()
	g.startCoordinator()
	if g.other, err = impostor.Take(two.Socket()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.other.Close() })
	if o.device == "" {
		o.device = "auto"
	}
	if o.tick == 0 {
		o.tick = 2 * time.Second
	}
	number := int(numbers.Add(1))
	config := fmt.Sprintf(`device: %s
slow-tick: %s
join-gate: off
instances:
  - name: default
    control: 192.168.%d.2:%d
    torrc: /etc/tor/torrc
    include: /etc/tor/guardring/default.conf
%s`, o.device, o.tick, 70+number, g.script.port(), o.lines)
	g.Guest, err = kit.Boot(t.Context(), vmtest.Options{
		Name: "one", Region: one.Socket(), IOMMU: !o.noIOMMU, Machine: o.machine, Network: &vmtest.Network{Number: number}, QEMU: o.qemu,
		Files: []vmtest.File{
			{Path: "/usr/bin/guardring-guest", Source: guestBinary, Mode: 0o755},
			{Path: "/usr/bin/device.test", Source: benchBinary, Mode: 0o755},
			{Path: "/etc/guardring/guest.yaml", Data: []byte(config)},
			{Path: "/etc/tor/torrc", Data: []byte("SocksPort 9050\n")},
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("console: %s", tail(g.Guest.Console()))
			t.Logf("agent: %s", tail(g.try("cat", "/run/agent.log")))
		}
		if err := g.Guest.Close(); err != nil {
			t.Error(err)
		}
	})
	g.install()
	return g
}

func tail(s string) string { return s[max(0, len(s)-4000):] }

func (g *gateway) startServer() {
	g.t.Helper()
	var err error
	if g.server, err = g.rig.StartServer(g.store); err != nil {
		g.t.Fatal(err)
	}
}

// startCoordinator waits until it acts, which it can when the server runs.
func (g *gateway) startCoordinator() {
	g.t.Helper()
	var err error
	if g.coordinator, err = g.rig.Start("host", nil, g.rig.Host, "coordinate", "--config", g.rig.ConfigFile()); err != nil {
		g.t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		s, _, err := g.rig.Status(g.t.Context())
		if err == nil && s.Acting() {
			return
		}
		if time.Now().After(end) || !g.coordinator.Running() {
			g.t.Fatalf("no coordinator acts: %+v, %v", s, err)
		}
	}
}

// install does what a user does once, and the machine's units at each boot. Guests here forget everything at a boot.
func (g *gateway) install() {
	g.must("sh", "-c", "mkdir -p /run/guardring-guest && chown debian-tor:debian-tor /run/guardring-guest")
	g.must("guardring-guest", "join")
	g.must("chown", "-R", "debian-tor:debian-tor", "/etc/tor/guardring")
}

// must runs a command in the guest.
func (g *gateway) must(argv ...string) string {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 90*time.Second)
	defer cancel()
	out, err := g.Run(ctx, argv...)
	if err != nil {
		g.t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// try is must for what may fail.
func (g *gateway) try(argv ...string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	out, err := g.Run(ctx, argv...)
	if err != nil {
		return err.Error()
	}
	return out
}

// start runs the agent as Debian's Tor user, in the background, and returns its process ID.
func (g *gateway) start(env ...string) int {
	g.t.Helper()
	pid := g.must("sh", "-c", strings.Join(env, " ")+" su -s /bin/sh debian-tor -c 'exec guardring-guest run' >>/run/agent.log 2>&1 & echo $!")
	return number(g.t, pid)
}

// gone waits for the end of a process in the guest.
func (g *gateway) gone(pid int) {
	g.t.Helper()
	g.must("sh", "-c", fmt.Sprintf("while kill -0 %d 2>/dev/null; do sleep 0.05; done", pid))
}

// await waits until the running agent's status is as wanted, at most for d.
func (g *gateway) await(d time.Duration, what string, wanted func(status) bool) status {
	g.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		if s := g.status(); s.PID != 0 && wanted(s) {
			return s
		}
	}
	g.t.Fatalf("not within %s: %s; status: %s", d, what, g.try("guardring-guest", "status", "--json"))
	return status{}
}

// status asks the running agent; the zero value if there is none.
func (g *gateway) status() (s status) {
	if err := json.Unmarshal([]byte(g.try("guardring-guest", "status", "--json")), &s); err != nil {
		return status{}
	}
	return s
}

// works waits until the agent has its region by the wanted device, and the host acts.
func (g *gateway) works(device string) status {
	g.t.Helper()
	return g.await(30*time.Second, "the agent works by "+device, func(s status) bool {
		return s.Region.Attached && s.Region.Device == device && s.Host.Acting && len(s.Problems) == 0
	})
}

// hostSees waits until the coordinator says of our member what is wanted.
func (g *gateway) hostSees(d time.Duration, what string, wanted func(rig.Member) bool) rig.Member {
	g.t.Helper()
	return g.hostSays(d, what, func(s rig.Status) bool { return wanted(s.Member(member)) }).Member(member)
}

// hostSays waits until the host's status is as wanted.
func (g *gateway) hostSays(d time.Duration, what string, wanted func(rig.Status) bool) rig.Status {
	g.t.Helper()
	var s rig.Status
	var err error
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		s, _, err = g.rig.Status(g.t.Context())
		if err == nil && wanted(s) {
			return s
		}
	}
	g.t.Fatalf("not within %s: %s; the host says: %+v, %v", d, what, s, err)
	return rig.Status{}
}

// interrupts is how often the guest's processor was interrupted by the device.
func (g *gateway) interrupts() int {
	g.t.Helper()
	out := g.must("sh", "-c", "grep vfio-msix /proc/interrupts | awk '{n += $2} END {print n + 0}'")
	return number(g.t, out)
}
