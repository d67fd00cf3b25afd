//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"guardring/e2e/impostor"
	"guardring/e2e/oracle"
	"guardring/e2e/rig"
	"guardring/e2e/tornet"
)

// In each test here alice and bob hold different relays that are in one hand or in one network. Only guards that were never used are moved
// for that, so the Tors are calm: they use the first guard, and the others are primary only.

// planted picks guards by number.
func planted(numbers ...int) []*tornet.Relay {
	var out []*tornet.Relay
	for _, n := range numbers {
		out = append(out, network.Guards[n])
	}
	return out
}

// awaitMoved waits until bob's Tor has given up the victims, and checks that all else is as it was: bob's other guards and what he uses, and
// everything of alice.
func (p *pair) awaitMoved(victims ...*tornet.Relay) {
	p.t.Helper()
	stop := keepBusy(p.t, p.b)
	defer stop()
	lost := fingerprints(victims)
	v, err := oracle.Await(p.ctx(40*time.Second), p.b, "the victims given up", func(v oracle.View) bool {
		return len(v.Primary) >= len(p.beforeB.Primary) && !slices.ContainsFunc(v.Primary, func(fp string) bool { return slices.Contains(lost, fp) })
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.awaitApplied()
	after := v.Primary
	p.watch(3*time.Second, func(v oracle.View) error {
		if !slices.Equal(v.Primary, after) {
			return fmt.Errorf("bob's primary guards changed again, from %v to %v", after, v.Primary)
		}
		return nil
	})
	var kept []string
	for _, fp := range p.beforeB.Primary {
		if !slices.Contains(lost, fp) {
			kept = append(kept, fp)
		}
	}
	if !slices.Equal(after[:len(kept)], kept) {
		p.t.Errorf("bob's other primary guards are %v, before %v", after, kept)
	}
	if v, err := oracle.Look(p.b); err != nil || !slices.Equal(v.InUse, p.beforeB.InUse) {
		p.t.Errorf("bob uses %v, %v; before %v", v.InUse, err, p.beforeB.InUse)
	}
	p.aliceUntouched()
}

// aliceUntouched checks that alice's Tor is as it was, and was told nothing.
func (p *pair) aliceUntouched() {
	p.t.Helper()
	p.checkAlice()
	if conf, err := p.a.Control().Conf("ReachableORAddresses"); err != nil || strings.Contains(strings.Join(conf, ","), "reject") {
		p.t.Errorf("alice was told to give up guards: %v, %v", conf, err)
	}
}

// bobShown waits until the coordinator knows all of bob's primary guards.
func (p *pair) bobShown() {
	p.t.Helper()
	p.awaitStatus(20*time.Second, "bob's claims", func(s rig.Status) bool {
		return !slices.ContainsFunc(p.beforeB.Primary, func(fp string) bool { return !s.Holds(bob, fp) })
	})
}

// restartHost restarts the host with other options.
func (p *pair) restartHost(host *tornet.Process, options string) {
	p.t.Helper()
	p.rig.Options = options
	if err := errors.Join(p.rig.WriteHostConfig(), host.Stop(10*time.Second)); err != nil {
		p.t.Fatal(err)
	}
	p.startHost()
}

// TestFamilyKey: two relays that prove one family key. With the level switched off nothing happens; with it the later one moves.
func TestFamilyKey(t *testing.T) {
	p := newPair(t, setup{calm: true, noHost: true, hostOptions: "levels: []\n",
		plantA: planted(1, 2, guardKeyA), plantB: planted(3, 4, guardKeyB)})
	host := p.startHost()
	p.startAlice()
	p.startBob()
	p.bobShown()
	p.staysTogether(3 * time.Second)
	p.restartHost(host, "levels: [family]\n")
	p.awaitMoved(network.Guards[guardKeyB])
}

// TestFamilyList: two relays that declare each other are a family. A relay that declares another one which declares nothing of it is none,
// and one network is not compared unless it is configured.
func TestFamilyList(t *testing.T) {
	p := newPair(t, setup{calm: true, plantA: planted(1, guardKeyA, guardListA), plantB: planted(3, guardAlone, guardListB)})
	p.startBob()
	p.awaitMoved(network.Guards[guardListB])
}

// TestSubnet: two relays in one /16, with that level configured. All other relays are in networks of their own.
func TestSubnet(t *testing.T) {
	p := newPair(t, setup{calm: true, hostOptions: "levels: [family, subnet]\n",
		plantA: planted(1, 2, guardKeyA), plantB: planted(3, 4, guardAlone)})
	p.startBob()
	p.awaitMoved(network.Guards[guardAlone])
}

// TestOperatorGroup: the operator knows that two relays are in one hand, though they declare nothing.
func TestOperatorGroup(t *testing.T) {
	g := network.Guards
	p := newPair(t, setup{calm: true, plantA: planted(1, 2, 5), plantB: planted(3, 4, 6),
		hostOptions: fmt.Sprintf("groups:\n  - name: acme\n    relays: [%s, %s]\n", g[5].Fingerprint, g[6].Fingerprint)})
	p.startBob()
	p.awaitMoved(g[6])
}

// TestRelatedInUse: guards that were used are not moved for a family or a network: a move after the fact does not undo what the relays
// know. They are reported.
func TestRelatedInUse(t *testing.T) {
	p := newPair(t, setup{hostOptions: "levels: [family, subnet]\n",
		plantA: planted(guardKeyA, 1, 2), plantB: planted(guardKeyB, guardAlone, 3)})
	p.useBoth()
	p.startBob()
	p.awaitStatus(30*time.Second, "both conflicts reported", func(s rig.Status) bool {
		for guard, level := range map[int]string{guardKeyB: "family", guardAlone: "subnet"} {
			if !slices.ContainsFunc(s.Conflicts, func(c rig.Conflict) bool {
				return c.Fingerprint == network.Guards[guard].Fingerprint && c.Level == level && c.Newcomer == bob && c.Incumbent == alice &&
					strings.Contains(c.Reason, "both have used")
			}) {
				return false
			}
		}
		return true
	})
	p.staysTogether(5 * time.Second)
	p.aliceUntouched()
}

// useBoth waits until bob uses his first two guards, as conflux does.
func (p *pair) useBoth() {
	p.t.Helper()
	stop := keepBusy(p.t, p.b)
	defer stop()
	v, err := oracle.Await(p.ctx(40*time.Second), p.b, "use of two guards", func(v oracle.View) bool {
		return oracle.AllIn(p.beforeB.Primary[:2], v.InUse)
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.beforeB = v
}

// TestLyingGateway: a hostile gateway claims a relay and says that it is in one family and one network with a guard of bob's. Bob's own Tor
// says otherwise: nobody is moved for the lie, and it is named. What the same gateway says truly counts, so its claims were heard.
func TestLyingGateway(t *testing.T) {
	g := network.Guards
	p := newPair(t, setup{calm: true, noHost: true, hostOptions: "levels: [family, subnet]\n",
		plantA: planted(1, 2, 5), plantB: planted(3, 4, guardKeyB)})
	const mallory = "mallory/default"
	gw, err := p.rig.Add("mallory")
	if err != nil {
		t.Fatal(err)
	}
	p.startHost()
	p.startAlice()
	liar := take(t, gw)
	invented := strings.Repeat("A", 42) + "E"
	if err := liar.Publish(
		impostor.Guard{Fingerprint: g[guardKeyA].Fingerprint, Addr: g[guardKeyA].Addr(), FamilyIDs: []string{g[guardKeyA].FamilyID}, Primary: true, InUse: true},
		impostor.Guard{Fingerprint: g[6].Fingerprint, Addr: near(g[4]),
			FamilyIDs: []string{invented}, Family: []string{g[4].Fingerprint}, Primary: true},
		impostor.Guard{Fingerprint: g[4].Fingerprint, Addr: g[4].Addr(), FamilyIDs: []string{invented}, Family: []string{g[6].Fingerprint}},
	); err != nil {
		t.Fatal(err)
	}
	p.awaitStatus(20*time.Second, "mallory's claims", func(s rig.Status) bool {
		return s.Holds(mallory, g[guardKeyA].Fingerprint) && s.Holds(mallory, g[6].Fingerprint)
	})
	p.startBob()
	p.awaitMoved(g[guardKeyB])
	p.awaitStatus(20*time.Second, "the contradictions named", func(s rig.Status) bool {
		return s.Contradicted(g[4].Fingerprint, "family", mallory) && s.Contradicted(g[6].Fingerprint, "subnet", mallory)
	})
}

// take has an impostor in a gateway's seat until the test ends.
func take(t *testing.T, gw *rig.Gateway) *impostor.Impostor {
	t.Helper()
	guest, err := impostor.Take(gw.Socket())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { guest.Close() })
	return guest
}

// near is an address in the /16 of a relay, at which none is.
func near(r *tornet.Relay) string {
	addr := netip.MustParseAddr(r.Address).As4()
	addr[2] = 77
	return netip.AddrPortFrom(netip.AddrFrom4(addr), 9001).String()
}

// TestConsensusFile: the operator's consensus file knows better than a gateway that lies about the network of a relay: the lie is named
// before anybody else has said a word about that relay.
func TestConsensusFile(t *testing.T) {
	g := network.Guards
	p := newPair(t, setup{calm: true, noHost: true, plantA: planted(1, 2, 5), plantB: planted(3, 4, 7)})
	gw, err := p.rig.Add("mallory")
	if err != nil {
		t.Fatal(err)
	}
	p.rig.Options = fmt.Sprintf("levels: [family, subnet]\nconsensus: %s\n", filepath.Join(p.a.DataDir(), "cached-microdesc-consensus"))
	if err := p.rig.WriteHostConfig(); err != nil {
		t.Fatal(err)
	}
	p.startHost()
	liar := take(t, gw)
	if err := liar.Publish(impostor.Guard{Fingerprint: g[6].Fingerprint, Addr: near(g[4]), Primary: true}); err != nil {
		t.Fatal(err)
	}
	p.awaitStatus(20*time.Second, "the lie named, against the file", func(s rig.Status) bool {
		return slices.ContainsFunc(s.Contradictions, func(c rig.Contradiction) bool {
			return c.Relay == g[6].Fingerprint && c.Level == "subnet" && c.One == "mallory/default" && c.Other == ""
		})
	})
	p.startAlice()
	p.startBob()
	p.awaitStatus(30*time.Second, "all three present, and no conflict", func(s rig.Status) bool {
		return s.Member(alice).State == "present" && s.Member(bob).State == "present" && len(s.Member(bob).Guards) > 2 && len(s.Conflicts) == 0
	})
	if o := p.awaitActing().Member(bob).Order; len(o.Exclusions) > 0 {
		t.Errorf("bob was told not to use %v", o.Exclusions)
	}
}

// TestBudgetSpent: bob uses two guards that alice had first, and may be told to give up one used guard in 60 days. The other one stays,
// and is named with the date.
func TestBudgetSpent(t *testing.T) {
	g := network.Guards
	p := newPair(t, setup{protection: "delay: {least: 0s, most: 0s}\n", plantA: planted(0, 5, 1), plantB: planted(0, 5, 3)})
	p.useBoth()
	stop := keepBusy(t, p.b)
	defer stop()
	p.startBob()
	left := func(v oracle.View) []string {
		return slices.DeleteFunc(fingerprints(planted(0, 5)), func(fp string) bool { return gone(v, fp) })
	}
	v, err := oracle.Await(p.ctx(40*time.Second), p.b, "one of two guards given up", func(v oracle.View) bool {
		return len(v.Primary) >= 3 && len(left(v)) == 1
	})
	if err != nil {
		t.Fatal(err)
	}
	p.awaitApplied()
	stays := left(v)[0]
	const day = 24 * time.Hour
	p.awaitStatus(20*time.Second, "what stays, and until when", func(s rig.Status) bool {
		used := s.Member(bob).Budget("forced-used")
		in := time.Until(used.Next)
		return s.Verdict != "ok" && used.Left == 0 && used.Waiting == 1 && in > 59*day && in < 61*day &&
			slices.ContainsFunc(s.Conflicts, func(c rig.Conflict) bool {
				return c.Fingerprint == stays && c.Newcomer == bob && c.State == "budget"
			})
	})
	p.watch(4*time.Second, func(v oracle.View) error {
		if !slices.Equal(left(v), []string{stays}) {
			return fmt.Errorf("of two common guards %v are left", left(v))
		}
		return nil
	})
	p.checkAlice()
	if slices.Contains(v.Primary, g[1].Fingerprint) {
		t.Error("bob was led to a guard of alice's")
	}
}

// TestDelay: the network provider sees changes, so a used guard is moved after a random time only, and a restart of the host draws no other
// one. A guard that was never used is moved at once.
func TestDelay(t *testing.T) {
	const least = 10 * time.Second
	p := newPair(t, setup{calm: true, noHost: true, protection: "delay: {least: 10s, most: 11s}\n",
		plantA: planted(0, 1, guardListA), plantB: planted(0, 4, guardListB)})
	host := p.startHost()
	p.startAlice()
	stop := keepBusy(t, p.b)
	defer stop()
	began := time.Now() // the conflict is seen later
	p.startBob()
	unused := network.Guards[guardListB].Fingerprint
	if _, err := oracle.Await(p.ctx(least), p.b, "the unused guard given up, the used one kept", func(v oracle.View) bool {
		return gone(v, unused) && slices.Contains(v.Primary, p.common.Fingerprint)
	}); err != nil {
		t.Fatal(err)
	}
	delayed := func(s rig.Status) (due time.Time) {
		for _, c := range s.Conflicts {
			if c.Fingerprint == p.common.Fingerprint {
				due = c.Due
			}
		}
		return due
	}
	before := p.awaitStatus(least, "the time of the move", func(s rig.Status) bool { return !delayed(s).IsZero() })
	p.restartHost(host, "")
	after := p.awaitStatus(least, "the time of the move after a restart", func(s rig.Status) bool { return !delayed(s).IsZero() })
	if !delayed(after).Equal(delayed(before)) {
		t.Errorf("the move is due %v, before the restart %v", delayed(after), delayed(before))
	}
	if _, err := oracle.Await(p.ctx(40*time.Second), p.b, "the used guard given up", func(v oracle.View) bool {
		return gone(v, p.common.Fingerprint)
	}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < least {
		t.Errorf("the used guard was given up after %v, the least delay is %v", took, least)
	}
	p.aliceUntouched()
}
