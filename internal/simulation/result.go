package simulation

import (
	"math"
	"math/rand/v2"
	"slices"
)

// Figure is a mean over the trials with its 95 % interval.
type Figure struct {
	Mean float64 `json:"mean"`
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// Result is what was measured. Hours and changes are per year or gateway-year.
type Result struct {
	Network  string  `json:"network"`
	Gateways int     `json:"gateways"`
	Months   int     `json:"months"`
	Trials   int     `json:"trials"`
	Share    float64 `json:"adversary"`
	Policy   string  `json:"policy"`
	Levels   string  `json:"levels"`
	Gate     bool    `json:"gate"`

	Sight []Sight `json:"sight"` // by relay, by family, by /16

	// Changes that orders forced, per gateway-year.
	UsedChanges   Figure `json:"used_changes"`   // of guards that had carried traffic
	UnusedChanges Figure `json:"unused_changes"` // of primaries that had not
	KeptAway      Figure `json:"kept_away"`      // guards further down the sample, excluded in advance
	GuardsWithout Figure `json:"guards_without"` // guards used per gateway-year, without guardring
	GuardsWith    Figure `json:"guards_with"`

	// Probabilities over the whole time, without and with guardring.
	Any    Pair `json:"any_bad"`     // a gateway has used a guard of the adversary's
	Common Pair `json:"common_bad"`  // two gateways have used the same one
	Two    Pair `json:"two_bad"`     // two gateways have each used one
	Each   Pair `json:"gateway_bad"` // one given gateway has

	Hostile *Hostile `json:"hostile,omitempty"`
}

// Pair is a figure without and with guardring.
type Pair struct {
	Without Figure `json:"without"`
	With    Figure `json:"with"`
}

// Sight is how many hours of a year an observer sees two gateways at once.
type Sight struct {
	Observer string `json:"observer"`
	Pair
	// Ratio: how many times fewer; its Low is what can be relied on. A billion
	// stands for more than that, also for no time at all with guardring.
	Ratio Figure `json:"ratio"`
}

// Hostile is what a gateway in the adversary's hand gained and learned.
type Hostile struct {
	Members int     `json:"members"`
	Lies    bool    `json:"lies"`
	Barred  float64 `json:"barred"` // share of the guard weight that its lasting claims are aimed at
	// Gain: the chance that an honest gateway uses a guard of the adversary's,
	// divided by that with an honest gateway in the hostile one's place.
	Gain Figure `json:"gain"`
	// Draws: the same of the expected number of such guards. The gain is less
	// because a chance cannot rise above 1.
	Draws  Figure `json:"gain_draws"`
	Each   Figure `json:"gateway_bad"`
	Forced Figure `json:"used_changes"` // per gateway-year of the honest ones
	Unused Figure `json:"unused_changes"`
	Asked  Figure `json:"asked"` // new claims a year
	Told   Figure `json:"told"`  // that an order answered
	Bits   Figure `json:"bits"`  // that orders and silence told, a year
}

func newResult(cfg *Config, without, with, evil []outcome) *Result {
	years := float64(cfg.Months) * 30 / 365
	each := years * float64(cfg.Gateways)
	honest := years * float64(cfg.Gateways-1)
	b := newBootstrap(cfg.Seed, cfg.Trials)
	per := func(all []outcome, scale float64, f func(o *outcome) float64) Figure {
		return b.figure(func(i int) float64 { return f(&all[i]) / scale })
	}
	pair := func(scale float64, f func(o *outcome) float64) Pair {
		return Pair{per(without, scale, f), per(with, scale, f)}
	}
	r := &Result{
		Network: cfg.Network.Name, Gateways: cfg.Gateways, Months: cfg.Months, Trials: cfg.Trials, Share: cfg.Adversary,
		Policy: string(cfg.Core.Policy), Levels: cfg.Core.Levels.String(), Gate: cfg.Gate,
		UsedChanges:   per(with, each, func(o *outcome) float64 { return o.used }),
		UnusedChanges: per(with, each, func(o *outcome) float64 { return o.unused }),
		KeptAway:      per(with, each, func(o *outcome) float64 { return o.others }),
		GuardsWithout: per(without, each, func(o *outcome) float64 { return o.guards }),
		GuardsWith:    per(with, each, func(o *outcome) float64 { return o.guards }),
		Any:           pair(1, func(o *outcome) float64 { return o.any }),
		Common:        pair(1, func(o *outcome) float64 { return o.common }),
		Two:           pair(1, func(o *outcome) float64 { return o.two }),
		Each:          pair(1, func(o *outcome) float64 { return o.met }),
	}
	for _, o := range Observers {
		f := func(x *outcome) float64 { return x.sees[o] }
		r.Sight = append(r.Sight, Sight{Observer: o.String(), Pair: pair(years, f),
			Ratio: b.ratio(func(i int) float64 { return f(&without[i]) }, func(i int) float64 { return f(&with[i]) })})
	}
	if cfg.Off {
		r.Policy = "off"
	}
	if cfg.Hostile {
		_, share := barred(cfg)
		met := func(all []outcome) func(int) float64 { return func(i int) float64 { return all[i].honestMet } }
		r.Hostile = &Hostile{
			Members: cfg.HostileMembers, Lies: cfg.Lies, Barred: share,
			Gain:   b.ratio(met(evil), met(with)),
			Draws:  b.ratio(func(i int) float64 { return evil[i].honestBad }, func(i int) float64 { return with[i].honestBad }),
			Each:   per(evil, 1, func(o *outcome) float64 { return o.met }),
			Forced: per(evil, honest, func(o *outcome) float64 { return o.used }),
			Unused: per(evil, honest, func(o *outcome) float64 { return o.unused }),
			Asked:  per(evil, years, func(o *outcome) float64 { return o.asked }),
			Told:   per(evil, years, func(o *outcome) float64 { return o.told }),
			Bits:   per(evil, years, func(o *outcome) float64 { return o.bits }),
		}
	}
	return r
}

// bootstrap draws the trials again and again, with replacement, to see how much
// a figure depends on which trials there were. Trials are drawn together for
// everything, so that a ratio profits from their common random numbers.
type bootstrap struct{ draws [][]int }

const resamples = 400

func newBootstrap(seed uint64, trials int) *bootstrap {
	rng := rand.New(rand.NewPCG(seed, 400))
	b := &bootstrap{}
	for range resamples {
		d := make([]int, trials)
		for i := range d {
			d[i] = rng.IntN(trials)
		}
		b.draws = append(b.draws, d)
	}
	return b
}

func (b *bootstrap) all() []int {
	d := make([]int, len(b.draws[0]))
	for i := range d {
		d[i] = i
	}
	return d
}

func sum(draw []int, f func(i int) float64) float64 {
	s := 0.0
	for _, i := range draw {
		s += f(i)
	}
	return s
}

func (b *bootstrap) figure(f func(i int) float64) Figure {
	n := float64(len(b.draws[0]))
	return b.spread(sum(b.all(), f)/n, func(d []int) float64 { return sum(d, f) / n })
}

// ratio is over's sum by under's.
func (b *bootstrap) ratio(over, under func(i int) float64) Figure {
	div := func(d []int) float64 {
		x, y := sum(d, over), sum(d, under)
		if y == 0 && x == 0 {
			return 1
		}
		return x / y
	}
	return b.spread(div(b.all()), div)
}

// unbounded stands for an infinite ratio, which JSON has no word for.
const unbounded = 1e9

func (b *bootstrap) spread(mean float64, of func(draw []int) float64) Figure {
	all := make([]float64, len(b.draws))
	for i, d := range b.draws {
		all[i] = of(d)
	}
	slices.Sort(all)
	finite := func(x float64) float64 { return math.Min(x, unbounded) }
	return Figure{finite(mean), finite(all[len(all)/40]), finite(all[len(all)-1-len(all)/40])}
}
