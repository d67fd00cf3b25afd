//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"guardring/e2e/oracle"
	"guardring/e2e/tornet"
)

// Each test here is about the join gate: bob is a newcomer whose first guard is a primary guard of alice that she never used.

// TestGateMovesBeforeTraffic: a request made at once waits, and goes through a guard that is clear; directory fetches go on meanwhile. The
// gate does not close a second time.
func TestGateMovesBeforeTraffic(t *testing.T) {
	n := newNewcomer(t, "join-gate: closed\n")
	agent := n.startBob()
	n.awaitClosed()
	w := n.witness()
	end := n.begin()
	n.await(10*time.Second, "the waiting stream", n.waits)
	n.await(5*time.Second, "guest status to say so", func() bool { g := n.gate(); return g.State == "closed" && g.Waiting > 0 })
	n.await(60*time.Second, "a new consensus behind the closed gate", func() bool { return w.consensuses() > 0 })
	if hops := w.firstHops(); len(hops) > 0 || !n.waits() {
		t.Errorf("the stream did not wait: went through %v", hops)
	}
	n.act()
	n.goesClear(end, w)
	n.awaitApplied()

	if err := agent.Kill(); err != nil {
		t.Fatal(err)
	}
	n.startBob()
	n.await(20*time.Second, "the agent started again", func() bool { return n.gate().State == "open" })
	if n.unattached() {
		t.Error("the gate closed a second time")
	}
}

// TestGateOfAClearNewcomer: a newcomer without a duplicate is answered, too, and moves nothing.
func TestGateOfAClearNewcomer(t *testing.T) {
	n := newNewcomerWith(t, "join-gate: closed\n", network.Guards[5])
	n.startBob()
	n.awaitClosed()
	w := n.witness()
	end := n.begin()
	n.await(10*time.Second, "the waiting stream", n.waits)
	n.act()
	n.goesClear(end, w)
	v, err := oracle.Look(n.b)
	if err != nil || !slices.Equal(v.Primary[:3], fingerprints([]*tornet.Relay{network.Guards[5], network.Guards[3], network.Guards[4]})) {
		t.Errorf("bob's primary guards are %v, %v: nothing had to move", v.Primary, err)
	}
}

// TestGateLimit: the host is away. Open lets the stream go at the limit; closed keeps it, and says so; both say why.
func TestGateLimit(t *testing.T) {
	for _, mode := range []string{"open", "closed"} {
		t.Run(mode, func(t *testing.T) {
			n := newNewcomer(t, "join-gate: "+mode+"\njoin-gate-limit: 4s\n")
			n.startBob()
			n.awaitClosed()
			w := n.witness()
			end := n.begin()
			n.await(4*time.Second, "the waiting stream", n.waits)
			if mode == "open" {
				n.goes(end)
				n.passed("limit")
				if hops := w.firstHops(); !slices.Contains(hops, n.common.Fingerprint) {
					t.Errorf("the stream went through %v, not through the first guard: nothing was held", hops)
				}
				return
			}
			n.await(20*time.Second, "guest status to say that streams wait past the limit", func() bool {
				s, text := n.bobStatus()
				return slices.ContainsFunc(s.Problems, func(p complaint) bool {
					return strings.Contains(p.Text, "closed past its limit") && strings.Contains(p.Hint, "start guardring on the host")
				}) && strings.Contains(text, "join gate CLOSED since")
			})
			if !n.waits() || !n.unattached() {
				t.Fatal("the stream does not wait any more")
			}
			n.act()
			n.goesClear(end, w)
		})
	}
}

// TestGateAgentKilled: the agent is killed at each step while the gate closes, is closed, or opens. The next one goes on.
func TestGateAgentKilled(t *testing.T) {
	for _, step := range []string{"include-written", "setconf-sent", "closed", "resetconf-sent", "stream-attached"} {
		t.Run(step, func(t *testing.T) {
			n := newNewcomer(t, "join-gate: closed\n")
			early := step == "include-written" || step == "setconf-sent"
			var env []string
			if step != "closed" {
				env = []string{"GUARDRING_KILL_AT=" + step}
			}
			agent := n.startBob(env...)
			if early {
				n.awaitKilled(agent, step)
				n.startBob()
			}
			n.awaitClosed()
			w := n.witness()
			end := n.begin()
			n.await(10*time.Second, "the waiting stream", n.waits)
			if step == "closed" {
				if err := agent.Kill(); err != nil {
					t.Fatal(err)
				}
				if !n.unattached() || !n.waits() {
					t.Error("the gate opened because the agent was killed")
				}
				n.startBob()
			}
			n.act()
			if !early && step != "closed" {
				n.awaitKilled(agent, step)
				n.startBob()
			}
			n.goesClear(end, w)
			n.awaitApplied()
		})
	}
}

// TestGateAgentStopped: the agent is stopped while streams wait and no host answers: it lets them go before it ends. Started
// again it closes the gate for what comes then.
func TestGateAgentStopped(t *testing.T) {
	n := newNewcomer(t, "join-gate: open\n")
	agent := n.startBob()
	n.awaitClosed()
	end := n.begin()
	n.await(10*time.Second, "the waiting stream", n.waits)
	if err := agent.Stop(15 * time.Second); err != nil {
		t.Fatal(err)
	}
	n.goes(end)
	if n.unattached() {
		t.Error("the agent has ended, and Tor still leaves streams unattached")
	}
	n.startBob()
	n.awaitClosed()
	n.act()
	n.await(30*time.Second, "the open gate", func() bool { return !n.unattached() })
	n.passed("answered")
}

// TestGateTorRestarted: the option is gone with Tor, and is set again before anything goes.
func TestGateTorRestarted(t *testing.T) {
	n := newNewcomer(t, "join-gate: closed\n")
	n.startBob()
	n.awaitClosed()
	if err := n.b.Restart(n.ctx(60 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n.awaitClosed()
	n.hup()
	n.awaitClosed()
	w := n.witness()
	end := n.begin()
	n.await(10*time.Second, "the waiting stream", n.waits)
	n.act()
	n.goesClear(end, w)
}

// TestGateLeave: leave opens the gate, lets the streams go, and leaves nothing behind; with a running agent and without.
func TestGateLeave(t *testing.T) {
	for _, running := range []bool{true, false} {
		t.Run(fmt.Sprintf("agent=%t", running), func(t *testing.T) {
			n := newNewcomer(t, "join-gate: closed\n")
			agent := n.startBob()
			n.awaitClosed()
			end := n.begin()
			n.await(10*time.Second, "the waiting stream", n.waits)
			if !running {
				if err := agent.Kill(); err != nil {
					t.Fatal(err)
				}
			}
			if out, err := n.gb.Leave(n.ctx(50 * time.Second)); err != nil {
				t.Fatalf("leave: %v: %s", err, out)
			}
			n.goes(end)
			if n.unattached() {
				t.Error("the member has left, and Tor still leaves streams unattached")
			}
			b, err := os.ReadFile(n.b.Torrc())
			if err != nil || string(b) != string(n.original) {
				t.Errorf("the torrc is not as it was before join (%v):\n%s", err, b)
			}
		})
	}
}
