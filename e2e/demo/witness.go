package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"guardring/e2e/tornet"
)

// witness listens to one Tor's CIRC events and remembers when circuits through a guard ended.
type witness struct {
	ctl *tornet.Control

	mu   sync.Mutex
	open map[string]bool // circuit IDs through the guard
	ends []time.Time
}

// newWitness watches circuits whose first hop is guard, on a control connection of its own.
func newWitness(ctx context.Context, c *tornet.Client, guard string) (*witness, error) {
	ctl, err := tornet.DialControl(ctx, c.ControlSocket(), c.CookieFile())
	if err != nil {
		return nil, err
	}
	w := &witness{ctl: ctl, open: map[string]bool{}}
	ev, _ := ctl.Events()
	if _, err := ctl.Do("SETEVENTS CIRC"); err != nil {
		ctl.Close()
		return nil, err
	}
	now, err := ctl.Info("circuit-status")
	if err != nil {
		ctl.Close()
		return nil, err
	}
	for line := range strings.Lines(now) {
		w.note(strings.Fields(line), guard)
	}
	go func() {
		for e := range ev {
			if rest, ok := strings.CutPrefix(e, "650 CIRC "); ok {
				w.note(strings.Fields(rest), guard)
			}
		}
	}()
	return w, nil
}

// note takes the words of a circuit's line: ID, status, path, flags.
func (w *witness) note(f []string, guard string) {
	if len(f) < 2 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	oneHop := slices.ContainsFunc(f, func(s string) bool {
		return strings.HasPrefix(s, "BUILD_FLAGS=") && strings.Contains(s, "ONEHOP_TUNNEL")
	})
	switch f[1] {
	case "CLOSED", "FAILED":
		if w.open[f[0]] {
			delete(w.open, f[0])
			w.ends = append(w.ends, time.Now())
		}
	case "BUILT":
		if !oneHop && len(f) > 2 && strings.HasPrefix(f[2], "$"+guard) {
			w.open[f[0]] = true
		}
	}
}

// since counts the circuits through the guard that ended after t, and says when the last one did. left counts those
// that are still there.
func (w *witness) since(t time.Time) (ended int, last time.Time, left int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.ends {
		if e.After(t) {
			ended++
			last = e
		}
	}
	return ended, last, len(w.open)
}

// traffic makes short requests through one client, one after another, as somebody who reads does.
type traffic struct {
	mu           sync.Mutex
	done, failed int
	lastError    error
}

// run makes a request every half second until ctx ends.
func (t *traffic) run(ctx context.Context, c *tornet.Client, target *net.TCPAddr) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		err := request(ctx, c, target)
		if ctx.Err() != nil {
			return
		}
		t.mu.Lock()
		t.done++
		if err != nil {
			t.failed++
			t.lastError = err
		}
		t.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func request(ctx context.Context, c *tornet.Client, target *net.TCPAddr) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	conn, err := c.Dial(ctx, target, "reader")
	if err != nil {
		return fmt.Errorf("request through %s: %w", c.Name, err)
	}
	defer conn.Close()
	return tornet.Ping(conn)
}

func (t *traffic) counts() (done, failed int, last error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.done, t.failed, t.lastError
}
