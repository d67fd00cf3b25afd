//go:build e2e

package device

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"guardring/e2e/rig"
)

// kill ends a process in the guest with SIGKILL.
func (g *gateway) kill(pid int) {
	g.t.Helper()
	g.must("kill", "-9", fmt.Sprint(pid))
	g.gone(pid)
}

// TestKilledAtEachStep: prepare, run and leave are killed at each of their steps in turn; whoever comes next does the rest, in the same
// seat, with doorbells.
func TestKilledAtEachStep(t *testing.T) {
	t.Parallel()
	g := newGateway(t, options{})
	untouched := g.device()
	killed := func(step, command string) {
		t.Helper()
		out := g.try("sh", "-c", "GUARDRING_KILL_AT="+step+" guardring-guest "+command)
		if !strings.Contains(out, "exit code 137") {
			t.Fatalf("%s was not killed at %s: %s", command, step, out)
		}
	}
	for _, step := range []string{"prepare-module", "prepare-noted", "prepare-override", "prepare-bound", "prepare-group"} {
		killed(step, "prepare")
	}
	g.must("guardring-guest", "prepare")
	for _, step := range []string{"vfio-container", "vfio-group", "vfio-joined", "vfio-iommu", "vfio-device", "vfio-command", "vfio-mapped", "vfio-interrupts"} {
		g.gone(g.start("GUARDRING_KILL_AT=" + step))
		pid := g.start()
		if s := g.works("vfio"); s.Region.Attachment != 1 {
			t.Errorf("after a kill at %s the attachment is %d", step, s.Region.Attachment)
		}
		g.kill(pid)
	}
	pid := g.start()
	g.works("vfio")
	pid = g.ringsBothWays("after all kills", pid)
	g.kill(pid)
	for _, step := range []string{"restore-override", "restore-unbound", "restore-forgotten"} {
		killed(step, "leave")
	}
	g.must("guardring-guest", "leave")
	if now := g.device(); now != untouched {
		t.Errorf("after leave the device is %s, was %s", now, untouched)
	}
}

// TestGuestRestarts: a reset inside one QEMU keeps the attachment, another QEMU has a new one in the same seat. Each time the guest joins
// anew, and nobody takes it for a copy.
func TestGuestRestarts(t *testing.T) {
	t.Parallel()
	g := newGateway(t, options{})
	attachment := uint64(1)
	begin := func(when string) {
		t.Helper()
		g.must("guardring-guest", "prepare")
		pid := g.start()
		if s := g.works("vfio"); s.Region.Attachment != attachment {
			t.Errorf("%s: attachment %d, want %d", when, s.Region.Attachment, attachment)
		}
		g.ringsBothWays(when, pid)
		m := g.hostSees(20*time.Second, when+": guards in use", func(m rig.Member) bool { return m.State == "present" && len(m.Guards) >= 3 })
		if m.CloneOf != "" || !m.RolledBack.IsZero() {
			t.Errorf("%s: taken for a copy: %+v", when, m)
		}
	}
	begin("first start")
	for n := range 2 {
		if err := g.Reboot(t.Context()); err != nil {
			t.Fatal(err)
		}
		g.install()
		begin(fmt.Sprintf("reset %d", n+1))
		if err := g.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := g.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		attachment++
		g.install()
		begin(fmt.Sprintf("QEMU %d", n+2))
	}
}

// TestPausesAndClocks: the VM stands still for longer than any timeout of the agent's, its clock jumps, and no guard is moved nor an alarm
// left standing. An order that comes meanwhile is obeyed.
func TestPausesAndClocks(t *testing.T) {
	t.Parallel() // it mostly waits
	g := newGateway(t, options{tick: time.Second, lines: "request-timeout: 2s\n"})
	g.must("guardring-guest", "prepare")
	g.claim(0, 4)
	pid := g.start()
	g.works("vfio")
	g.obeys(0)
	settings, rejects := g.script.settings()
	steady := func(after string) {
		t.Helper()
		g.works("vfio")
		g.hostSees(20*time.Second, after+": present, with its order applied", func(m rig.Member) bool {
			return m.State == "present" && m.Receipt.Status == "applied"
		})
		if n, now := g.script.settings(); n != settings || !slices.Equal(now, rejects) {
			t.Errorf("%s: Tor was told %q, %d times", after, now, n-settings)
		}
	}
	for _, jump := range []int{86400, -2 * 86400, 3600, 86400 - 3600} {
		g.must("sh", "-c", fmt.Sprintf("date -s @$(($(date +%%s) + %d))", jump))
		steady(fmt.Sprintf("clock %+d s", jump))
	}
	// The processes stop, and the clocks go on: as when the host is too busy.
	g.must("sh", "-c", fmt.Sprintf("kill -STOP %d; sleep 12; kill -CONT %d", pid, pid))
	steady("after the agent stood still")

	// Guard 4, the other gateway's, becomes a primary of ours while no coordinator acts. The one that finds it cannot be answered.
	if err := g.coordinator.Kill(); err != nil {
		t.Fatal(err)
	}
	g.script.lose(1)
	g.await(20*time.Second, "guard 4 is published as a primary", func(s status) bool {
		return len(s.Members[0].Guards) == scriptGuards && s.Members[0].Guards[4].Primary
	})
	if err := g.Pause(); err != nil {
		t.Fatal(err)
	}
	g.startCoordinator()
	g.hostSees(20*time.Second, "guard 4 is ordered away", func(m rig.Member) bool { return slices.Contains(m.Order.Exclusions, fingerprint(4)) })
	// More than requests to Tor, ticks, pauses between attempts and the join gate may take; and than all of the host's tries (210 s).
	g.hostSays(5*time.Minute, "the order is unanswered", func(s rig.Status) bool {
		return slices.ContainsFunc(s.Conflicts, func(c rig.Conflict) bool { return c.State == "unanswered" })
	})
	if n, _ := g.script.settings(); n != settings {
		t.Error("a paused VM has told its Tor something")
	}
	if err := g.Resume(); err != nil {
		t.Fatal(err)
	}
	g.obeys(4)
	settings, rejects = g.script.settings()
	steady("after a long pause")
	g.ringsBothWays("after a long pause", pid)
}

