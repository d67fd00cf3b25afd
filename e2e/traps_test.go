//go:build e2e

package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"guardring/e2e/oracle"
	"guardring/e2e/rig"
	"guardring/e2e/tornet"
)

// Each test here meets one of Tor's traps on the way of giving up one guard.

// TestMovesNewcomerOnly: the main job. The newcomer gives up the common guard and nothing else; the incumbent keeps all.
func TestMovesNewcomerOnly(t *testing.T) {
	p := newPair(t, setup{})
	p.startBob()
	p.awaitApart(40 * time.Second)
	p.awaitStatus(20*time.Second, "receipt applied", func(s rig.Status) bool {
		return s.Member(bob).Receipt.Status == "applied" && len(s.Conflicts) == 0
	})
	p.staysApart(3 * time.Second)
}

// TestObserveChangesNothing: policy observe reports the same conflict and leaves it.
func TestObserveChangesNothing(t *testing.T) {
	p := newPair(t, setup{policy: "observe"})
	p.startBob()
	p.awaitStatus(30*time.Second, "the reported conflict", func(s rig.Status) bool {
		return slices.ContainsFunc(s.Conflicts, func(c rig.Conflict) bool {
			return c.Fingerprint == p.common.Fingerprint && c.Incumbent == alice && c.Newcomer == bob
		})
	})
	p.staysTogether(10 * time.Second)
}

// TestSandbox: with Sandbox 1 Tor dies at a HUP when an include is new to it. It must survive, and stay apart.
func TestSandbox(t *testing.T) {
	p := newPair(t, setup{bobTail: "Sandbox 1\n"})
	p.startBob()
	p.awaitApart(40 * time.Second)
	p.hup()
	p.staysApart(4 * time.Second)
	if !p.b.Running() {
		t.Fatal("bob's Tor ended")
	}
}

