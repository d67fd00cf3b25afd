//go:build e2e

package device

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"guardring/e2e/impostor"
	"guardring/e2e/rig"
)

// TestVFIO: root prepares, Debian's Tor user runs; publication and order go through the device, the order with an interrupt; leave gives
// the device back.
func TestVFIO(t *testing.T) {
	g := newGateway(t, options{})
	untouched := g.device()
	if out := g.must("guardring-guest", "prepare", "--dry-run"); !strings.Contains(out, "would have noted") || g.device() != untouched {
		t.Errorf("dry run: %s; the device is now %s", out, g.device())
	}
	g.examined("driver", "fail")
	t.Log(g.must("guardring-guest", "prepare"))
	g.examined("region", "pass")
	g.examined("host", "pass") // its heartbeat, seen without an agent
	if out := g.must("guardring-guest", "prepare"); !strings.Contains(out, "prepared already") {
		t.Errorf("again: %s", out)
	}
	g.claim(0)
	g.start()
	s := g.works("vfio")
	if s.Region.Path != "0000:00:10.0" || !strings.Contains(s.Region.Because, "IOMMU group") {
		t.Errorf("status: %+v", s.Region)
	}
	g.obeys(0)
	for _, name := range []string{"agent", "device", "iommu", "modules", "driver", "permission", "region", "host", "control port of default", "include file of default"} {
		g.examined(name, "pass")
	}
	if n := g.interrupts(); n == 0 {
		t.Error("an order came, and no interrupt")
	}
	g.leaves(untouched)
}

// TestPolling: the same on a machine that cannot have an IOMMU. It is said, an order takes about a second at most, and an idle agent wakes
// up no more than once a second.
func TestPolling(t *testing.T) {
	t.Parallel()
	g := newGateway(t, options{noIOMMU: true, machine: "pc", tick: 25 * time.Second})
	untouched := g.device()
	t.Log(g.must("guardring-guest", "prepare"))
	g.claim(0)
	g.start()
	s := g.works("poll")
	if !strings.Contains(s.Region.Because, "no IOMMU") {
		t.Errorf("status: %+v", s.Region)
	}
	if out := g.must("guardring-guest", "status"); !strings.Contains(out, "POLLING") || !strings.Contains(out, "<iommu model='intel'>") {
		t.Errorf("status for people: %s", out)
	}
	g.obeys(0)
	// From the first look after a change to the slowest pace it takes two seconds.
	g.await(10*time.Second, "idle", func(s status) bool { return s.Uptime > 5 })
	g.must("sleep", "3")
	first := g.works("poll")
	g.must("sleep", "12")
	last := g.works("poll")
	wakeups := float64(last.Region.Polls + last.Wakeups - first.Region.Polls - first.Wakeups)
	if rate := wakeups / (last.Uptime - first.Uptime); rate > 1 || wakeups == 0 {
		t.Errorf("%.2f wake-ups a second when idle", rate)
	} else {
		t.Logf("%.2f wake-ups a second when idle", rate)
	}
	if err := g.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.install()
	g.must("guardring-guest", "prepare")
	g.start()
	g.works("poll")
	g.obeys(0)
	g.leaves(untouched)
}

// TestNoInterruptRemapping: there are IOMMU groups, and VFIO refuses them. That is found out before the agent runs, and said with what to
// add; the device is polled.
func TestNoInterruptRemapping(t *testing.T) {
	g := newGateway(t, options{noIOMMU: true, qemu: []string{"-device", "intel-iommu,intremap=off"}})
	untouched := g.device()
	for range 2 {
		if out := g.must("guardring-guest", "prepare"); !strings.Contains(out, "cannot remap interrupts") || !strings.Contains(out, "intremap='on'") {
			t.Errorf("prepare: %s", out)
		}
	}
	g.claim(0)
	g.start()
	if s := g.works("poll"); !strings.Contains(s.Region.Because, "cannot remap interrupts") {
		t.Errorf("status: %+v", s.Region)
	}
	g.obeys(0)
	g.leaves(untouched)
}

// claim lets the other gateway be first with some guards.
func (g *gateway) claim(guards ...int) {
	g.t.Helper()
	var sample []impostor.Guard
	for _, n := range guards {
		sample = append(sample, impostor.Guard{Fingerprint: fingerprint(n), Addr: relayAddress(n), Primary: true, InUse: true})
	}
	if err := g.other.Publish(sample...); err != nil {
		g.t.Fatal(err)
	}
	n := guards[len(guards)-1]
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		s, _, err := g.rig.Status(g.t.Context())
		if err == nil && s.Holds("two/default", fingerprint(n)) {
			return
		}
		if time.Now().After(end) {
			g.t.Fatalf("the other gateway's claim is not seen: %+v, %v", s, err)
		}
	}
}

// obeys waits until our Tor was told to give a guard up, by an order that the host knows to be applied.
func (g *gateway) obeys(n int) {
	g.t.Helper()
	g.hostSees(20*time.Second, fmt.Sprintf("guard %d is given up", n), func(m rig.Member) bool {
		return m.Receipt.Status == "applied" && slices.Contains(m.Order.Exclusions, fingerprint(n))
	})
	if _, rejects := g.script.settings(); !slices.ContainsFunc(rejects, func(r string) bool { return strings.Contains(r, relayAddress(n)) }) {
		g.t.Errorf("Tor was told %q", rejects)
	}
}

// leaves has the whole gateway leave, after which nothing may be as the agent made it.
func (g *gateway) leaves(untouched string) {
	g.t.Helper()
	out := g.must("guardring-guest", "leave")
	if now := g.device(); now != untouched {
		g.t.Errorf("after leave the device is %s, was %s; leave said: %s", now, untouched, out)
	}
	if _, rejects := g.script.settings(); slices.ContainsFunc(rejects, func(r string) bool { return strings.Contains(r, relayAddress(0)) }) {
		g.t.Errorf("after leave Tor still rejects %q", rejects)
	}
	if left := g.must("sh", "-c", "ls /var/lib/guardring-guest; cat /etc/tor/torrc"); left != "SocksPort 9050" {
		g.t.Errorf("after leave there is still %q", left)
	}
	if out := g.must("guardring-guest", "leave"); !strings.Contains(out, "nothing to restore") {
		g.t.Errorf("leave again: %s", out)
	}
}

// examined checks one line of doctor.
func (g *gateway) examined(name, state string) {
	g.t.Helper()
	var report struct {
		Checks []struct{ Name, State, Text, Remedy string }
	}
	// Its exit code is the worst line's: the made-up Tor always has something to be warned of.
	if err := json.Unmarshal([]byte(g.must("sh", "-c", "guardring-guest doctor --json || true")), &report); err != nil {
		g.t.Fatal(err)
	}
	for _, c := range report.Checks {
		if c.Name == name {
			if c.State != state || (c.Remedy == "") != (state == "pass") {
				g.t.Errorf("doctor says of %s: %+v, want %s", name, c, state)
			}
			return
		}
	}
	g.t.Errorf("doctor says nothing of %s: %+v", name, report.Checks)
}

// device is how sysfs shows the device: driver, reservation, memory switched on or not, and who may map it.
func (g *gateway) device() string {
	g.t.Helper()
	return g.must("sh", "-c", `cd /sys/bus/pci/devices/0000:00:10.0
readlink driver || echo no driver; cat driver_override enable; stat -c '%a %U %G' resource0 resource2`)
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
