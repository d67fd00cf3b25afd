//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"guardring/e2e/tornet"
)

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

// goesClear checks that the host's answer has let the request go, and through no guard of alice's.
func (n *newcomer) goesClear(end <-chan error, w *witness) {
	n.t.Helper()
	n.goes(end)
	n.clear(w)
	n.passed("answered")
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
