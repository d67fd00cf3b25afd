//go:build e2e

package e2e

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"guardring/e2e/oracle"
	"guardring/e2e/rig"
	"guardring/e2e/tornet"
)

// Each test here ends, stops or restarts a process at a bad moment.

// TestTorRestartedWhileExcluded: the exclusion holds from Tor's first circuit after a restart, with the agent running.
func TestTorRestartedWhileExcluded(t *testing.T) {
	p := newPair(t, setup{})
	p.startBob()
	p.awaitApart(40 * time.Second)
	p.awaitApplied()
	if err := p.b.Restart(p.ctx(60 * time.Second)); err != nil {
		t.Fatal(err)
	}
	p.staysApart(4 * time.Second)
	p.awaitApart(20 * time.Second)
}

func (p *pair) awaitApplied() {
	p.t.Helper()
	p.awaitStatus(30*time.Second, "receipt applied", func(s rig.Status) bool { return s.Member(bob).Receipt.Status == "applied" })
}

// TestTorRestartedWithoutAgent: the include file alone holds it, too.
func TestTorRestartedWithoutAgent(t *testing.T) {
	p := newPair(t, setup{})
	agent := p.startBob()
	p.awaitApart(40 * time.Second)
	p.awaitApplied()
	if err := agent.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.b.Restart(p.ctx(60 * time.Second)); err != nil {
		t.Fatal(err)
	}
	p.staysApart(4 * time.Second)
}

// TestLogrotateHUP: Debian's logrotate sends HUP each day; the file must mean what SETCONF meant.
func TestLogrotateHUP(t *testing.T) {
	p := newPair(t, setup{})
	p.startBob()
	p.awaitApart(40 * time.Second)
	p.awaitApplied()
	before, err := p.b.Control().Conf("ReachableORAddresses")
	if err != nil {
		t.Fatal(err)
	}
	p.hup()
	after, err := p.b.Control().Conf("ReachableORAddresses")
	if err != nil || strings.Join(after, ",") != strings.Join(before, ",") {
		t.Errorf("after HUP ReachableORAddresses is %v, %v; before %v", after, err, before)
	}
	p.staysApart(4 * time.Second)
}

