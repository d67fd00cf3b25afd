package simulation

import (
	"fmt"
	"math"
)

// outcome is what one trial gave.
type outcome struct {
	hours  float64 // gateways' running time, added up
	sees   [observers]float64
	used   float64 // forced changes of used guards
	unused float64
	others float64 // guards kept away from beforehand
	guards float64 // used guards, added up over the gateways
	any    float64 // probability that a gateway has used a guard of the adversary's
	common float64 // that two have used the same one
	two    float64 // that two have used one each
	met    float64 // that one given gateway has
	bad    float64 // how many one gateway has used, expected
	asked  float64
	told   float64
	bits   float64
}

// trial runs trial n.
func trial(cfg *Config, n int, guarded, evil bool) (outcome, error) {
	w, err := newWorld(cfg, n, guarded, evil)
	if err != nil {
		return outcome{}, err
	}
	w.run()
	return w.outcome(), nil
}

func (w *world) outcome() outcome {
	o := outcome{hours: w.meter.hours.Hours()}
	for i, d := range w.meter.total {
		o.sees[i] = d.Hours()
	}
	for i, g := range w.gateways {
		if g == nil || i == 0 && w.cfg.Hostile {
			continue // the hostile one, or the one in whose place it is
		}
		o.used += float64(g.changedUsed)
		o.unused += float64(g.changedUnused)
		o.others += float64(g.changedOthers)
		o.guards += float64(len(g.usedGuards))
	}
	w.chances(&o)
	if h := w.hostile; h != nil {
		o.asked, o.told, o.bits = float64(h.asked), float64(h.told), h.bits
	}
	return o
}

// chances fills in the probabilities over which relays are the adversary's.
//
// Nothing that happens in a trial depends on that: they are as likely to be these
// as those, but none of what a hostile gateway bars. So the probability can be
// computed from which guards were used, which says more than drawing one set of
// bad relays. Each relay that may be bad is so with probability bad.
func (w *world) chances(o *outcome) {
	barred, share := barred(w.cfg)
	bad := w.cfg.Adversary / (1 - share)
	by := map[identity][]int{} // who used it
	honest := 0
	for i, g := range w.gateways {
		if g == nil || i == 0 && w.cfg.Hostile {
			continue
		}
		honest++
		n := 0
		for _, id := range g.usedGuards {
			if !barred[id.relay] {
				n++
				by[id] = append(by[id], i)
			}
		}
		o.bad += bad * float64(n)
		o.met += 1 - math.Pow(1-bad, float64(n))
	}
	o.met /= float64(honest)
	o.bad /= float64(honest)
	several := 0
	for _, who := range by {
		if len(who) > 1 {
			several++
		}
	}
	o.any = 1 - math.Pow(1-bad, float64(len(by)))
	o.common = 1 - math.Pow(1-bad, float64(several))
	// Exactly one gateway has met bad guards: those that nobody else used may be
	// bad, all others are good.
	one := 0.0
	for i := range w.gateways {
		alone := 0
		for _, who := range by {
			if len(who) == 1 && who[0] == i {
				alone++
			}
		}
		one += math.Pow(1-bad, float64(len(by)-alone)) * (1 - math.Pow(1-bad, float64(alone)))
	}
	o.two = math.Max(0, o.any-one)
}

// Run simulates. Errors name every fault of the Config; progress, if not nil, is
// called after each trial.
func Run(cfg Config, progress func(done int)) (*Result, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("simulation: %w", err)
	}
	var without, with, evil []outcome
	for n := range cfg.Trials {
		for _, v := range []struct {
			to            *[]outcome
			guarded, evil bool
			wanted        bool
		}{{&without, false, false, true}, {&with, !cfg.Off, false, true}, {&evil, !cfg.Off, true, cfg.Hostile}} {
			if !v.wanted {
				continue
			}
			o, err := trial(&cfg, n, v.guarded, v.evil)
			if err != nil {
				return nil, err
			}
			*v.to = append(*v.to, o)
		}
		if progress != nil {
			progress(n + 1)
		}
	}
	return newResult(&cfg, without, with, evil), nil
}