// TestRelayRefused: a Tor with ORPort refuses Reachable options, and would not start with our include. Join names the reason and
// touches nothing; an agent that meets such a Tor leaves it alone.
func TestRelayRefused(t *testing.T) {
	p := newPair(t, setup{})
	if err := p.b.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.gb.Leave(p.ctx(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	p.editTorrc(func(s string) string {
		return strings.ReplaceAll(s, "ClientOnly 1\n", "") + fmt.Sprintf("ORPort 127.0.0.1:%d\nAssumeReachable 1\nPublishServerDescriptor 0\nExitPolicy reject *:*\n", freePort(t))
	})
	was, err := os.ReadFile(p.b.Torrc())
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.gb.Join(p.ctx(10 * time.Second))
	if err == nil || !strings.Contains(err.Error(), "ORPort") {
		t.Errorf("join of a relay says %v, want an error that names ORPort", err)
	}
	if is, _ := os.ReadFile(p.b.Torrc()); string(is) != string(was) {
		t.Error("join changed a relay's torrc")
	}
	if err := p.b.Bootstrap(p.ctx(60 * time.Second)); err != nil {
		t.Fatal(err)
	}
	p.startBob()
	p.awaitStatus(30*time.Second, "bob shown as refused", func(s rig.Status) bool { return s.Member(bob).State == "refused" })
	conf, err := p.b.Control().Conf("ReachableORAddresses")
	if err != nil || len(conf) > 0 && conf[0] != "" {
		t.Errorf("the relay's ReachableORAddresses is %q, %v", conf, err)
	}
	p.connected()
	p.checkAlice()
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// TestUserListBeforeOurs: an accepting list that is read before our include makes our rejects void at the next HUP, silently.
// It must be noticed and said, not believed.
func TestUserListBeforeOurs(t *testing.T) {
	p := newPair(t, setup{afterJoin: func(s string) string { return "ReachableORAddresses accept *:*\n" + s }})
	p.startBob()
	p.awaitStatus(30*time.Second, "bob's failure", func(s rig.Status) bool {
		r := s.Member(bob).Receipt
		return r.Status == "failed" || r.Status == "refused"
	})
	said := p.rig.Log("bob")
	if !strings.Contains(said, "ReachableORAddresses before") || !strings.Contains(said, "%include") {
		t.Errorf("bob's agent does not say what is wrong and what to do:\n%s", said)
	}
	p.connected()
	p.checkAlice()
}

// TestFascistFirewall: Tor adds the ports of FascistFirewall only while ReachableORAddresses is unset, so ours must carry them. The second
// planted guard is behind the firewall: it must not become primary.
func TestFascistFirewall(t *testing.T) {
	g := network.Guards
	p := newPair(t, setup{
		bobTail:   fmt.Sprintf("FascistFirewall 1\nFirewallPorts %d\n", g[0].Port),
		bobGuards: []*tornet.Relay{g[guardOtherPort], g[3], g[4]},
		wantBob:   []*tornet.Relay{g[0], g[3], g[4]},
	})
	p.startBob()
	p.awaitApart(40 * time.Second)
	stop := keepBusy(t, p.b)
	defer stop()
	p.watch(4*time.Second, func(v oracle.View) error {
		if fp := g[guardOtherPort].Fingerprint; slices.Contains(v.Primary, fp) || slices.Contains(v.InUse, fp) {
			return errors.New("a guard behind the user's firewall is primary: the firewall is gone")
		}
		return nil
	})
}

// TestIPv6: a relay passes the filter while any of its addresses does, so both families must be rejected.
func TestIPv6(t *testing.T) {
	g := network.Guards[guardIPv6]
	p := newPair(t, setup{common: g})
	ns, err := p.b.Control().Info("ns/id/" + g.Fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	md, err := p.b.Control().Info("md/id/" + g.Fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("a [::1]:%d", g.IPv6Port); !strings.Contains(ns+md, want) {
		t.Fatalf("the network does not list %q, so nothing is tested: %s", want, ns)
	}
	p.startBob()
	p.awaitApart(40 * time.Second)
	p.staysApart(4 * time.Second)
}

// TestRelayMoves: a relay that changes its address while it is excluded would come back within seconds, and its operator chooses when. So
// the new address is rejected too, and after the second move the whole address at every port.
func TestRelayMoves(t *testing.T) {
	g := network.Guards[guardMoves]
	p := newPair(t, setup{common: g, bobTail: "FetchDirInfoEarly 1\nFetchDirInfoExtraEarly 1\n"})
	p.startBob()
	p.awaitApart(40 * time.Second)
	stop := keepBusy(t, p.b)
	defer stop()
	for _, want := range []string{"", "reject " + g.Address + ":*"} {
		if err := network.Move(p.ctx(30*time.Second), g, g.Port+3); err != nil {
			t.Fatal(err)
		}
		if err := g.AwaitListed(p.ctx(2*time.Minute), p.b); err != nil {
			t.Fatal(err)
		}
		if want == "" {
			want = "reject " + g.Addr()
		}
		// Between the consensus and the new reject Tor may have begun a circuit through the guard: it is closed as it comes. Then the guard
		// stays away.
		var away time.Time
		if _, err := oracle.Await(p.ctx(40*time.Second), p.b, want, func(v oracle.View) bool {
			conf, err := p.b.Control().Conf("ReachableORAddresses")
			if err != nil || !strings.Contains(strings.Join(conf, ",")+",", want+",") || !gone(v, g.Fingerprint) {
				away = time.Time{}
				return false
			}
			if away.IsZero() {
				away = time.Now()
			}
			return time.Since(away) > 4*time.Second
		}); err != nil {
			conf, _ := p.b.Control().Conf("ReachableORAddresses")
			t.Fatalf("%v; ReachableORAddresses is %q", err, conf)
		}
	}
}

// TestVanguardsPins: a RELOAD wipes what the vanguards add-on has set; SETCONF of our option must not touch it. A relay that both
// gateways pin in a layer is reported, and stays where it is.
func TestVanguardsPins(t *testing.T) {
	p := newPair(t, setup{})
	pins := map[string]string{
		"HSLayer2Nodes": network.Guards[5].Fingerprint + "," + network.Guards[6].Fingerprint,
		"HSLayer3Nodes": network.Guards[7].Fingerprint + "," + network.Guards[8].Fingerprint,
	}
	for k, v := range pins {
		if err := p.b.Control().SetConf(k + "=" + v); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.b.Control().SetConf("NumEntryGuards=2", "NumDirectoryGuards=2", "NumPrimaryGuards=2"); err != nil {
		t.Fatal(err)
	}
	p.beforeB.Primary = p.beforeB.Primary[:2]
	if err := p.a.Control().SetConf("HSLayer2Nodes=" + network.Guards[5].Fingerprint); err != nil {
		t.Fatal(err)
	}
	p.startBob()
	p.awaitApart(40 * time.Second)
	p.awaitStatus(60*time.Second, "the common relay of the second layer, and it alone", func(s rig.Status) bool {
		return len(s.Layers) == 1 && s.Layers[0].Fingerprint == network.Guards[5].Fingerprint && s.Layers[0].Layer == 2 &&
			slices.Equal(s.Layers[0].Members, []string{alice, bob})
	})
	for k, v := range pins {
		if got, err := p.b.Control().Conf(k); err != nil || len(got) != 1 || strings.ReplaceAll(got[0], "$", "") != v {
			t.Errorf("%s is %v, %v; want %s", k, got, err, v)
		}
	}
}

// through lists bob's circuits, of more than one hop, whose first hop is the common guard.
func (p *pair) through() []oracle.Circuit {
	p.t.Helper()
	cs, err := oracle.Circuits(p.b)
	if err != nil {
		p.t.Fatal(err)
	}
	return slices.DeleteFunc(cs, func(c oracle.Circuit) bool {
		return c.First != p.common.Fingerprint || c.OneHop() || c.Status != "BUILT"
	})
}

// streamThrough opens a stream over a circuit whose first hop is the common guard, and returns it with the circuit's ID.
func (p *pair) streamThrough() (net.Conn, string) {
	p.t.Helper()
	conn, err := p.b.Dial(p.ctx(30*time.Second), echo.Addr(), fmt.Sprintf("s%d", serial.Add(1)))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close() })
	if err := tornet.Ping(conn); err != nil {
		p.t.Fatal(err)
	}
	status, err := p.b.Control().Info("stream-status")
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(status) {
		f := strings.Fields(line)
		if len(f) < 4 || f[1] != "SUCCEEDED" || f[3] != echo.Addr().String() {
			continue
		}
		if slices.ContainsFunc(p.through(), func(c oracle.Circuit) bool { return c.ID == f[2] }) {
			return conn, f[2]
		}
	}
	p.t.Fatalf("no stream through the common guard: %q", status)
	return nil, ""
}

// TestStreamsLinger: circuits without streams are closed at once; one that carries a stream stays until the stream ends, and takes no new ones.
func TestStreamsLinger(t *testing.T) {
	p := newPair(t, setup{bobTail: noConflux})
	conn, circuit := p.streamThrough()
	p.startBob()
	stop := keepBusy(t, p.b)
	defer stop()
	if _, err := oracle.Await(p.ctx(40*time.Second), p.b, "only the stream's circuit left", func(v oracle.View) bool {
		left := p.through()
		return !slices.Contains(v.Primary, p.common.Fingerprint) && len(left) == 1 && left[0].ID == circuit
	}); err != nil {
		t.Fatal(err)
	}
	if err := tornet.Ping(conn); err != nil {
		t.Fatalf("the lingering stream is cut: %v", err)
	}
	conn.Close()
	if _, err := oracle.Await(p.ctx(20*time.Second), p.b, "the last circuit gone after its stream", func(v oracle.View) bool {
		return gone(v, p.common.Fingerprint)
	}); err != nil {
		t.Fatal(err)
	}
	p.checkAlice()
}

// TestStreamsCut: with circuits: cut, the stream goes too, and at once.
func TestStreamsCut(t *testing.T) {
	p := newPair(t, setup{bobTail: noConflux, bobOptions: "circuits: cut\n"})
	conn, _ := p.streamThrough()
	p.startBob()
	p.awaitApart(40 * time.Second)
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := bufio.NewReader(conn).ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the stream is not cut: %v", err)
	}
}

// TestConflux: closing one leg with data in flight tears the whole set down. A set with a live stream lingers as one.
func TestConflux(t *testing.T) {
	p := newPair(t, setup{bobTail: "ConfluxEnabled 1\n"})
	ctx := p.ctx(40 * time.Second)
	var conn net.Conn
	for conn == nil {
		c, err := p.b.Dial(ctx, echo.Addr(), fmt.Sprintf("s%d", serial.Add(1)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if err := tornet.Ping(c); err != nil {
			t.Fatal(err)
		}
		if p.onConflux() {
			conn = c
		}
	}
	p.startBob()
	if _, err := oracle.Await(p.ctx(40*time.Second), p.b, "the guard no longer primary", func(v oracle.View) bool {
		return len(v.Primary) > 0 && !slices.Contains(v.Primary, p.common.Fingerprint)
	}); err != nil {
		t.Fatal(err)
	}
	p.awaitStatus(20*time.Second, "bob's order", func(s rig.Status) bool { return s.Member(bob).Order.Seq != 0 })
	for range 10 {
		if err := tornet.Ping(conn); err != nil {
			t.Fatalf("the stream on a conflux set is torn down: %v", err)
		}
	}
	conn.Close()
	p.awaitApart(40 * time.Second)
}

// onConflux tells whether a live stream runs over a conflux set with a leg through the common guard.
func (p *pair) onConflux() bool {
	p.t.Helper()
	status, err := p.b.Control().Info("stream-status")
	if err != nil {
		p.t.Fatal(err)
	}
	cs, err := oracle.Circuits(p.b)
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(status) {
		f := strings.Fields(line)
		if len(f) < 4 || f[1] != "SUCCEEDED" {
			continue
		}
		i := slices.IndexFunc(cs, func(c oracle.Circuit) bool { return c.ID == f[2] })
		if i < 0 || cs[i].ConfluxID == "" {
			continue
		}
		if slices.ContainsFunc(p.through(), func(c oracle.Circuit) bool { return c.ConfluxID == cs[i].ConfluxID }) {
			return true
		}
	}
	return false
}

// TestOnionService: introduction circuits never end by themselves; they must leave the guard while the service keeps introduction points.
func TestOnionService(t *testing.T) {
	p := newPair(t, setup{bobOptions: "intro-gap: 3s\n", afterJoin: func(s string) string {
		i := strings.Index(s, "DataDirectory ") + len("DataDirectory ")
		dir := s[i : i+strings.IndexByte(s[i:], '\n')]
		return s + fmt.Sprintf("HiddenServiceDir %s/onion\nHiddenServicePort 80 %s\n", dir, echo.Addr())
	}})
	intro := func(v oracle.View) (all, bad int) {
		for _, c := range v.Circuits {
			if c.Purpose == "HS_SERVICE_INTRO" && c.Status == "BUILT" {
				all++
				if c.First == p.common.Fingerprint {
					bad++
				}
			}
		}
		return all, bad
	}
	if _, err := oracle.Await(p.ctx(60*time.Second), p.b, "introduction circuits through the guard", func(v oracle.View) bool {
		_, bad := intro(v)
		return bad > 0
	}); err != nil {
		t.Fatal(err)
	}
	p.startBob()
	least := 1 << 30
	if _, err := oracle.Await(p.ctx(60*time.Second), p.b, "introduction circuits moved", func(v oracle.View) bool {
		all, bad := intro(v)
		least = min(least, all)
		return all >= 3 && bad == 0 && gone(v, p.common.Fingerprint)
	}); err != nil {
		t.Fatal(err)
	}
	if least == 0 {
		t.Error("for a moment the service had no introduction circuit")
	}
	p.checkAlice()
}

// TestTooFewGuards: a member with no guard to spare keeps the duplicate and stays connected, and the operator is told.
func TestTooFewGuards(t *testing.T) {
	var firewall strings.Builder
	for i, g := range network.Guards {
		if i != 0 && i != 3 && i != 4 {
			fmt.Fprintf(&firewall, "reject %s, ", g.Addr())
		}
	}
	p := newPair(t, setup{bobTail: "ReachableORAddresses " + firewall.String() + "reject [::1]:*, accept *:*\n"})
	p.startBob()
	p.awaitStatus(30*time.Second, "the conflict said to stay", func(s rig.Status) bool {
		m := s.Member(bob)
		return s.Verdict != "ok" && (m.Stuck != "" || m.Receipt.Status == "refused" || slices.ContainsFunc(s.Conflicts, func(c rig.Conflict) bool { return c.State == "stuck" || c.State == "refused" }))
	})
	p.staysTogether(6 * time.Second)
}

// TestLeaveRestores: leave gives back the torrc byte by byte, lifts the exclusion, and Tor starts with it.
func TestLeaveRestores(t *testing.T) {
	p := newPair(t, setup{})
	agent := p.startBob()
	p.awaitApart(40 * time.Second)
	if err := agent.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-agent.Done()
	p.staysApart(3 * time.Second) // an agent that ends changes no guard
	if _, err := p.gb.Leave(p.ctx(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(p.b.Torrc())
	if err != nil {
		t.Fatal(err)
	}
	if string(b) != string(p.original) {
		t.Errorf("the torrc is not as it was before join:\n%s", b)
	}
	if out, err := exec.Command("tor", "--verify-config", "--defaults-torrc", "/dev/null", "-f", p.b.Torrc()).CombinedOutput(); err != nil {
		t.Errorf("tor refuses the restored torrc: %v: %s", err, out)
	}
	if err := p.b.Restart(p.ctx(60 * time.Second)); err != nil {
		t.Fatal(err)
	}
	p.connected()
	p.checkAlice()
}
