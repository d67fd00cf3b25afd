//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"guardring/e2e/rig"
	"guardring/e2e/tornet"
)

// The agent lives in a small virtual machine, beside a Tor that may sleep for days.
const (
	maxResident = 15 << 10 // KiB, at its highest
	maxWakeups  = 4        // a minute, with a dormant Tor
)

// TestIdleAgentSleeps: with a dormant Tor the agent wakes at most four times a minute, and it has never needed
// more than 15 MiB. What the kernel counted is logged, for docs/PERFORMANCE.md.
func TestIdleAgentSleeps(t *testing.T) {
	host, err := rig.New(hostBinary, guestBinary, "disjoint")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := host.Stop(); err != nil {
			t.Error(err)
		}
	})
	// A Tor that was never used, and is not to begin by itself.
	tor, err := network.AddClient(tornet.ClientConfig{Name: "idle", Head: "DormantOnFirstStartup 1\n"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := network.RemoveClient(tor); err != nil {
			t.Error(err)
		}
	})
	gw, err := host.Add("idle", tor)
	if err != nil {
		t.Fatal(err)
	}
	ctx := deadline(t, 30*time.Second)
	if _, err := gw.Join(ctx); err != nil {
		t.Fatal(err)
	}
	if err := tor.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := host.StartHost(ctx); err != nil {
		t.Fatal(err)
	}
	agent, err := gw.StartGuest()
	if err != nil {
		t.Fatal(err)
	}
	for shown := false; !shown; {
		s, _, err := host.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		shown = s.Member("idle/default").Member != ""
	}
	read := func() (wakeups, switches int) {
		out, err := exec.Command(guestBinary, "status", "--config", gw.ConfigFile(), "--json").Output()
		var doc struct {
			Wakeups int `json:"timer_wakeups"`
		}
		if err == nil {
			err = json.Unmarshal(out, &doc)
		}
		if err != nil {
			t.Fatal(err)
		}
		return doc.Wakeups, contextSwitches(t, agent.PID())
	}
	began := time.Now()
	wakeups, switches := read()
	t.Parallel() // only now: the other scenarios run while the agent sleeps, and whenever our turn comes the minute has begun
	select {
	case <-time.After(time.Until(began.Add(time.Minute))):
	case <-agent.Done():
		t.Fatalf("the agent ended: %v", agent.Err())
	}
	window := time.Since(began)
	wakeupsAfter, switchesAfter := read()
	resident := statusField(t, fmt.Sprintf("/proc/%d/status", agent.PID()), "VmHWM")
	t.Logf("in %.0f s with a dormant Tor: %d wake-ups by the agent's timer, %d switches of its threads; %d KiB resident at most", window.Seconds(), wakeupsAfter-wakeups, switchesAfter-switches, resident)
	if n := wakeupsAfter - wakeups; float64(n) > maxWakeups*window.Minutes() {
		t.Errorf("%d wake-ups in %v, at most %d a minute are promised", n, window, maxWakeups)
	}
	if resident > maxResident {
		t.Errorf("%d KiB resident, at most %d are promised", resident, maxResident)
	}
}

// contextSwitches is how often the process's threads went to sleep by themselves.
func contextSwitches(t *testing.T, pid int) int {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(files) == 0 {
		t.Fatalf("threads of %d: %v, %v", pid, files, err)
	}
	n := 0
	for _, f := range files {
		n += statusField(t, f, "voluntary_ctxt_switches")
	}
	return n
}

func statusField(t *testing.T, file, key string) int {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + key + `:\s+(\d+)`).FindSubmatch(b)
	if m == nil {
		t.Fatalf("%s has no %s", file, key)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
