//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"guardring/e2e/rig"
	"guardring/e2e/tornet"
)

// Each test here is about a Tor that must not be moved: everyone stays connected, and both sides say why.

// saysAll waits until bob's agent says each of the words in its status for people.
func (p *pair) saysAll(words ...string) {
	p.t.Helper()
	ctx := p.ctx(20 * time.Second)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		_, text := p.bobStatus()
		missing := slices.DeleteFunc(slices.Clone(words), func(w string) bool { return strings.Contains(text, w) })
		if len(missing) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			p.t.Fatalf("bob's status does not say %q:\n%s", missing, text)
		}
	}
}

// unchanged checks that nothing of ours is in bob's Tor.
func (p *pair) unchanged() {
	p.t.Helper()
	conf, err := p.b.Control().Conf("ReachableORAddresses")
	if err != nil {
		p.t.Fatal(err)
	}
	if slices.ContainsFunc(conf, func(l string) bool { return strings.Contains(l, "192.0.2.71") }) {
		p.t.Errorf("bob's ReachableORAddresses was changed: %v", conf)
	}
}

// TestBridges: a Tor with a bridge is observed only, even where the bridge is a relay that alice has for a guard.
func TestBridges(t *testing.T) {
	g := network.Guards[0]
	p := newPair(t, setup{bobTail: fmt.Sprintf("UseBridges 1\nBridge %s %s\n", g.Addr(), g.Fingerprint), bobOptions: "join-gate: closed\n", wantBob: []*tornet.Relay{g}})
	p.startBob()
	p.onlyObserved()
	p.staysTogether(6 * time.Second)
	p.onlyObserved()
}

// onlyObserved checks that bob's bridge is neither compared nor given up, and that this is said.
func (p *pair) onlyObserved() {
	p.t.Helper()
	p.saysAll("selection bridges", "this Tor uses bridges: it is only observed")
	p.awaitStatus(20*time.Second, "bob observed only, without a conflict", func(s rig.Status) bool {
		m := s.Member(bob)
		return m.State == "observe-only" && len(s.Conflicts) == 0 && len(m.Order.Exclusions) == 0
	})
	p.unchanged()
}

// TestBridgesLater: a member's Tor goes over to a bridge whose fingerprint nobody has told it.
func TestBridgesLater(t *testing.T) {
	g := network.Guards
	p := newPair(t, setup{plantA: []*tornet.Relay{g[0], g[1], g[2]}, plantB: []*tornet.Relay{g[5], g[3], g[4]}})
	p.startBob()
	p.awaitStatus(20*time.Second, "bob's claim", func(s rig.Status) bool { return s.Holds(bob, g[5].Fingerprint) })
	if err := p.b.Control().SetConf("UseBridges=1", "Bridge="+g[0].Addr()); err != nil {
		t.Fatal(err)
	}
	p.onlyObserved()
	p.connected()
	p.onlyObserved()
	s, text := p.bobStatus()
	if text == "" || slices.ContainsFunc(s.Problems, func(x complaint) bool { return strings.Contains(x.Text, "cannot be shown") }) {
		t.Errorf("bob's agent does not answer, or has problems: %+v", s.Problems)
	}
	p.checkAlice()
}

// TestCannotMove: EntryNodes that leave one guard (Tor's restricted selection), and a firewall that passes 5 of 19: bob keeps the
// duplicate, and host and guest say why.
func TestCannotMove(t *testing.T) {
	g := network.Guards
	var firewall strings.Builder
	for i, r := range g {
		if i != 0 && (i < 3 || i > 6) {
			fmt.Fprintf(&firewall, "reject %s, ", r.Addr())
		}
	}
	for name, c := range map[string]struct {
		tail      string
		want      []*tornet.Relay
		host      string
		guestSays []string
	}{
		"entry nodes": {"EntryNodes " + g[0].Fingerprint + "\n", g[:1], "restricted", []string{"selection restricted", "EntryNodes or a firewall leave Tor so few guards", "everyone stays connected"}},
		"firewall":    {"ReachableORAddresses " + firewall.String() + "reject [::1]:*, accept *:*\n", nil, "too few", []string{"few-guards", "leave too few guards", "everyone stays connected"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, setup{bobTail: c.tail, wantBob: c.want})
			p.startBob()
			p.awaitStatus(30*time.Second, "the conflict said to stay, and why", func(s rig.Status) bool {
				return slices.ContainsFunc(s.Conflicts, func(k rig.Conflict) bool {
					return k.Fingerprint == g[0].Fingerprint && k.Newcomer == bob && strings.Contains(k.Reason, c.host)
				}) && s.Verdict != "ok"
			})
			p.saysAll(c.guestSays...)
			p.staysTogether(6 * time.Second)
			p.unchanged()
		})
	}
}
