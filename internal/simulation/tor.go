package simulation

import (
	"math/rand/v2"
	"slices"
	"time"

	"guardring/internal/guardstate"
)

// Numbers of guard-spec (appendix A).
const (
	numPrimary        = 3         // NUM_PRIMARY_GUARDS
	minFiltered       = 20        // MIN_FILTERED_SAMPLE
	maxSample         = 60        // MAX_SAMPLE_SIZE; MAX_SAMPLE_THRESHOLD is a fifth of the guards
	guardLifetime     = 120 * day // GUARD_LIFETIME
	confirmedLifetime = 60 * day  // GUARD_CONFIRMED_MIN_LIFETIME
	unlistedLifetime  = 20 * day  // REMOVE_UNLISTED_GUARDS_AFTER
)

// numInUse: how many guards carry traffic at one time. A conflux set has two
// legs through two guards, whatever NumEntryGuards says.
const numInUse = 2

// guard is one guard of a sample.
type guard struct {
	id        identity
	fp        guardstate.Fingerprint // id's
	sampled   time.Duration          // randomly backdated, as Tor does
	confirmed time.Duration          // randomly backdated
	unlisted  time.Duration          // since when, where listed is false
	isConf    bool
	listed    bool
	excluded  bool // by guardring
	primary   bool
	used      bool // it has carried traffic of this Tor
	inUse     bool
}

// tor is the model of one Tor's guard selection (guard-spec): a sample drawn by
// weight that grows until 20 guards are usable; primaries in sampled order; the
// first two that are up are in use. An excluded guard is filtered out, as with
// ReachableORAddresses.
//
// Simplified: Tor knows of a relay that is down at once, and that it is back
// when it is listed again (with its retry schedule it would be minutes). All
// primaries are confirmed as soon as they are up (they are directory guards,
// and the first fetch confirms). Nothing is lost to path bias or failures of
// single circuits.
type tor struct {
	rng     *rand.Rand
	net     *population
	sample  []guard                  // in sampled order
	earlier []guardstate.Fingerprint // primaries since its start
	derive  []guardstate.Sampled     // scratch
	has     []bool                   // by relay: is there a guard of it in the sample
	mayGo   time.Duration            // no guard's lifetime ends before it
}

func newTor(rng *rand.Rand, net *population) *tor {
	return &tor{rng: rng, net: net, has: make([]bool, len(net.relays))}
}

// restart: a starting Tor knows its sample, and not which guards were primary.
func (t *tor) restart() { t.earlier = t.earlier[:0] }

// upTo is a random time up to d.
func (t *tor) upTo(d time.Duration) time.Duration { return time.Duration(t.rng.Int64N(int64(d))) }

// update brings sample and primaries up to now; active: it carries traffic.
func (t *tor) update(now time.Duration, active bool) {
	t.age(now)
	t.grow(now)
	t.choose()
	t.use(now, active)
}

// age marks what is listed and drops what has to go.
func (t *tor) age(now time.Duration) {
	t.mayGo = now + guardLifetime
	t.sample = slices.DeleteFunc(t.sample, func(g guard) bool {
		end := g.sampled + guardLifetime
		if g.isConf {
			end = max(end, g.confirmed+confirmedLifetime)
		}
		if !t.net.listed(g.id) {
			since := g.unlisted
			if g.listed {
				since = now
			}
			end = min(end, since+unlistedLifetime)
		}
		if end <= now {
			t.has[g.id.relay] = false
			return true
		}
		t.mayGo = min(t.mayGo, end)
		return false
	})
	for i := range t.sample {
		g := &t.sample[i]
		listed := t.net.listed(g.id)
		if g.listed && !listed {
			g.unlisted = now
		}
		g.listed = listed
	}
}

func (g *guard) filtered() bool { return g.listed && !g.excluded }

// grow draws guards until enough are usable.
func (t *tor) grow(now time.Duration) {
	usable := 0
	for i := range t.sample {
		if g := &t.sample[i]; g.filtered() && t.net.up(g.id) {
			usable++
		}
	}
	most := min(maxSample, len(t.net.relays)/5)
	for usable < minFiltered && len(t.sample) < most {
		id := t.net.current(t.net.shape.pick(t.rng.Float64()))
		if t.has[id.relay] || !t.net.listed(id) {
			continue
		}
		t.has[id.relay] = true
		g := guard{id: id, fp: id.fingerprint(), sampled: now - t.upTo(guardLifetime/10), listed: true}
		t.mayGo = min(t.mayGo, g.sampled+guardLifetime)
		t.sample = append(t.sample, g)
		if t.net.up(id) {
			usable++
		}
	}
}

// choose derives the primaries with the agent's own function.
func (t *tor) choose() {
	t.derive = t.derive[:0]
	for i := range t.sample {
		g := &t.sample[i]
		t.derive = append(t.derive, guardstate.Sampled{Fingerprint: g.fp, Confirmed: g.isConf, Filtered: g.filtered(), Unreachable: !t.net.up(g.id)})
	}
	p := guardstate.DerivePrimaries(t.derive, t.earlier, true, numPrimary)
	t.earlier = p.Primary
	for i := range t.sample {
		t.sample[i].primary = slices.Contains(p.Primary, t.sample[i].fp)
	}
}

// use confirms the primaries and puts traffic on the first that are up; where
// none is, on the first of the sample that is.
func (t *tor) use(now time.Duration, active bool) {
	n := 0
	take := func(g *guard) {
		if !g.isConf {
			g.isConf, g.confirmed = true, now-t.upTo(confirmedLifetime/10)
		}
		if active && n < numInUse {
			g.inUse, g.used = true, true
			n++
		}
	}
	for i := range t.sample {
		t.sample[i].inUse = false
	}
	for i := range t.sample {
		if g := &t.sample[i]; g.primary && t.net.up(g.id) {
			take(g)
		}
	}
	for i := range t.sample {
		if g := &t.sample[i]; active && n == 0 && g.filtered() && t.net.up(g.id) {
			take(g)
		}
	}
}

// stop: the gateway is off.
func (t *tor) stop() {
	for i := range t.sample {
		t.sample[i].inUse = false
	}
}

// exclude makes ids the excluded guards and reports how many guards that were
// used, and that were primary and not used, are newly excluded, and how many
// others.
func (t *tor) exclude(ids []guardstate.Fingerprint) (used, unused, others int) {
	for i := range t.sample {
		g := &t.sample[i]
		excluded := slices.Contains(ids, g.fp)
		if excluded && !g.excluded {
			switch {
			case g.primary && g.used:
				used++
			case g.primary:
				unused++
			default:
				others++
			}
		}
		g.excluded = excluded
	}
	return used, unused, others
}