// TestLostDoorbell: the device is kept from interrupting, as if each doorbell got lost. The slow tick finds the order.
func TestLostDoorbell(t *testing.T) {
	g := newGateway(t, options{})
	g.must("guardring-guest", "prepare")
	g.claim(3) // which is not ours yet
	pid := g.start()
	g.works("vfio")
	g.hostSees(20*time.Second, "three primaries", func(m rig.Member) bool { return m.State == "present" && len(m.Guards) >= 3 })
	// Memory stays on, bus master goes: the command register of PCI.
	g.must("sh", "-c", `printf '\x02\x04' | dd of=/sys/bus/pci/devices/0000:00:10.0/config bs=1 seek=4 conv=notrunc 2>/dev/null`)
	before := g.interrupts()
	g.script.lose(0) // so guard 3 becomes primary
	g.obeys(3)
	if n := g.interrupts(); n != before {
		t.Errorf("%d interrupts came", n-before)
	}
	// Whoever starts anew has them again.
	g.kill(pid)
	pid = g.start()
	g.works("vfio")
	g.ringsBothWays("after a new start", pid)
}

// TestServerRestarted: the server dies and comes back with what its descriptor store kept; the VM notices nothing. Then the coordinator,
// too.
func TestServerRestarted(t *testing.T) {
	g := newGateway(t, options{})
	g.must("guardring-guest", "prepare")
	pid := g.start()
	g.works("vfio")
	for n := range 2 {
		if err := g.server.Kill(); err != nil {
			t.Fatal(err)
		}
		g.startServer()
		pid = g.ringsBothWays(fmt.Sprintf("server %d", n+2), pid)
		if s := g.works("vfio"); s.Region.Attachment != 1 {
			t.Errorf("attachment %d", s.Region.Attachment)
		}
	}
	if err := g.coordinator.Kill(); err != nil {
		t.Fatal(err)
	}
	g.startCoordinator()
	s := g.works("vfio")
	if s.Host.Term < 2 {
		t.Errorf("the agent sees term %d after a new coordinator", s.Host.Term)
	}
}

// TestHostAway: with the agent's usual pace, whoever acts is missed within a minute, and its return is seen within another, by VFIO as by
// polling.
func TestHostAway(t *testing.T) {
	t.Parallel() // it mostly waits
	gateways := map[string]*gateway{}
	for name, o := range map[string]options{"vfio": {tick: 25 * time.Second}, "poll": {tick: 25 * time.Second, noIOMMU: true}} {
		g := newGateway(t, o)
		g.must("guardring-guest", "prepare")
		g.start()
		g.works(name)
		gateways[name] = g
	}
	for _, g := range gateways {
		if err := g.coordinator.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	away := time.Now()
	for name, g := range gateways {
		g.await(time.Until(away.Add(time.Minute)), "the host's absence is said", func(s status) bool {
			return !s.Host.Acting && len(s.Problems) == 1 && strings.Contains(s.Problems[0].Text, "no host agent acts")
		})
		t.Logf("%s: the host's absence is said after %s at most", name, time.Since(away).Round(time.Second))
		if log := g.try("cat", "/run/agent.log"); !strings.Contains(log, "no host agent acts") {
			t.Errorf("%s: the log says nothing: %s", name, log)
		}
	}
	for name, g := range gateways {
		g.startCoordinator()
		g.await(time.Minute, "the host's return is said", func(s status) bool { return s.Host.Acting && len(s.Problems) == 0 })
		t.Logf("%s: the host's return is seen", name)
	}
}

// TestCost measures, in the guest, what publication and reading cost on the device's memory, and what a doorbell does; beside the guest's
// own memory. The least of five is logged: other work on the machine only ever adds to it.
func TestCost(t *testing.T) {
	for _, o := range []options{{device: "vfio"}, {device: "poll", noIOMMU: true}} {
		g := newGateway(t, o)
		if err := g.coordinator.Kill(); err != nil { // the benchmark writes orders of its own
			t.Fatal(err)
		}
		g.must("guardring-guest", "prepare")
		device, memory := g.costs(o.device), g.costs("")
		for _, name := range slices.Sorted(maps.Keys(device)) {
			t.Logf("%-30s %s %9.2f µs, own memory %9.2f µs", name, o.device, device[name]/1000, memory[name]/1000)
		}
		if len(device) != 7 || len(memory) != 6 { // plain memory has no doorbell
			t.Errorf("figures are missing: %v, %v", device, memory)
		}
	}
}

// costs runs the benchmarks, and returns the least time of each in nanoseconds.
func (g *gateway) costs(kind string) map[string]float64 {
	g.t.Helper()
	out := g.must("sh", "-c", "GUARDRING_DEVICE="+kind+" device.test -test.run=^$ -test.bench=. -test.benchtime=200x -test.count=5 2>&1 || true")
	if strings.Contains(out, "FAIL") {
		g.t.Errorf("benchmarks: %s", out)
	}
	least := map[string]float64{}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 4 || f[3] != "ns/op" {
			continue
		}
		ns, err := strconv.ParseFloat(f[2], 64)
		if err != nil {
			g.t.Fatal(err)
		}
		if old, ok := least[f[0]]; !ok || ns < old {
			least[f[0]] = ns
		}
	}
	return least
}
