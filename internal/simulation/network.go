package simulation

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"guardring/internal/consensus"
)

// Relay is one place for a guard. Who stands there may change (Churn); its
// weight, network and family stay, so that the network keeps its shape.
type Relay struct {
	Weight float64 // share of the guard weight; all together 1
	Subnet int     // number of its /16
	Family int     // number of its family; alone in it or not, everyone has one
	Addr   netip.AddrPort
}

// Network is what guards are drawn from.
type Network struct {
	Name   string // where it comes from, for people
	Relays []Relay
	until  []float64 // cumulative weights
}

// Observer is who could see two gateways.
type Observer int

// The observers, from the narrowest.
const (
	ByRelay Observer = iota
	ByFamily
	BySubnet
	observers
)

// Observers are all of them, in order.
var Observers = [observers]Observer{ByRelay, ByFamily, BySubnet}

// String names the observer as tables do.
func (o Observer) String() string { return [...]string{"relay", "family", "/16"}[o] }

// class is the number of relay i's observer of a kind.
func (n *Network) class(o Observer, i int) int {
	switch o {
	case ByFamily:
		return n.Relays[i].Family
	case BySubnet:
		return n.Relays[i].Subnet
	}
	return i
}

// shares returns the share of the guard weight of each class of a kind.
func (n *Network) shares(o Observer) []float64 {
	var all []float64
	for i := range n.Relays {
		for k := n.class(o, i); len(all) <= k; {
			all = append(all, 0)
		}
		all[n.class(o, i)] += n.Relays[i].Weight
	}
	return all
}

// finish normalises the weights.
func (n *Network) finish() *Network {
	sum := 0.0
	for i := range n.Relays {
		sum += n.Relays[i].Weight
	}
	n.until = make([]float64, len(n.Relays))
	at := 0.0
	for i := range n.Relays {
		n.Relays[i].Weight /= sum
		at += n.Relays[i].Weight
		n.until[i] = at
	}
	return n
}

// pick returns the relay at x, 0 <= x < 1, of the cumulative weights.
func (n *Network) pick(x float64) int {
	i, _ := slices.BinarySearch(n.until, x)
	return min(i, len(n.Relays)-1)
}

// leastGuards is how small a network may be: Tor samples at most a fifth of it.
const leastGuards = 200

// FromConsensus takes the guards of a consensus with their weights and /16s.
//
// A consensus says nothing of families (descriptors do). They are made up by a
// rule of the same shape: relays whose nicknames differ only in the digits at
// their end are one family (operators number their relays), unless the name is
// shorter than four letters or one that many take. It finds fewer families than
// there are.
func FromConsensus(d *consensus.Document) (*Network, error) {
	n := &Network{Name: "the consensus of " + d.ValidAfter.UTC().Format("2006-01-02 15:04")}
	subnets, families := map[netip.Addr]int{}, map[string]int{}
	for i := range d.Relays {
		r := &d.Relays[i]
		w := d.GuardWeight(r)
		if w == 0 || !r.Addrs[0].Addr().Is4() {
			continue
		}
		b := r.Addrs[0].Addr().As4()
		n.Relays = append(n.Relays, Relay{
			Weight: w, Addr: r.Addrs[0],
			Subnet: number(subnets, netip.AddrFrom4([4]byte{b[0], b[1]})),
			Family: number(families, familyName(r)),
		})
	}
	if len(n.Relays) < leastGuards {
		return nil, errors.New("the consensus has too few guards to simulate with: want a public network's, 200 at least")
	}
	return n.finish(), nil
}

func number[K comparable](m map[K]int, k K) int {
	i, ok := m[k]
	if !ok {
		i = len(m)
		m[k] = i
	}
	return i
}

// commonNames are nicknames that unrelated operators take.
var commonNames = []string{"unnamed", "default", "relay", "torrelay", "node", "tornode", "guard", "server", "tor", "test"}

func familyName(r *consensus.Relay) string {
	stem := strings.TrimRight(strings.ToLower(r.Nickname), "0123456789")
	if len(stem) < 4 || slices.Contains(commonNames, stem) {
		return "$" + r.Fingerprint.String()
	}
	return stem
}

// heaviest returns the numbers of the relays with falling weight; equal ones in
// order.
func (n *Network) heaviest() []int {
	all := make([]int, len(n.Relays))
	for i := range all {
		all[i] = i
	}
	slices.SortStableFunc(all, func(a, b int) int { return cmp.Compare(n.Relays[b].Weight, n.Relays[a].Weight) })
	return all
}

// familyID is a family's identity as publications state it.
func familyID(family int) [32]byte {
	return sha256.Sum256([]byte{'f', byte(family >> 16), byte(family >> 8), byte(family)})
}
