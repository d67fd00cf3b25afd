//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"guardring/e2e/oracle"
	"guardring/e2e/tornet"
)

// Each test here is about the join gate: bob is a newcomer whose first guard is a primary guard of alice that she never used.

// newcomer is a pair whose host is down and whose bob has just started: no request was made since.
type newcomer struct {
	*pair
	hosts int
}

func newNewcomer(t *testing.T, gate string) *newcomer {
	t.Helper()
	return newNewcomerWith(t, gate, network.Guards[2])
}

// newNewcomerWith has bob begin with another guard. The host's delay is the default: it must not count behind a closed gate.
func newNewcomerWith(t *testing.T, gate string, first *tornet.Relay) *newcomer {
	t.Helper()
	g := network.Guards
	p := newPair(t, setup{
		common: g[2], plantA: []*tornet.Relay{g[0], g[1], g[2]}, plantB: []*tornet.Relay{first, g[3], g[4]}, calm: true, noHost: true,
		protection: "delay: {least: 10m, most: 6h}\n",
		bobOptions: gate, bobTail: "FetchDirInfoEarly 1\nFetchDirInfoExtraEarly 1\n",
	})
	n := &newcomer{pair: p}
	p.serve()
	host := n.act()
	p.startAlice()
	if err := host.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-host.Done()
	if err := p.b.Restart(p.ctx(60 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return n
}

// act starts a coordinator.
func (n *newcomer) act() *tornet.Process {
	n.t.Helper()
	n.hosts++
	p := n.coordinate(fmt.Sprintf("host%d", n.hosts))
	n.awaitActing()
	return p
}

// unattached asks Tor whether it leaves streams to the gate.
func (n *newcomer) unattached() bool {
	n.t.Helper()
	v, err := n.b.Control().Conf("__LeaveStreamsUnattached")
	if err != nil {
		n.t.Fatal(err)
	}
	return slices.Equal(v, []string{"1"})
}

// await looks until ok holds.
func (n *newcomer) await(d time.Duration, what string, ok func() bool) {
	n.t.Helper()
	ctx := n.ctx(d)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			n.t.Fatalf("awaiting %s: %v", what, ctx.Err())
		}
	}
}

func (n *newcomer) awaitClosed() {
	n.t.Helper()
	n.await(20*time.Second, "the closed gate", n.unattached)
}

// waits tells whether a stream to the echo waits.
func (n *newcomer) waits() bool {
	n.t.Helper()
	status, err := n.b.Control().Info("stream-status")
	if err != nil {
		n.t.Fatal(err)
	}
	for line := range strings.Lines(status) {
		if f := strings.Fields(line); len(f) >= 4 && f[1] == "NEW" && f[2] == "0" && f[3] == echo.Addr().String() {
			return true
		}
	}
	return false
}

// begin makes a request, and returns where its end is told.
func (n *newcomer) begin() <-chan error {
	end := make(chan error, 1)
	ctx, cancel := context.WithTimeout(n.t.Context(), 100*time.Second)
	go func() {
		defer cancel()
		end <- request(ctx, n.b)
	}()
	return end
}

// goes checks that a request that waited is answered.
func (n *newcomer) goes(end <-chan error) {
	n.t.Helper()
	select {
	case err := <-end:
		if err != nil {
			n.t.Fatalf("the request that waited: %v", err)
		}
	case <-n.ctx(60 * time.Second).Done():
		n.t.Fatal("the request waits for ever")
	}
}

// passed checks what the way through the gate leaves behind.
func (n *newcomer) passed(why string) {
	n.t.Helper()
	n.await(10*time.Second, "the passed gate in the include file", func() bool {
		b, err := os.ReadFile(n.gb.IncludeFile(n.b))
		return err == nil && strings.Contains(string(b), "# guardring gate passed why="+why+"\n")
	})
	if n.unattached() {
		n.t.Error("the gate is passed, and Tor still leaves streams unattached")
	}
	if g := n.gate(); g.State != "open" || g.Why == "" {
		n.t.Errorf("guest status says of the gate: %+v", g)
	}
}

// gateStatus is what guest status says of the gate.
type gateStatus struct {
	State   string `json:"state"`
	Waiting int    `json:"streams_waiting"`
	Why     string `json:"because"`
}

