package simulation

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
)

// The built-in network has the shape of a public consensus (April 2018): the
// number of guards, how their weights are spread, how much of the weight is in
// the large /16s, how large families are. It holds no relay of it. Weights were
// counted as Tor draws guards: with Wgg, and Wgd for exits, which was 0.

// builtinGuards is how many guards there were.
const builtinGuards = 1798

// weightQuantiles: the weight, in parts of the mean, that a share of the guards
// exceeds.
var weightQuantiles = []struct{ share, weight float64 }{
	{0, 11.04}, {.01, 5.951}, {.02, 4.281}, {.05, 3.073}, {.1, 2.001}, {.2, 1.390}, {.3, 1.078}, {.4, .864},
	{.5, .676}, {.6, .531}, {.7, .411}, {.8, .300}, {.9, .202}, {.95, .144}, {1, .002},
}

// builtinSubnets: guards and share of the weight of the heaviest /16s.
var builtinSubnets = []struct {
	guards int
	share  float64
}{
	{62, .0487}, {74, .0431}, {12, .0217}, {21, .0191}, {11, .0154}, {33, .0149}, {17, .0139}, {17, .0127}, {14, .0116},
	{4, .0115}, {32, .0107}, {8, .0105}, {10, .0103}, {8, .0099}, {10, .0097}, {14, .0090}, {9, .0088}, {19, .0087},
	{9, .0087}, {2, .0081}, {10, .0080}, {11, .0074}, {14, .0073}, {6, .0071}, {14, .0071},
}

// builtinSubnetSizes: how many of the other /16s have so many guards.
var builtinSubnetSizes = []struct{ guards, subnets int }{
	{12, 3}, {11, 2}, {10, 3}, {9, 10}, {8, 5}, {7, 4}, {6, 14}, {5, 13}, {4, 17}, {3, 47}, {2, 117}, {1, 476},
}

// builtinFamilies: relays and share of the weight of the heaviest families, by
// the rule of FromConsensus.
var builtinFamilies = []struct {
	relays int
	share  float64
}{
	{6, .0175}, {7, .0109}, {11, .0069}, {4, .0064}, {2, .0061}, {4, .0056}, {4, .0049}, {6, .0048}, {6, .0045},
	{7, .0043}, {7, .0043}, {2, .0041}, {6, .0040}, {2, .0038}, {2, .0037},
}

// builtinFamilySizes: how many of the other families have so many relays.
var builtinFamilySizes = []struct{ relays, families int }{{6, 2}, {4, 11}, {3, 9}, {2, 81}}

// Builtin makes the built-in network; it is always the same one.
func Builtin() *Network {
	rng := rand.New(rand.NewPCG(2018, 8))
	n := &Network{Name: "built-in weights (the shape of April 2018)"}
	subnet := 0
	places := rng.Perm(builtinGuards)
	// add puts a /16 with so many guards there; share 0 leaves their weights alone.
	add := func(guards int, share float64) {
		sum := 0.0
		from := len(n.Relays)
		for i := range guards {
			w := weightAt((float64(places[len(n.Relays)]) + .5) / builtinGuards)
			if share > 0 {
				w = math.Pow(w, .75) // relays of one large host are more alike
			}
			sum += w
			n.Relays = append(n.Relays, Relay{Weight: w, Subnet: subnet, Addr: builtinAddr(subnet, i)})
		}
		for i := from; share > 0 && i < len(n.Relays); i++ {
			n.Relays[i].Weight *= share * builtinGuards / sum
		}
		subnet++
	}
	large := 0.0
	for _, s := range builtinSubnets {
		add(s.guards, s.share)
		large += s.share
	}
	from := len(n.Relays)
	for _, s := range builtinSubnetSizes {
		for range s.subnets {
			add(s.guards, 0)
		}
	}
	for len(n.Relays) < builtinGuards {
		add(1, 0)
	}
	rest := 0.0
	for _, r := range n.Relays[from:] {
		rest += r.Weight
	}
	for i := range n.Relays[from:] {
		n.Relays[from+i].Weight *= (1 - large) * builtinGuards / rest
	}
	n.finish()
	n.builtinFamilies(rng)
	return n
}

// weightAt is the weight, in parts of the mean, at a place of the distribution:
// between two quantiles it falls evenly on a logarithmic scale.
func weightAt(share float64) float64 {
	i := 1
	for weightQuantiles[i].share < share {
		i++
	}
	a, b := weightQuantiles[i-1], weightQuantiles[i]
	t := (share - a.share) / (b.share - a.share)
	return math.Exp(math.Log(a.weight) + t*(math.Log(b.weight)-math.Log(a.weight)))
}

func builtinAddr(subnet, i int) netip.AddrPort {
	first, second := 20+subnet/256, subnet%256
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(first), byte(second), byte(i), 1}), 9001)
}

// builtinFamilies hands out families: a heavy one gets the relays whose weights
// come nearest to its mean.
func (n *Network) builtinFamilies(rng *rand.Rand) {
	free := n.heaviest()
	for i := range n.Relays {
		n.Relays[i].Family = -1
	}
	family := 0
	found := func(members []int) {
		for _, i := range members {
			n.Relays[i].Family = family
			free = slices.DeleteFunc(free, func(j int) bool { return i == j })
		}
		family++
	}
	for _, f := range builtinFamilies {
		mean := f.share / float64(f.relays)
		at := 0
		for at < len(free)-f.relays && n.Relays[free[at]].Weight > mean {
			at++
		}
		at = max(0, at-f.relays/2)
		found(slices.Clone(free[at : at+f.relays]))
	}
	for _, s := range builtinFamilySizes {
		for range s.families {
			var members []int
			for len(members) < s.relays {
				// Not from the heaviest: those are in the table.
				i := free[len(free)/20+rng.IntN(len(free)-len(free)/20)]
				if !slices.Contains(members, i) {
					members = append(members, i)
				}
			}
			found(members)
		}
	}
	for i := range n.Relays {
		if n.Relays[i].Family < 0 {
			n.Relays[i].Family = family
			family++
		}
	}
}
