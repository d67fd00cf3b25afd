//go:build e2e

package failover

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"guardring/e2e/rig"
)

// steps are where a coordinator can be killed or stopped between two effects (host-agent/runner).
var steps = []string{"ledger-durable", "order-due", "order-written", "ring-written", "doorbell-rung"}

// storm has the gateways of a scene play, while coordinators are killed and stopped at random.
type storm struct {
	*scene
	random *rand.Rand
	struck map[string]int
}

// fastest is the shortest heartbeat that a configuration may have.
const fastest = 100 * time.Millisecond

// blow is the whole of it: for so long faults, then an answer for everybody. The error says who was not answered, or answered wrongly.
func (s *storm) blow(limit time.Duration) error {
	for n := range s.coordinators {
		s.coordinators[n] = s.coordinate(s.rig.Host)
	}
	end := make(chan struct{})
	errs := make([]error, len(s.players))
	var playing sync.WaitGroup
	for n, p := range s.players {
		random := rand.New(rand.NewPCG(s.random.Uint64(), 0))
		playing.Go(func() { errs[n] = p.play(random, end) })
	}
	for until := time.Now().Add(limit); time.Now().Before(until); {
		s.strike()
		time.Sleep(s.within(4 * fastest))
	}
	for n := range s.coordinators {
		s.goOn(n)
		s.revive(n)
	}
	close(end)
	playing.Wait()
	return errors.Join(errs...)
}

func (s *storm) within(d time.Duration) time.Duration {
	return time.Duration(s.random.Int64N(int64(d)))
}

// strike does one of the things that can happen to a coordinator.
func (s *storm) strike() {
	s.t.Helper()
	n := s.random.IntN(2)
	s.goOn(n) // it may have stopped itself
	s.revive(n)
	where := steps[s.random.IntN(len(steps))]
	what := ""
	switch s.random.IntN(6) {
	case 0:
		what = "killed"
		s.kill(n)
	case 1:
		what = "both killed, two started at once"
		s.kill(0)
		s.kill(1)
		s.coordinators[0], s.coordinators[1] = s.coordinate(s.rig.Host), s.coordinate(s.rig.Host)
	case 2:
		what = "stopped and continued"
		s.signal(n, syscall.SIGSTOP)
		time.Sleep(s.within(6 * fastest))
		s.goOn(n)
	case 3:
		what = "killed at " + where
		s.kill(n)
		s.coordinators[n] = s.coordinate(s.rig.Host, "GUARDRING_KILL_AT="+where)
		s.kill(1 - n) // so that it acts
		time.Sleep(s.within(4 * fastest))
		s.revive(1 - n)
	case 4:
		what = "stopped at " + where
		s.kill(n)
		s.coordinators[n] = s.coordinate(s.rig.Host, "GUARDRING_STOP_AT="+where)
		s.kill(1 - n)
		time.Sleep(s.within(2 * fastest))
		s.revive(1 - n)
		time.Sleep(3*fastest + s.within(4*fastest))
		s.goOn(n)
	case 5:
		what = "asked to end"
		s.signal(n, syscall.SIGTERM)
	}
	s.struck[what]++
}

func (s *storm) kill(n int) {
	s.t.Helper()
	if err := s.coordinators[n].Kill(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *storm) signal(n int, sig syscall.Signal) {
	s.t.Helper()
	if err := s.coordinators[n].Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

func (s *storm) goOn(n int) { s.t.Helper(); s.signal(n, syscall.SIGCONT) }

// revive starts a coordinator in the place of one that has ended.
func (s *storm) revive(n int) {
	s.t.Helper()
	if !s.coordinators[n].Running() {
		s.coordinators[n] = s.coordinate(s.rig.Host)
	}
}

// newStorm is a scene for the storm.
func newStorm(t *testing.T, binary string, seed uint64) *storm {
	t.Helper()
	return &storm{newScene(t, binary, fastest, 5), rand.New(rand.NewPCG(seed, 0)), map[string]int{}}
}

// judge looks for what is wrong with what was seen.
func (s *scene) judge() error {
	claims, seen := s.history.operations()
	return errors.Join(check(guardModel, claims), check(orderModel, seen))
}

// TestLinearizable: whatever happens to the coordinators, the gateways see one register per guard.
func TestLinearizable(t *testing.T) {
	t.Parallel()
	t.Logf("seed %d", *seed)
	s := newStorm(t, hostBinary, *seed)
	err := s.blow(*lasts)
	watch := s.watch
	s.endWatch()
	st := s.await("a coordinator acts", rig.Status.Acting)
	if err != nil {
		t.Error(err)
	}
	c := s.account(watch, st)
	claims, seen := s.history.operations()
	began := time.Now()
	if err := s.judge(); err != nil {
		t.Error(err)
		if w := new(wrong); errors.As(err, &w) {
			path, err := w.draw()
			t.Logf("drawn in %s, %v", path, err)
		}
	}
	answers := map[answer]int{}
	for _, op := range claims {
		if op.Input.(asked).what == "claims" {
			answers[op.Output.(answer)]++
		}
	}
	var struck []string
	for what, n := range s.struck {
		struck = append(struck, fmt.Sprintf("%s %d times", what, n))
	}
	slices.Sort(struck)
	t.Logf("figures: %d questions to guards (claims: %v) and %d looks at orders and leases, checked in %v", len(claims), answers, len(seen), time.Since(began).Round(time.Millisecond))
	t.Logf("figures: %s; faults: %s", c, strings.Join(struck, "; "))
	if answers[keeps] == 0 || answers[moves] == 0 || c.elections < 3 {
		t.Error("nothing has happened, so this shows nothing")
	}
}
