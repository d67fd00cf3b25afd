package runner

import (
	"sync"
	"time"
)

// waits adds up how long a link has waited for Tor's answers. One goroutine asks Tor;
// others may read. The zero value has waited for nothing.
type waits struct {
	mu    sync.Mutex
	total time.Duration
	since time.Time // when the request under way was sent; zero: none is
}

func (w *waits) begin(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since = now
}

func (w *waits) end(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.total += now.Sub(w.since)
	w.since = time.Time{}
}

// until is what was waited in all until now, the request under way included: an order may
// come while Tor is asked something else.
func (w *waits) until(now time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.since.IsZero() || now.Before(w.since) {
		return w.total
	}
	return w.total + now.Sub(w.since)
}
