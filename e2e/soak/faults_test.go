//go:build e2e

package soak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"guardring/e2e/tornet"
)

// fault is something that happens to a process. It returns when the process runs again, or another one in its place.
type fault struct {
	name string
	do   func() error
}

// faults are all that can happen.
func (s *scene) faults() []fault {
	all := []fault{{"the server is killed, and started with its descriptors", func() error { return s.kill(&s.server, s.serve) }}}
	for n := range s.coordinators {
		p := &s.coordinators[n]
		all = append(all,
			fault{fmt.Sprintf("coordinator %d is killed", n), func() error { return s.kill(p, func() (*tornet.Process, error) { return s.coordinate(n) }) }},
			fault{fmt.Sprintf("coordinator %d is stopped and continued", n), func() error { return s.pause(*p) }})
	}
	for _, name := range names {
		g := s.gateways[name]
		all = append(all,
			fault{"the agent of " + name + " is killed", func() error { return s.kill(&g.agent, g.StartAgent) }},
			fault{"the agent of " + name + " is stopped and continued", func() error { return s.pause(g.agent) }},
			fault{"the Tor of " + name + " gets SIGHUP", g.tor.HUP},
			fault{"the Tor of " + name + " is killed", func() error {
				if err := g.tor.Kill(); err != nil {
					return err
				}
				ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
				defer cancel()
				return g.tor.Bootstrap(ctx)
			}})
	}
	return all
}

// kill kills a process and starts another one in its place.
func (s *scene) kill(p **tornet.Process, start func() (*tornet.Process, error)) error {
	if !(*p).Running() {
		return fmt.Errorf("it had ended by itself: %w", (*p).Err())
	}
	if err := (*p).Kill(); err != nil {
		return err
	}
	next, err := start()
	if err == nil {
		*p = next
	}
	return err
}

// longestPause is longer than a coordinator's lease.
const longestPause = 5 * time.Second

func (s *scene) pause(p *tornet.Process) error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	time.Sleep(rand.N(longestPause))
	return p.Signal(syscall.SIGCONT)
}

// strike lets faults happen, one after the other, until their time is over.
func (s *scene) strike(limit time.Duration) {
	s.t.Helper()
	all := s.faults()
	for end := time.Now().Add(limit); time.Now().Before(end); {
		f := all[s.random.IntN(len(all))]
		if err := f.do(); err != nil {
			s.t.Fatalf("%s: %v", f.name, err)
		}
		s.struck[f.name]++
		time.Sleep(time.Duration(s.random.Int64N(int64(time.Second))))
	}
}
