//go:build e2e

package gateway_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"guardring/e2e/oracle"
	"guardring/e2e/outcome"
	"guardring/e2e/rig"
	"guardring/e2e/usage"
	"guardring/e2e/vmtest"
)

// victim is the gateway whose machine is killed, or replaced by a hostile one. The others must not notice.
const victim = "apps"

var others = []string{"updates", "browsing"}

// sub runs a part of a scene as a subtest. Once a part has failed, the next ones would fail for no reason of their own.
func (s *scene) sub(name string, f func()) {
	whole := s.t
	if whole.Failed() {
		return
	}
	whole.Run(name, func(t *testing.T) {
		s.t = t
		defer func() { s.t = whole }()
		f()
	})
}

// faults does harm to a scene that works, and at last has all three gateways as they should be.
func (s *scene) faults() {
	right, err := s.look()
	if err != nil {
		s.t.Fatal(err)
	}
	moved := outcome.Changed(s.before, right)[0]
	s.sub("coordinator and server killed", func() { s.hostKilled(moved) })
	if err := s.gateways[victim].Kill(); err != nil {
		s.t.Fatal(err)
	}
	hostile, err := kit.Boot(s.t.Context(), vmtest.Options{Name: "hostile", Region: s.host.Region(victim),
		Files: []vmtest.File{{Path: "/usr/bin/mayhem", Source: mayhemBinary, Mode: 0o755}}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.sub("QEMU killed while it publishes", func() { s.killedOften(hostile) })
	s.sub("rings as fast as it can", func() { s.ringsFast(hostile) })
	s.sub("random bytes for a minute", func() { s.randomBytes(hostile) })
	if err := hostile.Close(); err != nil {
		s.t.Fatal(err)
	}
	s.sub("and back", func() {
		for _, name := range others {
			s.unharmed(name, right[name])
		}
		s.restart(victim)
		s.awaitDisjoint(60 * time.Second)
		s.awaitStatus("the victim's quarantine over", func(st rig.Status) bool { return st.Gateway(victim).Quarantine.IsZero() })
	})
}

// restart starts a killed gateway's machine again, with its disk, and the agent in it.
func (s *scene) restart(name string) {
	s.t.Helper()
	ctx := s.ctx(2 * time.Minute)
	g := s.gateways[name]
	if err := g.Start(ctx); err != nil {
		s.t.Fatal(err)
	}
	if _, err := g.Prepare(ctx); err != nil {
		s.t.Fatal(err)
	}
	if err := g.StartAgent(ctx); err != nil {
		s.t.Fatal(err)
	}
	s.awaitConnected(name)
}

// hostKilled kills the coordinator, and then the server, too. What is in force stays, nobody moves, and doorbells work both ways.
func (s *scene) hostKilled(moved string) {
	for _, both := range []bool{false, true} {
		before := s.interrupts(moved)
		if err := s.host.KillCoordinator(); err != nil {
			s.t.Fatal(err)
		}
		if both {
			if err := s.host.KillServer(); err != nil {
				s.t.Fatal(err)
			}
			if err := s.host.StartServer(s.ctx(20 * time.Second)); err != nil {
				s.t.Fatal(err)
			}
		}
		if err := s.host.StartCoordinator(s.ctx(30 * time.Second)); err != nil {
			s.t.Fatal(err)
		}
		// The successor shows the standing order with its own term, and rings.
		s.await("an interrupt in "+moved, func() bool { return s.interrupts(moved) > before })
		s.awaitDisjoint(60 * time.Second)
		// The guest's publications arrive.
		member := others[0] + "/default"
		first := s.awaitStatus("an agent that is there", func(st rig.Status) bool { return st.Member(member).State == "present" }).Member(member).Publication
		if err := s.gateways[others[0]].KillAgent(s.ctx(20 * time.Second)); err != nil {
			s.t.Fatal(err)
		}
		if err := s.gateways[others[0]].StartAgent(s.ctx(20 * time.Second)); err != nil {
			s.t.Fatal(err)
		}
		s.awaitStatus("an agent that was started anew", func(st rig.Status) bool { return st.Member(member).Publication.Incarnation != first.Incarnation })
	}
	for name, g := range s.gateways {
		select {
		case <-g.Exited():
			s.t.Errorf("the QEMU of %s has ended", name)
		default:
		}
	}
}

// published counts what the acting coordinator has read.
func published(st rig.Status) uint64 {
	for _, c := range st.Coordinators {
		if c.Role == "acting" {
			return c.Publications
		}
	}
	return 0
}

// kills is how often a machine is killed in the middle of a publication.
const kills = 20

// killedOften kills the victim's QEMU while it publishes as fast as it can, and starts another one, again and again. The server's table
// of seats is fixed, so the other QEMUs, which know the victim's doorbells in no way, live, and so do host and coordinator.
func (s *scene) killedOften(g *vmtest.Guest) {
	coordinator := s.host.Coordinator().PID()
	first := s.status().Gateway(victim).Attachment
	var sample []string
	for _, r := range network.Guards[5:8] {
		sample = append(sample, r.Fingerprint+"@"+r.Addr())
	}
	for n := range kills {
		if n > 0 {
			if err := g.Start(s.ctx(time.Minute)); err != nil {
				s.t.Fatal(err)
			}
		}
		seen := published(s.status())
		go g.Run(context.Background(), append([]string{"mayhem", "publish"}, sample...)...) // it ends with its machine
		s.awaitStatus("publications of the victim", func(st rig.Status) bool { return published(st) > seen })
		// Any moment will do: it does nothing but publish.
		time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
		if err := g.Kill(); err != nil {
			s.t.Fatal(err)
		}
	}
	st := s.status()
	if got := st.Gateway(victim).Attachment - first; got < kills-1 {
		s.t.Errorf("the seat was attached %d times, not %d", got, kills-1)
	}
	if got := s.host.Coordinator(); !got.Running() || got.PID() != coordinator {
		s.t.Error("the coordinator has ended")
	}
	for _, name := range others {
		select {
		case <-s.gateways[name].Exited():
			s.t.Errorf("the QEMU of %s has ended: %s", name, s.gateways[name].QEMULog())
		default:
		}
	}
	if err := g.Start(s.ctx(time.Minute)); err != nil {
		s.t.Fatal(err)
	}
}

// ringSeconds is how long a guest rings, and how long it spins for comparison.
const ringSeconds = 10

// ringsAWake is how many rings, at the least, it takes to wake a thread of the coordinator once more than without ringing. The pace of
// the looks is what bounds them, so it is many more on any machine that rings fast.
const ringsAWake = 1000

// ringsFast lets the victim ring as fast as it can, after it has spun as fast without ringing.
func (s *scene) ringsFast(g *vmtest.Guest) {
	times, wakes := map[string]int64{}, map[string]int64{}
	for _, way := range []string{"spin", "ring"} {
		stop, slowest := s.askForStatus()
		before, began := s.used(), time.Now()
		out, err := g.Run(s.ctx(time.Minute), "mayhem", way, strconv.Itoa(ringSeconds))
		if err != nil {
			s.t.Fatal(err)
		}
		seconds, after := time.Since(began).Seconds(), s.used()
		wakes[way] = after.Sleeps - before.Sleeps
		stop()
		if times[way], err = strconv.ParseInt(strings.TrimSpace(out), 10, 64); err != nil {
			s.t.Fatal(err)
		}
		s.t.Logf("figures: %s for %.1f s: %d times; the coordinator used %.1f %% of a core, woke %d times, its slowest answer took %v", way, seconds,
			times[way], 100*(after.CPU-before.CPU).Seconds()/seconds, wakes[way], slowest().Round(time.Millisecond))
	}
	if more := wakes["ring"] - wakes["spin"]; more > times["ring"]/ringsAWake {
		s.t.Errorf("%d rings woke the coordinator %d times more than none", times["ring"], more)
	}
}

// used is what the coordinator has used.
func (s *scene) used() usage.Usage {
	s.t.Helper()
	u, err := usage.Of(s.host.Coordinator().PID())
	if err != nil {
		s.t.Fatal(err)
	}
	return u
}

// askForStatus asks the coordinator for its status, one request after another. slowest is the longest that one took, after stop.
func (s *scene) askForStatus() (stop func(), slowest func() time.Duration) {
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan struct{})
	var longest time.Duration
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			began := time.Now()
			if _, _, err := s.host.Status(ctx); err == nil {
				longest = max(longest, time.Since(began))
			}
			select {
			case <-time.After(200 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
	return func() { cancel(); <-done }, func() time.Duration { return longest }
}

// randomSeconds is how long a guest fills its region with random bytes.
const randomSeconds = 60

// mostLines is what a guest may have the coordinator say in that time.
const mostLines = 200

// randomBytes lets the victim fill its region with random bytes: it is quarantined and named, the others go on.
func (s *scene) randomBytes(g *vmtest.Guest) {
	lines := strings.Count(s.host.Log("host"), "\n")
	done := make(chan error, 1)
	go func() {
		out, err := g.Run(s.ctx(randomSeconds*time.Second+time.Minute), "mayhem", "random", strconv.Itoa(randomSeconds))
		s.t.Logf("the region was filled %s times", strings.TrimSpace(out))
		done <- err
	}()
	st := s.awaitStatus("quarantine", func(st rig.Status) bool { return !st.Gateway(victim).Quarantine.IsZero() })
	s.t.Logf("verdict %s: %+v", st.Verdict, st.Problems)
	if !slices.ContainsFunc(st.Problems, func(p rig.Problem) bool { return strings.HasPrefix(p.Text, "gateway "+victim+" is quarantined") }) {
		s.t.Errorf("status does not name the victim: %+v", st.Problems)
	}
	for _, name := range others {
		if !st.Gateway(name).Quarantine.IsZero() || st.Gateway(name).Violations > 0 {
			s.t.Errorf("%s is blamed: %+v", name, st.Gateway(name))
		}
	}
	requests := map[string]int{}
	for _, name := range others {
		requests[name], _, _ = s.traffic[name].Counts()
	}
	if err := <-done; err != nil {
		s.t.Fatal(err)
	}
	for _, name := range others {
		if now, _, _ := s.traffic[name].Counts(); now <= requests[name] {
			s.t.Errorf("%s made no request meanwhile", name)
		}
	}
	if said := strings.Count(s.host.Log("host"), "\n") - lines; said > mostLines {
		s.t.Errorf("the coordinator said %d lines meanwhile", said)
	}
	if !s.host.Coordinator().Running() {
		s.t.Error("the coordinator has ended")
	}
}

// unharmed checks that a gateway has the primary guards that it had, and a circuit.
func (s *scene) unharmed(name string, right oracle.View) {
	s.t.Helper()
	v, err := oracle.Look(s.gateways[name].Tor)
	if err != nil {
		s.t.Fatal(err)
	}
	if !slices.Equal(v.Primary, right.Primary) || len(v.InUse) == 0 {
		s.t.Errorf("%s has primary guards %v and uses %v; it had %v", name, v.Primary, v.InUse, right.Primary)
	}
}

// await asks until ok says yes.
func (s *scene) await(what string, ok func() bool) {
	s.t.Helper()
	ctx := s.ctx(40 * time.Second)
	for !ok() {
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			s.t.Fatalf("still not: %s", what)
		}
	}
}

func (s *scene) awaitStatus(what string, ok func(rig.Status) bool) rig.Status {
	s.t.Helper()
	var st rig.Status
	s.await(what, func() bool { st = s.status(); return ok(st) })
	return st
}
