package outcome

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

// Witness listens to one Tor's CIRC events and remembers when circuits through a guard ended.
type Witness struct {
	ctl *tornet.Control

	mu   sync.Mutex
	open map[string]bool // circuit IDs through the guard
	ends []time.Time
}

// NewWitness watches circuits whose first hop is guard, on a control connection of its own.
func NewWitness(ctx context.Context, c *tornet.Client, guard string) (*Witness, error) {
	ctl, err := tornet.DialControl(ctx, c.ControlSocket(), c.CookieFile())
	if err != nil {
		return nil, err
	}
	w := &Witness{ctl: ctl, open: map[string]bool{}}
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

// Close ends the connection.
func (w *Witness) Close() error { return w.ctl.Close() }

// note takes the words of a circuit's line: ID, status, path, flags.
func (w *Witness) note(f []string, guard string) {
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

// Since counts the circuits through the guard that ended after t, and says when the last one did. left counts those
// that are still there.
func (w *Witness) Since(t time.Time) (ended int, last time.Time, left int) {
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

// Traffic makes short requests through one client, one after another, as somebody who reads does.
type Traffic struct {
	mu           sync.Mutex
	done, failed int
	lastError    error
}

// Run makes a request every half second until ctx ends.
func (t *Traffic) Run(ctx context.Context, c *tornet.Client, target *net.TCPAddr) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		err := Request(ctx, c, target)
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

// Request makes one request: a stream to the echo service, a line, its echo.
func Request(ctx context.Context, c *tornet.Client, target *net.TCPAddr) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	conn, err := c.Dial(ctx, target, "reader")
	if err != nil {
		return fmt.Errorf("request through %s: %w", c.Name, err)
	}
	defer conn.Close()
	return tornet.Ping(conn)
}

// Counts says how many requests were made, how many of them failed, and why the last one did.
func (t *Traffic) Counts() (done, failed int, last error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.done, t.failed, t.lastError
}
