//go:build e2e

package failover

import (
	"os"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// history is what all gateways have asked and seen. Safe for concurrent use.
type history struct {
	began time.Time

	mu           sync.Mutex
	claims, seen []porcupine.Operation
}

func newHistory() *history { return &history{began: time.Now()} }

// now is the time that operations are written with.
func (h *history) now() int64 { return int64(time.Since(h.began)) }

// asked writes a question and its answer down.
func (h *history) asked(in asked, call int64, out answer, returned int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.claims = append(h.claims, porcupine.Operation{ClientId: in.gateway - 1, Input: in, Call: call, Output: out, Return: returned})
}

// looked writes down what a reader saw in a gateway's memory.
func (h *history) looked(op porcupine.Operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen = append(h.seen, op)
}

// reader is one of those who look at a gateway's memory. Of what looks alike it writes down the first and the last look: the ones in
// between follow.
type reader struct {
	history     *history
	id          int
	first, last porcupine.Operation
	looks       int
}

func (r *reader) look(in seen, call int64) {
	op := porcupine.Operation{ClientId: r.id, Input: in, Call: call, Return: r.history.now()}
	if r.looks == 0 || r.first.Input != any(in) {
		r.end()
		r.first = op
		r.history.looked(op)
	}
	r.last = op
	r.looks++
}

// end writes down the last look.
func (r *reader) end() {
	if r.looks > 0 && r.last.Call != r.first.Call {
		r.history.looked(r.last)
	}
}

// draw makes a page that shows that part, and returns where it is.
func (w *wrong) draw() (path string, err error) {
	f, err := os.CreateTemp("", "failover-*.html")
	if err != nil {
		return "", err
	}
	defer f.Close()
	return f.Name(), porcupine.Visualize(w.model, w.info, f)
}
