package simulation

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestBuiltinShape holds the built-in network to what was counted in the real
// consensus that it stands for: how likely it is that some of N clients, three
// primary guards each, have one in common.
func TestBuiltinShape(t *testing.T) {
	n := Builtin()
	rng := rand.New(rand.NewPCG(1, 1))
	const trials = 20_000
	for _, c := range []struct {
		clients       int
		relay, subnet float64
	}{{2, .0109, .0759}, {3, .0326, .2071}, {4, .0619, .3625}, {10, .3872, .9530}} {
		var common [observers]int
		for range trials {
			var seen [observers]map[int]int
			var hit [observers]bool
			for o := range seen {
				seen[o] = map[int]int{}
			}
			for client := range c.clients {
				var mine []int
				for len(mine) < 3 {
					i := n.pick(rng.Float64())
					if len(mine) > 0 && mine[0] == i || len(mine) > 1 && mine[1] == i {
						continue
					}
					mine = append(mine, i)
					for o := range seen {
						k := n.class(Observer(o), i)
						if other, ok := seen[o][k]; ok && other != client {
							hit[o] = true
						}
						seen[o][k] = client
					}
				}
			}
			for o := range hit {
				if hit[o] {
					common[o]++
				}
			}
		}
		for _, x := range []struct {
			o    Observer
			want float64
		}{{ByRelay, c.relay}, {BySubnet, c.subnet}} {
			got := float64(common[x.o]) / trials
			t.Logf("%d clients, %s: %.4f, want %.4f", c.clients, x.o, got, x.want)
			noise := 3 * math.Sqrt(x.want*(1-x.want)/trials)
			if math.Abs(got-x.want) > .06*x.want+noise {
				t.Errorf("%d clients share a %s with probability %.4f, want %.4f within 6 %%", c.clients, x.o, got, x.want)
			}
		}
	}
	for _, x := range []struct {
		o    Observer
		want float64 // the chance that two draws meet
	}{{ByRelay, .001216}, {ByFamily, .001926}, {BySubnet, .009036}} {
		got := 0.0
		for _, s := range n.shares(x.o) {
			got += s * s
		}
		t.Logf("two draws meet in a %s: %.5f, want %.5f", x.o, got, x.want)
		if math.Abs(got-x.want) > .06*x.want {
			t.Errorf("two draws meet in a %s with probability %.5f, want %.5f within 6 %%", x.o, got, x.want)
		}
	}
	if len(n.Relays) != builtinGuards {
		t.Errorf("%d guards, want %d", len(n.Relays), builtinGuards)
	}
}
