//go:build e2e

package hostile

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"guardring/e2e/impostor"
	"guardring/e2e/rig"
	"guardring/e2e/tornet"
)

// The gateways: one had its guards first, three come later with one of them again and again, and one is hostile.
const (
	first   = "updates"
	hostile = "apps"
)

var askers []string // as many as askerCount says

// A percentile needs more rounds than a test, and these more gateways: the coordinator writes its ledger 64 times at once for each gateway, and
// then once a second, which is not to be measured.
var (
	rounds     = flag.Int("rounds", 24, "how often in each phase some gateway gets a duplicate; at most 8 times as many as -askers")
	askerCount = flag.Int("askers", 3, "so many gateways get them in turn")
)

// roundsOfOne is how often an asker can get a duplicate in each of the two phases before its ledger writes have to wait.
const roundsOfOne = 8

// makeAskers names the askers; flags have been parsed.
func makeAskers() error {
	if *askerCount < 1 || *rounds < 1 || *rounds > roundsOfOne**askerCount {
		return fmt.Errorf("-rounds %d -askers %d: each asker can have up to %d rounds", *rounds, *askerCount, roundsOfOne)
	}
	for i := range *askerCount {
		askers = append(askers, fmt.Sprintf("browsing%d", i+1))
	}
	return nil
}

// scene is a host with its gateways.
type scene struct {
	t       *testing.T
	rig     *rig.Rig
	server  *tornet.Process
	honest  map[string]*impostor.Impostor
	last    map[string]uint64 // order that each asker has seen
	turn    int
	started int // how often mayhem was
}

func newScene(t *testing.T) *scene {
	t.Helper()
	r, err := rig.New(hostBinary, guestBinary, "disjoint")
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{t: t, rig: r, honest: map[string]*impostor.Impostor{}, last: map[string]uint64{}}
	t.Cleanup(func() {
		if t.Failed() {
			log := r.Log("host")
			t.Logf("the host says:\n%s", log[max(0, len(log)-60000):])
		}
		if err := r.Stop(); err != nil {
			t.Error(err)
		}
	})
	for _, name := range append([]string{first, hostile}, askers...) {
		if _, err := r.Add(name); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if s.server, err = r.StartHost(ctx); err != nil {
		t.Fatal(err)
	}
	for _, name := range append([]string{first}, askers...) {
		i, err := impostor.Take(s.socket(name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = i.Close() })
		s.honest[name] = i
	}
	if err := s.honest[first].Publish(sample(first)...); err != nil {
		t.Fatal(err)
	}
	s.await("the first gateway", func(st rig.Status) bool { return st.Member(first+"/default").State == "present" })
	return s
}

func (s *scene) socket(name string) string {
	i := slices.IndexFunc(s.rig.Gateways, func(g *rig.Gateway) bool { return g.Name == name })
	return s.rig.Gateways[i].Socket()
}

// start has the hostile gateway do something until it is killed, and returns when it has begun.
func (s *scene) start(args ...string) *tornet.Process {
	s.t.Helper()
	begun := func() int { return strings.Count(s.rig.Log("mayhem"), "begun") }
	p, err := s.rig.Start("mayhem", nil, mayhemBinary, append([]string{"-socket", s.socket(hostile)}, args...)...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.started++
	for tick := time.Tick(5 * time.Millisecond); begun() < s.started; <-tick {
		if !p.Running() {
			s.t.Fatalf("mayhem %v has ended: %s", args, s.rig.Log("mayhem"))
		}
	}
	return p
}

// duplicate has an asker come with a guard that the first gateway has, and must be told to give up exactly that one.
func (s *scene) duplicate() time.Duration {
	s.t.Helper()
	name := askers[s.turn%len(askers)]
	g := s.honest[name]
	shared := sample(first)[s.turn%3]
	s.turn++
	shared.InUse, shared.Primary = true, true
	began := time.Now()
	if err := g.Publish(append([]impostor.Guard{shared}, sample(name)[1:]...)...); err != nil {
		s.t.Fatal(err)
	}
	o, err := g.AwaitOrder(s.last[name], 20*time.Second)
	took := time.Since(began)
	if err != nil {
		s.t.Fatalf("%s: %v", name, err)
	}
	if len(o.Exclusions) != 1 || o.Exclusions[0].String() != shared.Fingerprint {
		s.t.Fatalf("%s was told not to use %v, not just %s", name, o.Exclusions, shared.Fingerprint)
	}
	// A member that leaves gives its exclusions up, so that it can come as a newcomer again.
	if err := g.Leave(); err != nil {
		s.t.Fatal(err)
	}
	s.await(name+" has left", func(st rig.Status) bool {
		state := st.Member(name + "/default").State
		return state == "" || state == "left" || state == "away"
	})
	s.last[name] = max(uint64(o.Seq), g.Ordered())
	return took
}

// comeBack gives the hostile gateway's seat to an honest machine, which is a member without anybody's help.
func (s *scene) comeBack() {
	s.t.Helper()
	var again *impostor.Impostor
	deadline := time.Now().Add(20 * time.Second)
	for tick := time.Tick(50 * time.Millisecond); again == nil; <-tick {
		var err error
		// Connections that mayhem has left are looked at first, at the pace that the server has for them.
		if again, err = impostor.Take(s.socket(hostile)); err != nil && time.Now().After(deadline) {
			s.t.Fatal(err)
		}
	}
	s.t.Cleanup(func() { _ = again.Close() })
	mine := sample(hostile)
	if err := again.Publish(mine...); err != nil {
		s.t.Fatal(err)
	}
	s.await("the gateway is an honest member again", func(st rig.Status) bool {
		return st.Gateway(hostile).Quarantine.IsZero() && st.Holds(hostile+"/default", mine[0].Fingerprint)
	})
}

// await asks status until it says what is wanted.
func (s *scene) await(what string, ok func(rig.Status) bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 75*time.Second)
	defer cancel()
	var problems []rig.Problem
	for tick := time.Tick(20 * time.Millisecond); ; <-tick {
		st, _, err := s.rig.Status(ctx)
		if err == nil && ok(st) {
			return
		}
		if err == nil {
			problems = st.Problems
		}
		if ctx.Err() != nil {
			s.t.Fatalf("not seen: %s: %v; problems: %v", what, errors.Join(err, ctx.Err()), problems)
		}
	}
}

// sample is a gateway's own 20 guards, three of them primary and one in use.
func sample(gateway string) (all []impostor.Guard) {
	n := slices.Index(append([]string{first, hostile}, askers...), gateway)
	for k := range 20 {
		all = append(all, impostor.Guard{
			Fingerprint: fmt.Sprintf("%02X%038X", n+1, k+1), Addr: fmt.Sprintf("198.%d.%d.1:9001", 20+n, k), Primary: k < 3, InUse: k == 0,
		})
	}
	return all
}

// guards is the sample as mayhem wants it.
func guards(gateway string) (args []string) {
	for _, g := range sample(gateway) {
		args = append(args, g.Fingerprint+"@"+g.Addr)
	}
	return args
}
