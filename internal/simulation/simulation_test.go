package simulation

import (
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"guardring/internal/coordinator"
)

// small is a run of a second or two.
func small() Config {
	return Config{
		Gateways: 4, Months: 6, Adversary: .05, Gate: true, Hostile: true, Trials: 6, Seed: 1,
		Core: coordinator.Config{Policy: coordinator.PolicyDisjoint},
	}
}

func mustRun(t *testing.T, cfg Config) *Result {
	t.Helper()
	r, err := Run(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestHeadlines fails if the core no longer does what docs/ANONYMITY.md says of
// its defaults. The run is small and always the same one; the bounds leave room
// for the smaller number of trials and no more.
func TestHeadlines(t *testing.T) {
	r := mustRun(t, small())
	for _, o := range []Observer{ByRelay, ByFamily} {
		s := r.Sight[o]
		if s.Without.Mean < 10 || s.With.Mean*100 > s.Without.Mean {
			t.Errorf("one %s sees two gateways for %.3f h a year, without guardring %.1f: want 100 times fewer", o, s.With.Mean, s.Without.Mean)
		}
	}
	if x := r.UsedChanges.Mean; x > .5 {
		t.Errorf("%.2f forced changes of used guards per gateway-year, want 0.5 at most", x)
	}
	if x := r.Hostile.Gain.Mean; x < 1 || x > 1.05 {
		t.Errorf("hostile gain %.3f, want 1.05 at most (and no less than 1: it cannot do good)", x)
	}
	if x := r.Each.With.Mean / r.Each.Without.Mean; x < .97 || x > 1.03 {
		t.Errorf("guardring changes a gateway's own risk by %.3f, want 3 %% at most", x)
	}
}

func TestSameSeedSameResult(t *testing.T) {
	cfg := small()
	cfg.Months, cfg.Trials = 2, 2
	a, b := mustRun(t, cfg), mustRun(t, cfg)
	if !reflect.DeepEqual(a, b) {
		t.Errorf("the same seed gave %+v and %+v", a, b)
	}
	cfg.Seed++
	if c := mustRun(t, cfg); reflect.DeepEqual(a.Sight, c.Sight) {
		t.Error("another seed gave the same")
	}
}

// TestOffAndObserveChangeNothing: what is measured is what orders do, and only
// orders do it.
func TestOffAndObserveChangeNothing(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"off":     func(c *Config) { c.Off, c.Core.Policy = true, "" },
		"observe": func(c *Config) { c.Core.Policy = coordinator.PolicyObserve; c.Gate = false },
	} {
		cfg := small()
		cfg.Hostile, cfg.Months, cfg.Trials = false, 3, 3
		change(&cfg)
		r := mustRun(t, cfg)
		for _, s := range r.Sight {
			if s.With != s.Without {
				t.Errorf("%s: one %s sees two gateways for %v h, without guardring %v", name, s.Observer, s.With.Mean, s.Without.Mean)
			}
		}
		if r.UsedChanges.Mean+r.UnusedChanges.Mean+r.KeptAway.Mean > 0 || r.Each.With != r.Each.Without {
			t.Errorf("%s changes guards", name)
		}
	}
}

// TestSampleKeepsToTheSpecification lets one Tor live for two years and looks at
// its sample after everything that happens.
func TestSampleKeepsToTheSpecification(t *testing.T) {
	cfg := small()
	cfg.Gateways, cfg.Months, cfg.Hostile = 2, 24, false
	cfg = cfg.withDefaults()
	w, err := newWorld(&cfg, 0, false, false)
	if err != nil {
		t.Fatal(err)
	}
	changed := 0
	var before []identity
	for w.next() {
		g := w.gateways[0]
		if !g.on {
			continue
		}
		usable, primary := 0, 0
		var now []identity
		for i := range g.tor.sample {
			s := &g.tor.sample[i]
			now = append(now, s.id)
			if s.filtered() && w.net.up(s.id) {
				usable++
			}
			if s.primary {
				primary++
			}
			if s.inUse && !s.isConf {
				t.Fatalf("after %v: a guard in use is not confirmed", w.now)
			}
			if age := w.now - s.sampled; age > guardLifetime && (!s.isConf || w.now-s.confirmed > confirmedLifetime) {
				t.Fatalf("after %v: a guard is %v old", w.now, age.Round(time.Hour))
			}
		}
		if usable < minFiltered && len(now) < maxSample || len(now) > maxSample || primary != numPrimary {
			t.Fatalf("after %v: %d guards, %d usable, %d primary", w.now, len(now), usable, primary)
		}
		if !reflect.DeepEqual(before, now) {
			changed++
		}
		before = now
	}
	if changed < 50 {
		t.Errorf("the sample changed %d times in two years: the model does not live", changed)
	}
}

// TestChances compares the computed probabilities with a count over drawn sets
// of bad relays.
func TestChances(t *testing.T) {
	cfg := small().withDefaults()
	cfg.Hostile, cfg.Adversary = false, .3
	w, err := newWorld(&cfg, 0, false, false)
	if err != nil {
		t.Fatal(err)
	}
	used := [][]int{{1, 2, 3}, {3, 4}, {5}, {6, 7}}
	for i, g := range w.gateways {
		for _, relay := range used[i] {
			g.usedGuards = append(g.usedGuards, identity{relay: relay})
		}
	}
	var o, want outcome
	o.chances(w.gateways, .3)
	const draws = 200_000
	for range draws {
		bad := map[int]bool{}
		for i := range 8 {
			bad[i] = w.relays.Float64() < .3
		}
		met := 0
		for _, mine := range used {
			for _, relay := range mine {
				if bad[relay] {
					met++
					break
				}
			}
		}
		add := func(to *float64, yes bool) {
			if yes {
				*to += 1. / draws
			}
		}
		want.met += float64(met) / 4 / draws
		add(&want.any, met > 0)
		add(&want.two, met > 1)
		add(&want.common, bad[3])
	}
	for name, x := range map[string][2]float64{"met": {o.met, want.met}, "any": {o.any, want.any}, "two": {o.two, want.two}, "common": {o.common, want.common}} {
		if math.Abs(x[0]-x[1]) > .005 {
			t.Errorf("%s: computed %.4f, counted %.4f", name, x[0], x[1])
		}
	}
}

func TestConfigFaults(t *testing.T) {
	_, err := Run(Config{Gateways: 1, Months: 0, Adversary: 2, HostileMembers: 9, Core: coordinator.Config{Policy: "x"}}, nil)
	for _, want := range []string{"1 gateways", "0 months", "adversary 2", "0 trials", "9 hostile members", `policy "x"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %q", err, want)
		}
	}
}
