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
	// The same of the gateways that are honest in both runs with guardring, where
	// nothing that a hostile one bars is bad; and how many they have used, expected.
	honestMet, honestBad float64
	asked                float64
	told                 float64
	bits                 float64
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
	var all []*gateway
	for _, g := range w.gateways {
		if g == nil {
			continue
		}
		all = append(all, g)
		o.used += float64(g.changedUsed)
		o.unused += float64(g.changedUnused)
		o.others += float64(g.changedOthers)
		o.guards += float64(len(g.usedGuards))
	}
	o.chances(all, w.cfg.Adversary)
	if w.cfg.Hostile {
		if w.hostile == nil {
			all = all[1:] // the one in whose place it is
		}
		barred, share := barred(w.cfg)
		bad := w.cfg.Adversary / (1 - share)
		for _, g := range all {
			n := 0
			for _, id := range g.usedGuards {
				if !barred[id.relay] {
					n++
				}
			}
			o.honestMet += (1 - math.Pow(1-bad, float64(n))) / float64(len(all))
			o.honestBad += bad * float64(n) / float64(len(all))
		}
	}
	if h := w.hostile; h != nil {
		o.asked, o.told, o.bits = float64(h.asked), float64(h.told), h.bits
	}
	return o
}

// chances fills in the probabilities over which relays are the adversary's.
//
// Nothing that happens in a trial depends on that: they are as likely to be these
// as those, each with probability bad. So the probabilities can be computed from
// which guards were used, which says more than drawing one set of bad relays.
func (o *outcome) chances(gateways []*gateway, bad float64) {
	by := map[identity][]*gateway{} // who used it
	for _, g := range gateways {
		for _, id := range g.usedGuards {
			by[id] = append(by[id], g)
		}
		o.met += (1 - math.Pow(1-bad, float64(len(g.usedGuards)))) / float64(len(gateways))
	}
	several := 0
	alone := map[*gateway]int{}
	for _, who := range by {
		if len(who) > 1 {
			several++
		} else {
			alone[who[0]]++
		}
	}
	o.any = 1 - math.Pow(1-bad, float64(len(by)))
	o.common = 1 - math.Pow(1-bad, float64(several))
	// Exactly one gateway has met bad guards: of those that nobody else used one is
	// bad, all others are good.
	one := 0.0
	for _, g := range gateways {
		n := float64(alone[g])
		one += math.Pow(1-bad, float64(len(by))-n) * (1 - math.Pow(1-bad, n))
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
