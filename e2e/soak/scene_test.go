//go:build e2e

package soak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"guardring/e2e/oracle"
	"guardring/e2e/outcome"
	"guardring/e2e/rig"
	"guardring/e2e/tornet"
)

var names = []string{"updates", "browsing", "apps"}

// scene is a host with three gateways, all of whose processes come and go.
type scene struct {
	t            *testing.T
	random       *rand.Rand
	rig          *rig.Rig
	store        *rig.FDStore
	server       *tornet.Process
	coordinators [2]*tornet.Process
	gateways     map[string]*gateway
	struck       map[string]int
}

// gateway is one with its Tor and agent.
type gateway struct {
	*rig.Gateway
	tor   *tornet.Client
	agent *tornet.Process
	// primary is what its Tor has to hold on to.
	primary []string
	end     context.CancelFunc // of its traffic
}

// StartAgent is StartGuest as kill wants it.
func (g *gateway) StartAgent() (*tornet.Process, error) { return g.StartGuest() }

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{t: t, random: rand.New(rand.NewPCG(*seed, 0)), gateways: map[string]*gateway{}, struck: map[string]int{}}
	r, err := rig.New(hostBinary, guestBinary, "disjoint")
	if err != nil {
		t.Fatal(err)
	}
	s.rig = r
	r.DescriptorStore = true
	t.Cleanup(func() {
		if t.Failed() {
			for _, name := range append([]string{"server", "coordinator0", "coordinator1"}, names...) {
				t.Logf("%s says:\n%s", name, r.LogEnd(name))
			}
		}
		if err := r.Stop(); err != nil {
			t.Error(err)
		}
	})
	for n, name := range names {
		c, err := network.AddClient(tornet.ClientConfig{Name: name, Plant: network.Guards[3*n : 3*n+3]})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := network.RemoveClient(c); err != nil {
				t.Error(err)
			}
		})
		g, err := r.Add(name, c)
		if err != nil {
			t.Fatal(err)
		}
		s.gateways[name] = &gateway{Gateway: g, tor: c}
	}
	if s.store, err = rig.NewFDStore(r.Dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.store.Close() })
	if s.server, err = s.serve(); err != nil {
		t.Fatal(err)
	}
	for n := range s.coordinators {
		if s.coordinators[n], err = s.coordinate(n); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range names {
		s.join(name, fingerprints(network.Guards)[3*slices.Index(names, name):][:3])
	}
	return s
}

func (s *scene) serve() (*tornet.Process, error) { return s.rig.StartServer(s.store) }

func (s *scene) coordinate(n int) (*tornet.Process, error) {
	return s.rig.Start(fmt.Sprintf("coordinator%d", n), nil, s.rig.Host, "coordinate", "--config", s.rig.ConfigFile())
}

// join has a gateway's Tor, which is stopped, use the guards that its state file begins with, and then starts its agent.
func (s *scene) join(name string, planted []string) {
	s.t.Helper()
	g := s.gateways[name]
	ctx, cancel := context.WithTimeout(s.t.Context(), 3*time.Minute)
	defer cancel()
	if _, err := g.Join(ctx); err != nil {
		s.t.Fatal(err)
	}
	if err := g.tor.Bootstrap(ctx); err != nil {
		s.t.Fatal(err)
	}
	traffic, end := context.WithCancel(s.t.Context())
	g.end = end
	go new(outcome.Traffic).Run(traffic, g.tor, echo.Addr())
	v, err := oracle.Await(ctx, g.tor, "use of the planted guards", func(v oracle.View) bool {
		if !oracle.AllIn(v.InUse, planted) {
			_ = oracle.CloseStrays(g.tor, planted) // the next look tells whether they are gone
		}
		return slices.Equal(v.Primary, planted) && slices.Contains(v.InUse, planted[0]) && oracle.AllIn(v.InUse, planted)
	})
	if err != nil {
		s.t.Fatal(err)
	}
	g.primary = v.Primary
	if g.agent, err = g.StartAgent(); err != nil {
		s.t.Fatal(err)
	}
}

// leave has a gateway give everything up, and stops agent and Tor.
func (s *scene) leave(name string) {
	s.t.Helper()
	g := s.gateways[name]
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	if _, err := g.Leave(ctx); err != nil {
		s.t.Fatal(err)
	}
	s.await(name+" has left", func(st rig.Status) bool {
		return slices.Contains([]string{"", "left"}, st.Member(name+"/default").State)
	})
	g.end()
	if err := g.agent.Stop(10 * time.Second); err != nil && !strings.Contains(err.Error(), "signal") {
		s.t.Fatal(err)
	}
	if err := g.tor.Stop(); err != nil {
		s.t.Fatal(err)
	}
}

// await asks status until it says what is wanted.
func (s *scene) await(what string, ok func(rig.Status) bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	for tick := time.Tick(200 * time.Millisecond); ; <-tick {
		st, raw, err := s.rig.Status(ctx)
		if err == nil && ok(st) {
			return
		}
		if ctx.Err() != nil {
			s.t.Fatalf("not seen: %s: %v: %s", what, err, raw)
		}
	}
}

func fingerprints(relays []*tornet.Relay) (all []string) {
	for _, r := range relays {
		all = append(all, r.Fingerprint)
	}
	return all
}
