//go:build e2e

package soak

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"guardring/e2e/oracle"
	"guardring/e2e/tornet"
	"guardring/e2e/usage"
)

// What a process may have more at the end than after the first round.
const (
	moreDescriptors = 8
	moreResident    = 16 << 20 // bytes
	moreThreads     = 12
	moreGoroutines  = 12
)

func TestSoak(t *testing.T) {
	t.Logf("seed %d, for %v", *seed, *lasts)
	s := newScene(t)
	began := time.Now()
	var first map[string]held
	rounds := 0
	for ; rounds < 2 || time.Since(began) < *lasts; rounds++ {
		s.round(rounds)
		if rounds == 0 {
			first = s.held()
		}
	}
	for who, now := range s.held() {
		was := first[who]
		t.Logf("figures: %s: %d descriptors (%d after the first round), %.1f MiB (%.1f), %d goroutines (%d), %d threads (%d)", who, now.Descriptors, was.Descriptors,
			float64(now.Resident)/(1<<20), float64(was.Resident)/(1<<20), now.goroutines, was.goroutines, now.Threads, was.Threads)
		if now.Descriptors > was.Descriptors+moreDescriptors || now.Resident > was.Resident+moreResident || now.Threads > was.Threads+moreThreads || now.goroutines > was.goroutines+moreGoroutines {
			t.Errorf("%s leaks: %+v, after the first round %+v", who, now, was)
		}
	}
	var faults []string
	for name, n := range s.struck {
		faults = append(faults, fmt.Sprintf("%s %d times", name, n))
	}
	slices.Sort(faults)
	t.Logf("figures: %d rounds in %.0f s; %s", rounds, time.Since(began).Seconds(), strings.Join(faults, "; "))
	s.consistent()
}

// round has one gateway come anew with a guard of another one, lets everything happen to everybody, and asks the Tors what has become of it.
func (s *scene) round(n int) {
	s.t.Helper()
	mover, other := names[n%3], names[(n+1+s.random.IntN(2))%3]
	common := s.gateways[other].primary[0]
	planted := []*tornet.Relay{network.GuardByFingerprint(common)}
	var taken []string
	for _, name := range names {
		if name != mover {
			taken = append(taken, s.gateways[name].primary...)
		}
	}
	for _, i := range s.random.Perm(len(network.Guards)) {
		if g := network.Guards[i]; len(planted) < 3 && !slices.Contains(taken, g.Fingerprint) {
			planted = append(planted, g)
		}
	}
	s.leave(mover)
	g := s.gateways[mover]
	if err := os.WriteFile(g.tor.StateFile(), []byte(network.PlantedState(planted)), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.join(mover, fingerprints(planted))
	began := time.Now()
	s.strike(time.Duration(5+s.random.IntN(15)) * time.Second)
	struck := time.Since(began)

	ctx, cancel := context.WithTimeout(s.t.Context(), 3*time.Minute)
	defer cancel()
	v, err := oracle.Await(ctx, g.tor, mover+" has given up what "+other+" had first", func(v oracle.View) bool {
		return len(v.Primary) >= 3 && len(v.InUse) > 0 && !slices.Contains(v.Primary, common) && !slices.Contains(v.InUse, common)
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if rest := fingerprints(planted)[1:]; !slices.Equal(v.Primary[:2], rest) {
		s.t.Errorf("round %d: %s has also given up one of %v: it has %v", n, mover, rest, v.Primary)
	}
	for _, fp := range v.Primary {
		if slices.Contains(taken, fp) {
			s.t.Errorf("round %d: %s now has %s, which another one had first", n, mover, fp)
		}
	}
	g.primary = v.Primary
	for _, name := range names {
		if name == mover {
			continue
		}
		was := s.gateways[name].primary
		if v, err := oracle.Look(s.gateways[name].tor); err != nil || !slices.Equal(v.Primary, was) {
			s.t.Errorf("round %d: %s changed from %v to %v, %v", n, name, was, v.Primary, err)
		}
	}
	s.t.Logf("round %d: %s gave up a guard of %s; faults for %.0f s, right %.1f s after the join", n, mover, other, struck.Seconds(), time.Since(began).Seconds())
}

// held is what a process holds.
type held struct {
	usage.Usage
	goroutines int // as its status says
}

func (s *scene) held() map[string]held {
	s.t.Helper()
	all := map[string]held{"server": s.look(s.server), "coordinator 0": s.look(s.coordinators[0]), "coordinator 1": s.look(s.coordinators[1])}
	for _, name := range names {
		all["agent of "+name] = s.look(s.gateways[name].agent)
	}
	return all
}

func (s *scene) look(p *tornet.Process) held {
	s.t.Helper()
	u, err := usage.Of(p.PID())
	if err != nil {
		s.t.Fatal(err)
	}
	return held{u, s.goroutines(p.PID())}
}

// goroutines asks the status sockets for those of a process.
func (s *scene) goroutines(pid int) int {
	s.t.Helper()
	sockets, err := filepath.Glob(filepath.Join(s.rig.RunDir(), "*.sock"))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, name := range names {
		sockets = append(sockets, s.gateways[name].StatusSocket())
	}
	type process struct {
		PID        int `json:"pid"`
		Goroutines int `json:"goroutines"`
	}
	for _, socket := range sockets {
		c, err := net.Dial("unix", socket)
		if err != nil {
			continue // a coordinator's of before
		}
		var document struct {
			process
			Coordinator process `json:"coordinator"`
		}
		err = json.NewDecoder(c).Decode(&document)
		_ = c.Close()
		for _, of := range []process{document.process, document.Coordinator} {
			if err == nil && of.PID == pid && of.Goroutines > 0 {
				return of.Goroutines
			}
		}
	}
	s.t.Fatalf("none of %v says how many goroutines process %d has", sockets, pid)
	return 0
}

// consistent has the journal decided again, and the ledger read, by the commands that an operator has.
func (s *scene) consistent() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	out, err := s.rig.Guardring(ctx, "replay")
	if err != nil {
		s.t.Errorf("the journal: %v: %s", err, out)
	} else {
		lines := strings.Split(strings.TrimSpace(out), "\n")
		s.t.Log(lines[len(lines)-1])
	}
	if out, err = s.rig.Guardring(ctx, "ledger", "show"); err != nil {
		s.t.Errorf("the ledger: %v: %s", err, out)
	}
}
