//go:build e2e

package hostile

import (
	"slices"
	"strings"
	"testing"
	"time"

	"guardring/e2e/rig"
)

// What a hostile gateway may have the host agents do more than one that spins, in a phase of any length that tests have here.
const (
	mostLines    = 300      // of log
	mostResident = 24 << 20 // bytes
)

// way is one kind of misbehaviour.
type way struct {
	name, title string
	args        []string
	// named tells whether status names the offender; said is what the problem's text has, if that is how.
	named func(s rig.Status) bool
	said  string
}

func TestHostileGateway(t *testing.T) {
	victims := guards(first)
	conflicted := func(s rig.Status) bool {
		return slices.ContainsFunc(s.Conflicts, func(c rig.Conflict) bool { return c.Newcomer == hostile+"/default" && c.Incumbent == first+"/default" })
	}
	const tooFast, socket = "rings, or changes what it says, faster", "in the last minute"
	for _, w := range []way{
		{name: "claim", title: "claims another's guards", args: victims[:3], named: conflicted},
		{name: "invent", title: "invents families and addresses", args: append(slices.Clone(victims[:6]), guards(askers[0])[:6]...), named: func(s rig.Status) bool {
			return slices.ContainsFunc(s.Contradictions, func(c rig.Contradiction) bool { return c.One == hostile+"/default" || c.Other == hostile+"/default" })
		}},
		{name: "clone", title: "shows another's sample", args: victims, named: func(s rig.Status) bool { return s.Member(hostile+"/default").CloneOf == first+"/default" }},
		{name: "many", title: "480 guards that do not exist, ever others, under ever new names", said: tooFast},
		{name: "churn", title: "changes its claims a hundred times a second", said: tooFast},
		{name: "replay", title: "puts an old state of its region back", said: tooFast},
		{name: "random", title: "scribbles over its whole region, lock included", args: []string{"600"}, named: func(s rig.Status) bool { return !s.Gateway(hostile).Quarantine.IsZero() }},
		{name: "ring", title: "rings as fast as it can", args: []string{"600"}, said: tooFast},
		{name: "block", title: "a doorbell that blocks whoever rings it", args: victims[:3], named: conflicted},
		{name: "garbage", title: "random bytes at the socket", said: socket},
		{name: "connections", title: "a thousand connections", said: socket},
		{name: "descriptors", title: "a hundred descriptors with each connection", said: socket},
		{name: "stall", title: "connections that read nothing", said: socket},
	} {
		t.Run(w.name, func(t *testing.T) { try(t, w) })
	}
}

// try lets the hostile gateway spin, then misbehave, and then gives its seat to an honest one.
func try(t *testing.T, w way) {
	s := newScene(t)
	spinning := s.start("spin", "600")
	quiet := s.measure("spin")
	if err := spinning.Kill(); err != nil {
		t.Fatal(err)
	}
	m := s.start(append([]string{w.name}, w.args...)...)
	loud := s.measure(w.name)
	s.await("the offender is named", func(st rig.Status) bool {
		if w.named != nil {
			return w.named(st)
		}
		return slices.ContainsFunc(st.Problems, func(p rig.Problem) bool {
			return strings.Contains(p.Text, "gateway "+hostile) && strings.Contains(p.Text, w.said)
		})
	})
	if err := m.Kill(); err != nil {
		t.Fatal(err)
	}
	t.Logf("figures: %s (%s)", w.name, w.title)
	for _, p := range []phase{quiet, loud} {
		t.Logf("figures:   %-11s  %4.1f %% of a core, %5.0f wake-ups a second, %5.1f MiB, %3d descriptors, %3d lines; an order after %6s (median), %6s (99th percentile), %6s (worst of %d)", p.name,
			100*p.CPU.Seconds()/p.lasted.Seconds(), float64(p.Sleeps)/p.lasted.Seconds(), float64(p.Resident)/(1<<20), p.Descriptors, p.log,
			p.percentile(50), p.percentile(99), p.percentile(100), len(p.took))
	}
	if more := loud.log - quiet.log; more > mostLines {
		t.Errorf("%d more lines of log", more)
	}
	if more := loud.Resident - quiet.Resident; more > mostResident {
		t.Errorf("%d more bytes of memory", more)
	}
	s.comeBack()
}

// phaseTime is how long a phase is, at the least.
const phaseTime = 4 * time.Second

// phase is what was seen while the hostile gateway did one thing.
type phase struct {
	name string
	used
	lasted time.Duration
	took   []time.Duration // from a publication to its order, sorted
}

// percentile is the time within which so many of a hundred orders came.
func (p *phase) percentile(n int) time.Duration {
	return p.took[(len(p.took)*n+99)/100-1].Round(100 * time.Microsecond)
}

// measure lets honest gateways work, and says what that took.
func (s *scene) measure(name string) phase {
	s.t.Helper()
	before, began := s.use(), time.Now()
	p := phase{name: name}
	for range *rounds {
		p.took = append(p.took, s.duplicate())
	}
	// The same time for both, so that shares of it can be compared.
	time.Sleep(time.Until(began.Add(phaseTime)))
	p.used, p.lasted = s.use(), time.Since(began)
	p.CPU -= before.CPU
	p.Sleeps -= before.Sleeps
	p.log -= before.log
	slices.Sort(p.took)
	return p
}
