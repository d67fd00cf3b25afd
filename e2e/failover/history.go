package failover

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
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

// wrong is a history for which there is no right order.
type wrong struct {
	model porcupine.Model
	info  porcupine.LinearizationInfo
	text  string
}

// Error has the time line of the part where it fails.
func (w *wrong) Error() string { return w.text }

// draw makes a page that shows that part, and returns where it is.
func (w *wrong) draw() (path string, err error) {
	f, err := os.CreateTemp("", "failover-*.html")
	if err != nil {
		return "", err
	}
	defer f.Close()
	return f.Name(), porcupine.Visualize(w.model, w.info, f)
}

// check searches for an order of a history's questions in which all answers are right. If there is none, the error is a *wrong.
func check(model porcupine.Model, ops []porcupine.Operation) error {
	for _, part := range model.Partition(ops) {
		if result, info := porcupine.CheckOperationsVerbose(model, part, checkTime); result != porcupine.Ok {
			return &wrong{model, info, fmt.Sprintf("not linearizable (%s): %s", result, timeline(model, part, info))}
		}
	}
	return nil
}

// around is how many operations before and after the fault a time line has.
const around = 12

// timeline shows what was asked around the first question that has no place in the longest right order.
func timeline(model porcupine.Model, part []porcupine.Operation, info porcupine.LinearizationInfo) string {
	var longest []porcupine.Operation
	for _, orders := range info.PartialLinearizationsOperations() {
		for _, o := range orders {
			if len(o) > len(longest) {
				longest = o
			}
		}
	}
	slices.SortFunc(part, func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) })
	odd := slices.IndexFunc(part, func(op porcupine.Operation) bool { return !slices.Contains(longest, op) })
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d operations are in a right order\n", len(longest), len(part))
	for i := max(0, odd-around); i < min(len(part), odd+around); i++ {
		op := part[i]
		fmt.Fprintf(&b, "%s %10.3f to %10.3f ms: %s\n", map[bool]string{true: "->", false: "  "}[i == odd],
			float64(op.Call)/1e6, float64(op.Return)/1e6, model.DescribeOperation(op.Input, op.Output))
	}
	return b.String()
}