type guestStatus struct {
	Members []struct {
		State     string     `json:"state"`
		Selection string     `json:"selection"`
		Gate      gateStatus `json:"join_gate"`
		Notices   []struct {
			Text string `json:"text"`
		} `json:"notices"`
	} `json:"members"`
	Problems []complaint `json:"problems"`
}

type complaint struct {
	Text string `json:"text"`
	Hint string `json:"hint"`
}

// bobStatus is the status of bob's agent.
func (p *pair) bobStatus() (s guestStatus, text string) {
	p.t.Helper()
	for _, to := range []any{&s, &text} {
		args := []string{"status", "--config", p.gb.ConfigFile()}
		if _, ok := to.(*guestStatus); ok {
			args = append(args, "--json")
		}
		out, err := exec.CommandContext(p.ctx(10*time.Second), guestBinary, args...).Output()
		if err != nil {
			return guestStatus{}, "" // not started yet
		}
		if to == any(&text) {
			text = string(out)
		} else if err := json.Unmarshal(out, to); err != nil {
			p.t.Fatalf("guest status: %v: %s", err, out)
		}
	}
	return s, text
}

func (n *newcomer) gate() gateStatus {
	n.t.Helper()
	s, _ := n.bobStatus()
	if len(s.Members) == 0 {
		return gateStatus{}
	}
	return s.Members[0].Gate
}

// witness notes the first hop of every circuit that a user's stream is attached to, from Tor's own events.
type witness struct {
	ctl  *tornet.Control
	done chan struct{}

	mu    sync.Mutex
	paths map[string]string // circuit -> first hop
	users map[string]bool
	went  []string // first hops, in order
	news  int      // consensuses
}

func (n *newcomer) witness() *witness {
	n.t.Helper()
	ctl, err := tornet.DialControl(n.ctx(10*time.Second), n.b.ControlSocket(), n.b.CookieFile())
	if err != nil {
		n.t.Fatal(err)
	}
	w := &witness{ctl: ctl, done: make(chan struct{}), paths: map[string]string{}, users: map[string]bool{}}
	ev, _ := ctl.Events()
	if _, err := ctl.Do("SETEVENTS STREAM CIRC NEWCONSENSUS"); err != nil {
		n.t.Fatal(err)
	}
	circuits, err := ctl.Info("circuit-status")
	if err != nil {
		n.t.Fatal(err)
	}
	for line := range strings.Lines(circuits) {
		w.take("CIRC " + line)
	}
	go func() {
		defer close(w.done)
		for e := range ev {
			w.take(strings.TrimPrefix(e, "650 "))
		}
	}()
	n.t.Cleanup(func() { ctl.Close(); <-w.done })
	return w
}

func (w *witness) take(event string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := strings.Fields(strings.TrimLeft(event, "650-+ "))
	switch {
	case len(f) > 3 && f[0] == "CIRC" && strings.HasPrefix(f[3], "$"):
		w.paths[f[1]] = f[3][1:41]
	case len(f) > 3 && f[0] == "STREAM":
		w.users[f[1]] = w.users[f[1]] || strings.Contains(event, "PURPOSE=USER")
		if w.users[f[1]] && f[3] != "0" && (f[2] == "SENTCONNECT" || f[2] == "SUCCEEDED") {
			w.went = append(w.went, w.paths[f[3]])
		}
	case len(f) > 0 && strings.HasPrefix(f[0], "NEWCONSENSUS"):
		w.news++
	}
}

func (w *witness) firstHops() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.went)
}

func (w *witness) consensuses() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.news
}

// clear checks that users' streams went, and none through a guard of alice's.
func (n *newcomer) clear(w *witness) {
	n.t.Helper()
	hops := w.firstHops()
	if len(hops) == 0 || slices.Contains(hops, "") {
		n.t.Fatalf("the witness saw streams go through %q", hops)
	}
	for _, fp := range hops {
		if slices.Contains(n.beforeA.Primary, fp) {
			n.t.Errorf("a stream went through %s, a primary guard of alice's", network.GuardByFingerprint(fp).Name)
		}
	}
	n.checkAlice()
}

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
	n.goes(end)
	n.clear(w)
	n.passed("answered")
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
	n.goes(end)
	n.clear(w)
	n.passed("answered")
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
			n.goes(end)
			n.clear(w)
			n.passed("answered")
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
			n.goes(end)
			n.clear(w)
			n.passed("answered")
			n.awaitApplied()
		})
	}
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
	n.goes(end)
	n.clear(w)
	n.passed("answered")
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
