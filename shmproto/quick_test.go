package shmproto

import (
	"errors"
	"iter"
	"math/rand/v2"
	"testing"
)

// The simulation runs several agents of one gateway as coroutines that pause
// before each store into shared memory (a copy counts as two), in an order drawn
// from a seed. Agents die, and are replaced; impatient ones pass others over. A
// dumb model next to it knows who may think that it has the lock, and what each
// number's record looks like.

type simulation struct {
	t      *testing.T
	rng    *rand.Rand
	region *Region
	host   *Host
	agents [MaxWriters]*simAgent
	seq    int            // of the last publication that anyone began
	author map[Seq]int    // writer slot by seq
	shown  Seq            // last publication that its author saw standing
	counts map[string]int // what happened
}

type simAgent struct {
	guest  *Guest
	resume func() (struct{}, bool)
	stop   func()
	yield  func(struct{}) bool
}

// died unwinds an agent's coroutine that is not resumed any more.
type died struct{}

func (s *simulation) start(w int) {
	a := &simAgent{}
	s.agents[w] = a
	a.resume, a.stop = iter.Pull(func(yield func(struct{}) bool) {
		a.yield = yield
		defer func() {
			if r := recover(); r != nil && r != any(died{}) {
				panic(r)
			}
		}()
		a.guest = s.region.Guest(w, Incarnation(s.rng.Uint64()))
		for {
			s.work(w, a)
		}
	})
}

// work is one round of an agent: lock, publish, look whether that stands, release.
func (s *simulation) work(w int, a *simAgent) {
	lock := a.guest.Lock()
	patience := s.rng.IntN(30)
	var blocker Blocker
	for waited := 0; ; waited++ {
		held, by := lock.TryAcquire()
		if held {
			break
		}
		if by != blocker {
			blocker, waited = by, 0
		}
		if waited > patience {
			lock.Revoke(by)
			s.counts["revoked"]++
		}
		s.pause(a)
	}
	s.counts["acquired"]++
	s.seq++
	seq := Seq(s.seq)
	s.author[seq] = w
	err := a.guest.Publish(0, numbered(s.seq))
	switch {
	case err == nil && a.guest.Verify(0) == nil:
		s.counts["published"]++
		s.shown = seq
		s.mustRead(seq)
	case err != nil && !errors.Is(err, ErrFenced):
		s.t.Fatalf("agent %d: publish: %v", w, err)
	default:
		s.counts["spoiled or fenced"]++
	}
	lock.Release()
}

func (s *simulation) pause(a *simAgent) {
	if !a.yield(struct{}{}) {
		panic(died{})
	}
}

func (s *simulation) mustRead(seq Seq) {
	var p Publication
	if err := s.host.ReadPublication(0, &p); err != nil || p.Seq != seq {
		s.t.Fatalf("the writer sees publication %d standing, the host reads %d, %v", seq, p.Seq, err)
	}
}

// check holds after every store.
func (s *simulation) check() {
	holders := 0
	for _, a := range s.agents {
		if a != nil && a.guest != nil && a.guest.lock.held && !a.guest.lock.Revoked() {
			holders++
		}
	}
	if holders > 1 {
		s.t.Fatalf("%d agents hold the lock, and none is passed over", holders)
	}
	var p Publication
	switch err := s.host.ReadPublication(0, &p); {
	case err == nil:
		s.counts["read"]++
		checkNumbered(s.t, &p)
		if _, ok := s.author[p.Seq]; !ok {
			s.t.Fatalf("publication %d, which nobody has begun", p.Seq)
		}
	case errors.Is(err, ErrEmpty):
		if s.shown != 0 {
			s.t.Fatal("empty, after a publication has stood")
		}
	case errors.Is(err, ErrFenced):
		s.counts["read fenced"]++
	default:
		s.counts["read damaged"]++
	}
}

// runSeed names the seed of a run that fails.
func (s *simulation) runSeed(seed uint64, steps int) {
	defer func() {
		if s.t.Failed() {
			s.t.Logf("seed %d", seed)
		}
	}()
	s.run(steps)
}

func (s *simulation) run(steps int) {
	defer func(was func([]byte, int, uint64), was2 func([]byte, int, []byte)) { store, copyIn = was, was2 }(store, copyIn)
	var running *simAgent
	store = func(b []byte, off int, v uint64) {
		s.pause(running)
		storeShared(b, off, v)
	}
	copyIn = func(b []byte, off int, src []byte) {
		half := len(src) / 16 * 8
		s.pause(running)
		copyShared(b, off, src[:half])
		s.pause(running)
		copyShared(b, off+half, src[half:])
	}
	defer func() {
		for _, a := range s.agents {
			a.stop()
		}
	}()
	for w := range s.agents {
		s.start(w)
	}
	// Some are slow: that is a stopped process.
	for range steps {
		w := min(s.rng.IntN(len(s.agents)), s.rng.IntN(len(s.agents)))
		running = s.agents[w]
		if s.rng.IntN(200) == 0 {
			s.counts["died"]++
			running.stop()
			s.start(w)
			running = s.agents[w]
		}
		running.resume()
		s.check()
	}
}

func TestLockSimulation(t *testing.T) {
	seeds, total := uint64(150), map[string]int{}
	for seed := range seeds {
		r := newRegion(t)
		s := &simulation{
			t: t, rng: rand.New(rand.NewPCG(seed, 1)), region: r, host: r.Host(0),
			author: map[Seq]int{}, counts: total,
		}
		s.runSeed(seed, 1500)
	}
	t.Log(total)
	for _, what := range []string{"revoked", "acquired", "published", "spoiled or fenced", "read", "read fenced", "read damaged", "died"} {
		if total[what] == 0 {
			t.Errorf("never happened: %s", what)
		}
	}
}
