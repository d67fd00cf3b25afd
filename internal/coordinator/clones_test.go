package coordinator

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// describeOrigin prints what a member's record says of copies and old states.
func describeOrigin(r Record) (text string) {
	if !r.CloneOf.IsZero() {
		text += " clone-of=" + r.CloneOf.String()
	}
	if !r.RolledBack.IsZero() {
		text += " rolled-back"
	}
	if !r.Freed.IsZero() {
		text += " freed"
	}
	if r.Generation != "" {
		text += " generation=" + r.Generation
	}
	return text
}

func sampleOf(numbers ...int) (s sample) {
	for _, n := range numbers {
		s = append(s, fp(n))
	}
	return s
}

func upTo(n int) (all []int) {
	for i := range n {
		all = append(all, i+1)
	}
	return all
}

// What counts as one sample, and what does not.
func TestSameSample(t *testing.T) {
	swapped := upTo(20)
	swapped[3], swapped[4] = swapped[4], swapped[3]
	tests := []struct {
		name string
		a, b sample
		want bool
	}{
		{"equal", sampleOf(upTo(20)...), sampleOf(upTo(20)...), true},
		{"grown", sampleOf(upTo(20)...), sampleOf(upTo(60)...), true},
		{"a quarter gone and filled up", sampleOf(upTo(20)...), sampleOf(append(upTo(15), 91, 92, 93, 94, 95)...), true},
		{"more than a quarter gone", sampleOf(upTo(20)...), sampleOf(append(upTo(14), 91, 92, 93, 94, 95, 96)...), false},
		{"the oldest gone", sampleOf(upTo(20)...), sampleOf(upTo(20)[5:]...), true},
		{"another order", sampleOf(upTo(20)...), sampleOf(swapped...), false},
		{"eight", sampleOf(upTo(8)...), sampleOf(upTo(8)...), true},
		{"too few to tell", sampleOf(upTo(7)...), sampleOf(upTo(7)...), false},
		{"one guard again and again", sampleOf(1, 1, 1, 1, 1, 1, 1, 1), sampleOf(1, 1, 1, 1, 1, 1, 1, 1), false},
		{"none", nil, nil, false},
	}
	for _, test := range tests {
		if got := test.a.same(test.b); got != test.want {
			t.Errorf("%s: %t", test.name, got)
		}
		if got := test.b.same(test.a); got != test.want {
			t.Errorf("%s, the other way round: %t", test.name, got)
		}
	}
}

// The fast search finds exactly what comparing with everybody finds, whatever
// the samples are: random ones, copies that went on by themselves, hostile ones.
func TestWithSameSample(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 3))
		c, err := New(Config{Policy: PolicyObserve})
		if err != nil {
			t.Fatal(err)
		}
		relays := 8 + rng.IntN(80)
		for i := range 2 + rng.IntN(12) {
			m := c.addMember(Member{"gw", fmt.Sprint(i)})
			c.takePlace(m)
			var s sample
			if i > 0 && rng.IntN(2) == 0 {
				s = slices.Clone(c.members[rng.IntN(i)].drawn)
				for range rng.IntN(1 + len(s)/2) {
					j := rng.IntN(len(s))
					s = append(slices.Delete(s, j, j+1), fp(1000+rng.IntN(1000)))
				}
			} else {
				for _, n := range rng.Perm(relays)[:rng.IntN(min(relays, 60)+1)] {
					s = append(s, fp(n+1))
				}
			}
			c.setSample(m, s)
		}
		for _, m := range c.members {
			var want []*member
			for _, o := range c.members {
				if o != m && m.drawn.same(o.drawn) {
					want = append(want, o)
				}
			}
			slices.SortFunc(want, (*member).comparePlace)
			if got := c.withSameSample(m); !slices.Equal(got, want) {
				t.Fatalf("seed %d: %s has the sample of %d others, want %d", seed, m.name, len(got), len(want))
			}
		}
	}
}

// In a small private network everybody samples every guard. Chance must not make
// clones of them: the figure at leastCommon, measured.
func TestChanceClones(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	draw := func(network, size int) (s sample) {
		for _, n := range rng.Perm(network)[:size] {
			s = append(s, fp(n+1))
		}
		return s
	}
	const pairs = 40_000
	found := 0
	for range pairs {
		if draw(8, 8).same(draw(8, 8)) {
			found++
		}
	}
	// 1/8! of 40,000 is one; eight are less likely than one in 10,000.
	if found > 8 {
		t.Errorf("%d of %d pairs in a network of 8 guards are taken for clones", found, pairs)
	}
	for range pairs {
		if draw(14, 14).same(draw(14, 14)) {
			t.Fatal("two members of a network of 14 guards are taken for clones")
		}
	}
}

// BenchmarkNewSample measures a publication with a new sample beside 10,000
// members: the search for like ones.
func BenchmarkNewSample(b *testing.B) {
	c, tors := crowd(b, 10_000)
	i := 0
	var p shmproto.Publication
	for b.Loop() {
		b.StopTimer()
		t := tors[i%len(tors)]
		i++
		t.pub.Seq++
		t.pub.Guards[59].Fingerprint = guardstate.Fingerprint{19: byte(i), 18: byte(i >> 8), 17: 1}
		p = t.pub
		b.StartTimer()
		c.Step(Published{At: testStart, Gateway: t.gateway, Publication: &p})
	}
}
