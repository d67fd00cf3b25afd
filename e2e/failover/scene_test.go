//go:build e2e

package failover

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"guardring/e2e/rig"
	"guardring/e2e/tornet"
)

// scene is a host with its gateways.
type scene struct {
	t            *testing.T
	rig          *rig.Rig
	history      *history
	players      []*player
	watch        *watch
	coordinators [2]*tornet.Process
	started      int
}

// newScene starts a server, and gateways that have taken their seats. No coordinator runs yet.
func newScene(t *testing.T, binary string, heartbeat time.Duration, players int) *scene {
	t.Helper()
	r, err := rig.New(binary, guestBinary, "disjoint")
	if err != nil {
		t.Fatal(err)
	}
	r.Heartbeat = heartbeat
	s := &scene{t: t, rig: r, history: newHistory()}
	t.Cleanup(func() {
		if t.Failed() {
			for _, name := range []string{"server", "coordinator"} {
				t.Logf("%s says:\n%s", name, r.LogEnd(name))
			}
		}
		if err := r.Stop(); err != nil {
			t.Error(err)
		}
	})
	for n := range players {
		if _, err := r.Add(fmt.Sprintf("gateway%d", n+1)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Start("server", nil, r.Host, "serve", "--config", r.ConfigFile()); err != nil {
		t.Fatal(err)
	}
	for n, g := range r.Gateways {
		p, err := newPlayer(g.Name, n+1, g.Socket(), s.history)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.seat.Close() })
		s.players = append(s.players, p)
	}
	s.watch = newWatch(s.history, s.players)
	t.Cleanup(func() { s.endWatch() })
	return s
}

// endWatch ends what is watching, once; before the seats are closed.
func (s *scene) endWatch() {
	if s.watch != nil {
		s.watch.end()
	}
	s.watch = nil
}

// coordinate starts a coordinator of a build.
func (s *scene) coordinate(binary string, env ...string) *tornet.Process {
	s.t.Helper()
	s.started++
	p, err := s.rig.Start("coordinator", env, binary, "coordinate", "--config", s.rig.ConfigFile())
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

// await asks status until it says what is wanted.
func (s *scene) await(what string, ok func(rig.Status) bool) rig.Status {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	for tick := time.Tick(10 * time.Millisecond); ; <-tick {
		st, raw, err := s.rig.Status(ctx)
		if err == nil && ok(st) {
			return st
		}
		if ctx.Err() != nil {
			s.t.Fatalf("not seen: %s: %v: %s", what, errors.Join(err, ctx.Err()), raw)
		}
	}
}