// TestBrokenTorrc: a torrc that is being edited makes Tor exit at a reload. Applying an order must not reload; and after somebody's HUP has
// ended Tor, the corrected Tor comes back without the guard.
func TestBrokenTorrc(t *testing.T) {
	p := newPair(t, setup{})
	good, err := os.ReadFile(p.b.Torrc())
	if err != nil {
		t.Fatal(err)
	}
	p.editTorrc(func(s string) string { return s + "HalfAnOpt" })
	p.startBob()
	p.awaitApart(40 * time.Second)
	p.awaitApplied()
	p.hups++
	if err := p.b.HUP(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.b.Exited():
	case <-p.ctx(20 * time.Second).Done():
		t.Fatal("Tor survives a broken torrc: this test tests nothing")
	}
	if err := os.WriteFile(p.b.Torrc(), good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.b.Bootstrap(p.ctx(60 * time.Second)); err != nil {
		t.Fatal(err)
	}
	p.staysApart(4 * time.Second)
	p.awaitApart(20 * time.Second)
}

// TestAgentKilled: the guest agent is killed right after each step of applying an order, and started again.
func TestAgentKilled(t *testing.T) {
	for _, step := range []string{"order-seen", "setconf-sent", "include-temp", "include-written", "circuits-closed", "receipt-written"} {
		t.Run(step, func(t *testing.T) {
			p := newPair(t, setup{})
			agent := p.startBob("GUARDRING_KILL_AT=" + step)
			p.awaitKilled(agent, step)
			p.startBob()
			p.awaitApart(40 * time.Second)
			p.awaitApplied()
			p.hup() // file and running value agree
			p.staysApart(3 * time.Second)
		})
	}
}

// awaitKilled waits for the end of a process that kills itself at a step.
func (p *pair) awaitKilled(proc *tornet.Process, step string) {
	p.t.Helper()
	select {
	case <-proc.Done():
	case <-p.ctx(40 * time.Second).Done():
		p.t.Fatalf("the step %s is never reached", step)
	}
	if err := proc.Err(); err == nil || !strings.Contains(err.Error(), "killed") {
		p.t.Fatalf("ended with %v, not by SIGKILL at %s", err, step)
	}
}

// coordinate starts a coordinator by itself; the server runs already.
func (p *pair) coordinate(name string, env ...string) *tornet.Process {
	p.t.Helper()
	proc, err := p.rig.Start(name, env, p.rig.Host, "coordinate", "--config", p.rig.ConfigFile())
	if err != nil {
		p.t.Fatal(err)
	}
	return proc
}

// serve starts the server by itself.
func (p *pair) serve(env ...string) {
	p.t.Helper()
	if _, err := p.rig.Start("server", env, p.rig.Host, "serve", "--config", p.rig.ConfigFile()); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pair) awaitActing() rig.Status {
	p.t.Helper()
	return p.awaitStatus(20*time.Second, "an acting coordinator", rig.Status.Acting)
}

// TestCoordinatorKilled: the coordinator is killed right after each step between ledger, order and doorbell. The next one goes on from the
// ledger: the same gateway moves, and only it.
func TestCoordinatorKilled(t *testing.T) {
	for _, step := range []string{"ledger-durable", "order-written", "ring-written", "doorbell-rung"} {
		t.Run(step, func(t *testing.T) {
			p := newPair(t, setup{noHost: true})
			p.serve()
			first := p.coordinate("host")
			term := p.awaitActing().Term
			p.startAlice()
			// Alice's claim is durable; bob comes when a coordinator that dies at the step has taken over.
			if err := first.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			<-first.Done()
			second := p.coordinate("second", "GUARDRING_KILL_AT="+step)
			p.startBob()
			p.awaitKilled(second, step)
			p.coordinate("third")
			if s := p.awaitActing(); s.Term < term+2 {
				t.Errorf("the third coordinator's term is %d, the first one's was %d", s.Term, term)
			}
			p.awaitApart(40 * time.Second)
			p.awaitApplied()
		})
	}
}

// TestCoordinatorStoppedAndContinued: one that was stopped and replaced, and goes on, must change nothing.
func TestCoordinatorStoppedAndContinued(t *testing.T) {
	p := newPair(t, setup{noHost: true})
	p.serve()
	p.coordinate("host")
	p.awaitActing()
	standby := p.coordinate("standby")
	p.startAlice()
	s := p.awaitStatus(20*time.Second, "a standby", func(s rig.Status) bool {
		return slices.ContainsFunc(s.Coordinators, func(c rig.Coordinator) bool { return c.Role == "standby" && c.PID == standby.PID() })
	})
	var old int
	for _, c := range s.Coordinators {
		if c.Role == "acting" {
			old = c.PID
		}
	}
	if err := syscall.Kill(old, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	term := s.Term
	p.awaitStatus(20*time.Second, "the standby acting", func(s rig.Status) bool {
		return slices.ContainsFunc(s.Coordinators, func(c rig.Coordinator) bool { return c.Role == "acting" && c.PID == standby.PID() && c.Term > term })
	})
	p.startBob()
	p.awaitApart(40 * time.Second)
	p.awaitApplied()
	order := p.awaitActing().Member(bob).Order
	if err := syscall.Kill(old, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	p.awaitStatus(20*time.Second, "the old one standing down", func(s rig.Status) bool {
		return slices.ContainsFunc(s.Coordinators, func(c rig.Coordinator) bool { return c.PID == old && c.Role == "standby" })
	})
	p.staysApart(3 * time.Second)
	if now := p.awaitActing().Member(bob).Order; !slices.Equal(now.Exclusions, order.Exclusions) {
		t.Errorf("bob's order changed from %v to %v", order, now)
	}
	p.checkAlice()
}

// TestServerRestarted: a service manager keeps regions and eventfds over the server's death. Alice's agent and the coordinator go on with
// the memory that they have; bob's agent, which takes its seat from the new server, meets them in it.
func TestServerRestarted(t *testing.T) {
	p := newPair(t, setup{noHost: true, fdStore: true})
	store, err := rig.NewFDStore(p.rig.Dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	server, err := p.rig.StartServer(store)
	if err != nil {
		t.Fatal(err)
	}
	coordinator := p.coordinate("host")
	p.awaitActing()
	agent := p.startAlice()
	before := p.awaitActing()
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if store.Len() == 0 {
		t.Fatal("nothing is stored")
	}
	if _, err = p.rig.StartServer(store); err != nil {
		t.Fatal(err)
	}
	p.startBob()
	p.awaitApart(40 * time.Second)
	p.awaitApplied()
	after := p.awaitActing()
	if after.Term != before.Term || after.Epoch != before.Epoch || !coordinator.Running() {
		t.Errorf("the coordinator has noticed: term %d of %s, before %d of %s", after.Term, after.Epoch, before.Term, before.Epoch)
	}
	if !agent.Running() {
		t.Error("alice's agent has ended")
	}
	// Alice's agent still publishes into memory that the coordinator reads.
	seq := after.Member(alice).Publication.Seq
	if err := p.a.Control().SetConf("NumPrimaryGuards=4"); err != nil {
		t.Fatal(err)
	}
	stop := keepBusy(t, p.a)
	defer stop()
	p.awaitStatus(40*time.Second, "alice's next publication", func(s rig.Status) bool { return s.Member(alice).Publication.Seq > seq })
}

// TestBothAtOnce: two gateways that start at the same time with the same guards: exactly one moves.
func TestBothAtOnce(t *testing.T) {
	p := newPair(t, setup{noHost: true})
	p.startHost()
	if _, err := p.ga.StartGuest(); err != nil {
		t.Fatal(err)
	}
	p.startBob()
	stopA, stopB := keepBusy(t, p.a), keepBusy(t, p.b)
	defer stopA()
	defer stopB()
	apart := func() (moved string) {
		ctx := p.ctx(40 * time.Second)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			a, errA := oracle.Look(p.a)
			b, errB := oracle.Look(p.b)
			if errA == nil && errB == nil {
				aGone, bGone := gone(a, p.common.Fingerprint), gone(b, p.common.Fingerprint)
				switch {
				case aGone && bGone:
					t.Fatal("both have moved")
				case aGone && slices.Equal(b.Primary, p.beforeB.Primary):
					return "alice"
				case bGone && slices.Equal(a.Primary, p.beforeA.Primary):
					return "bob"
				}
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatal("nobody has moved")
			}
		}
	}
	moved := apart()
	p.awaitStatus(20*time.Second, "no conflict left", func(s rig.Status) bool {
		return len(s.Conflicts) == 0 && s.Member(moved+"/default").Receipt.Status == "applied"
	})
	if again := apart(); again != moved {
		t.Errorf("first %s moved, then %s", moved, again)
	}
}

// TestOtherController: somebody else sets our option. The exclusion comes back, and the other's value is kept behind it.
func TestOtherController(t *testing.T) {
	p := newPair(t, setup{})
	p.startBob()
	p.awaitApart(40 * time.Second)
	p.awaitApplied()
	other := "reject " + network.Guards[9].Addr()
	if err := p.b.Control().SetConf("ReachableORAddresses="+other, "ReachableORAddresses=accept *:*"); err != nil {
		t.Fatal(err)
	}
	stop := keepBusy(t, p.b)
	defer stop()
	if _, err := oracle.Await(p.ctx(30*time.Second), p.b, "the exclusion in force again", func(v oracle.View) bool {
		conf, err := p.b.Control().Conf("ReachableORAddresses")
		all := strings.Join(conf, ",")
		return err == nil && strings.Contains(all, p.common.Addr()) && strings.Contains(all, other) && gone(v, p.common.Fingerprint)
	}); err != nil {
		t.Fatal(err)
	}
	p.checkAlice()
}

// TestGatewayLeaves: when the incumbent's agent ends, its claim stays: the newcomer is not moved back.
func TestGatewayLeaves(t *testing.T) {
	p := newPair(t, setup{noHost: true})
	host := p.startHost()
	a := p.startAlice()
	p.startBob()
	p.awaitApart(40 * time.Second)
	p.awaitApplied()
	if err := a.Kill(); err != nil {
		t.Fatal(err)
	}
	p.awaitStatus(20*time.Second, "alice shown as away", func(s rig.Status) bool { return s.Member(alice).State == "away" })
	p.staysApart(4 * time.Second)
	// A coordinator that knows alice from the ledger only decides the same.
	if err := host.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	p.startHost()
	p.awaitStatus(20*time.Second, "alice's claim out of the ledger", func(s rig.Status) bool {
		return slices.ContainsFunc(s.Member(alice).Guards, func(g rig.Guard) bool { return g.Fingerprint == p.common.Fingerprint && !g.Claimed.IsZero() })
	})
	p.staysApart(4 * time.Second)
	p.checkAlice()
}
