package coordinator

import (
	"encoding/binary"
	"math/bits"
	"slices"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// When two samples are the same one, seen twice. Tor draws a sample at random
// and keeps the order in which it drew, so the order says more than the set: k
// guards that two members have in common stand in the same order by chance once
// in k! times.
//
// On the public network samples have 20 to 60 out of thousands of guards. To
// share 15 of 20 by chance is out of the question, whatever the weights (below
// 10^-20), and their order adds 1/15!, 10^-12. In a private network with 20
// guards or fewer everybody samples all of them and only the order speaks: with
// 8 guards, the least that count, 1/8! = 2.5·10^-5 for a pair of members; with
// 14 guards 10^-11. That is why 8, and not 5 (1/120), are wanted. A member with
// fewer guards is never called a clone.
const (
	leastCommon   = 8
	commonPercent = 75 // of the smaller sample
)

// sample is the guards that a member showed last when it showed them whole, in
// sampled order. It is not changed once made, so that it can be shared.
// A member that is away keeps it: the usual clone is made of a
// gateway that is switched off. It is not in the ledger, which holds claims
// only; after a coordinator's start it comes with the member's publication.
type sample []guardstate.Fingerprint

// places says where the guards of a sample stand in it, from 1. It is made once to
// compare the sample with many.
type places map[guardstate.Fingerprint]int

func (s sample) places() places {
	at := make(places, len(s))
	for i := len(s) - 1; i >= 0; i-- {
		at[s[i]] = i + 1
	}
	return at
}

// common returns how many guards the two samples share, and whether these stand
// in the same order in both. A guard that is named twice counts once.
func (at places) common(b sample) (n int, sameOrder bool) {
	var met [shmproto.MaxGuards + 1]bool
	sameOrder = true
	last := 0
	for _, f := range b {
		i := at[f]
		if i == 0 || met[i] {
			continue
		}
		met[i] = true
		n++
		sameOrder = sameOrder && i > last
		last = i
	}
	return n, sameOrder
}

// like is how many common guards, in one order, make two samples of these sizes
// the same one.
func like(a, b int) int { return max(leastCommon, (commonPercent*min(a, b)+99)/100) }

// renewed: b was drawn anew. What is left of a sample that Tor changed one guard
// at a time, forwards or back to an old state, keeps its order.
func (a sample) renewed(b sample) bool {
	n, sameOrder := a.places().common(b)
	return !sameOrder || 4*n < min(len(a), len(b))
}

// same: a and b were drawn once and copied.
func (a sample) same(b sample) bool {
	n, sameOrder := a.places().common(b)
	return sameOrder && n >= like(len(a), len(b))
}

// sample returns the sample of a publication, nil if it is not one that counts:
// shown in part, of bridges (the user's own list, alike wherever it is alike),
// or empty.
func (p *publication) sample() sample {
	if p.partial() || len(p.guards) == 0 || p.bridges() {
		return nil
	}
	return p.ids
}

func (p *publication) bridges() bool {
	return slices.ContainsFunc(p.guards, func(g guard) bool { return g.has(shmproto.GuardBridge) })
}

// shows reports whether the publication shows exactly s. Mostly s is its own.
func (p *publication) shows(s sample) bool {
	if len(s) != len(p.ids) || p.bridges() {
		return false
	}
	return len(s) == 0 || &s[0] == &p.ids[0] || slices.Equal(s, p.ids)
}

// sketch is one bit per guard of a sample, for finding like ones fast. A hostile
// member can choose fingerprints that make it useless; then it is compared in
// full with everybody, which costs half a microsecond each, when its sample is new.
type sketch [4]uint64

func (s sample) sketch() (k sketch) {
	for _, f := range s {
		// Any fixed mixing will do: tests have fingerprints that are no digests.
		h := binary.LittleEndian.Uint64(f[:8])*0x9E3779B97F4A7C15 ^ binary.LittleEndian.Uint64(f[12:])
		h *= 0x9E3779B97F4A7C15
		k[h>>62] |= 1 << (h >> 56 & 63)
	}
	return k
}

// common returns how many bits the two have in common. It is no loop because it is
// asked for every member.
func (k *sketch) common(l *sketch) int {
	return bits.OnesCount64(k[0]&l[0]) + bits.OnesCount64(k[1]&l[1]) + bits.OnesCount64(k[2]&l[2]) + bits.OnesCount64(k[3]&l[3])
}

// sampleEntry is a member's entry in the list of samples, which is compact
// because it is gone through whenever a sample is new. That takes 3 ns a member:
// an index of samples by relay would look at fewer, but at each in a cold place.
type sampleEntry struct {
	sketch sketch
	n      int
	m      *member
}

// setSample notes m's sample; nil takes it off the list.
func (c *Coordinator) setSample(m *member, s sample) {
	listed := len(m.drawn) > 0
	m.drawn = s
	switch {
	case len(s) == 0 && listed:
		end := len(c.samples) - 1
		last := c.samples[end]
		c.samples[m.listed], last.m.listed = last, m.listed
		c.samples[end] = sampleEntry{}
		c.samples = c.samples[:end]
		m.listed = 0
	case len(s) == 0:
	case listed:
		c.samples[m.listed] = sampleEntry{s.sketch(), len(s), m}
	default:
		m.listed = len(c.samples)
		c.samples = append(c.samples, sampleEntry{s.sketch(), len(s), m})
	}
}

// withSameSample returns the other members that have m's sample, the one that
// became known first at the head.
func (c *Coordinator) withSameSample(m *member) (found []*member) {
	if len(m.drawn) < leastCommon {
		return nil
	}
	k := m.drawn.sketch()
	// What bits a like sample has to have in common with m's, by its size: guards
	// that are not common account for at most one bit each.
	var least [shmproto.MaxGuards + 1]int
	for n := range least {
		least[n] = k.common(&k) - (len(m.drawn) - like(len(m.drawn), n))
	}
	at := m.drawn.places()
	for i := range c.samples {
		e := &c.samples[i]
		if k.common(&e.sketch) < least[e.n] || e.m == m {
			continue
		}
		if n, sameOrder := at.common(e.m.drawn); sameOrder && n >= like(len(m.drawn), e.n) {
			found = append(found, e.m)
		}
	}
	slices.SortFunc(found, (*member).comparePlace)
	return found
}
