//go:build e2e

package e2e

import (
	"encoding/json"
	"os/exec"
	"testing"
	"time"

	"guardring/e2e/rig"
	"guardring/e2e/tornet"
	"guardring/e2e/usage"
)

// The agent lives in a small virtual machine, beside a Tor that may sleep for days.
const (
	maxResident = 15 << 20 // bytes, at its highest
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
	read := func() (wakeups int, used usage.Usage) {
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
		if used, err = usage.Of(agent.PID()); err != nil {
			t.Fatal(err)
		}
		return doc.Wakeups, used
	}
	began := time.Now()
	wakeups, before := read()
	t.Parallel() // only now: the other scenarios run while the agent sleeps, and whenever our turn comes the minute has begun
	select {
	case <-time.After(time.Until(began.Add(time.Minute))):
	case <-agent.Done():
		t.Fatalf("the agent ended: %v", agent.Err())
	}
	window := time.Since(began)
	wakeupsAfter, after := read()
	t.Logf("in %.0f s with a dormant Tor: %d wake-ups by the agent's timer, %d switches of its threads; %d KiB resident at most", window.Seconds(), wakeupsAfter-wakeups, after.Sleeps-before.Sleeps, after.Peak>>10)
	if n := wakeupsAfter - wakeups; float64(n) > maxWakeups*window.Minutes() {
		t.Errorf("%d wake-ups in %v, at most %d a minute are promised", n, window, maxWakeups)
	}
	if after.Peak > maxResident {
		t.Errorf("%d KiB resident, at most %d are promised", after.Peak>>10, maxResident>>10)
	}
}
