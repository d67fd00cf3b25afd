package runner

import (
	"encoding/json"
	"time"

	"golang.org/x/time/rate"

	"guardring/host-agent/journal"
	"guardring/internal/coordinator"
	"guardring/internal/version"
)

// What one gateway can make us write down. Its own history it can only push out
// itself. Of the journal it may write an eighth at once, and then as much as fills
// one of the two segments in half a day: more than that waits in its memory. Of
// other gateways' histories it can cause so many lines, which is far more than
// budgets let happen.
const (
	journalBurst   = 8 // parts of a segment
	journalPeriod  = 12 * time.Hour
	foreignBurst   = 200
	foreignPeriod  = 10 * time.Minute
	recordingPause = 10 * time.Second // after something could not be written
)

// records is what the coordinator writes down for those who look back: the
// journal and the histories. It is never in the way: what cannot be written is
// said once, and not written.
type records struct {
	journal *journal.Journal
	lines   coordinator.Recorder
	core    *coordinator.Coordinator // whose journal it is
	next    time.Time                // no attempt to write before
	faults  map[string]string        // why journal or history are not written, by which of the two
	foreign map[string]*rate.Limiter // by the gateway that causes lines in others' histories
}

// paper returns the limiter of one gateway's part of the journal, in bytes.
func (c *Config) paper() *rate.Limiter {
	return rate.NewLimiter(rate.Limit(float64(c.JournalSize)/journalPeriod.Seconds()), int(c.JournalSize/journalBurst))
}

// header is the first line of a segment.
type header struct {
	Version    int                    `json:"version"`
	Build      string                 `json:"build"`
	At         time.Time              `json:"at"`
	Term       uint64                 `json:"term"`
	Checkpoint coordinator.Checkpoint `json:"checkpoint"`
}

// prepare makes sure that there is a segment to which the next event of the core
// can be written. It is called before that event, whose outcome the segment's
// checkpoint must not contain.
func (r *runner) prepare() {
	w := &r.records
	now := time.Now()
	if w.core == r.core && w.journal.Ready() || now.Before(w.next) {
		return
	}
	w.lines, w.core = coordinator.Recorder{}, r.core
	text, err := json.Marshal(header{1, version.String(), now.UTC(), uint64(r.book.Term()), r.core.Checkpoint()})
	if err == nil {
		err = w.journal.Begin(text)
	}
	r.recorded("journal", err)
}

// record writes an event of the core with its outcome into the journal. gateway
// pays for it.
func (r *runner) record(e coordinator.Event, ready coordinator.Ready, gateway string) {
	w := &r.records
	if w.core != r.core || !w.journal.Ready() {
		return
	}
	line, err := w.lines.Line(e, ready)
	if err == nil {
		err = w.journal.Append(line)
	}
	if err != nil {
		w.core = nil // what comes next would follow a gap
	}
	r.recorded("journal", err)
	if l := r.links[gateway]; l != nil {
		l.paper.ReserveN(time.Now(), min(len(line), l.paper.Burst()))
	}
}

// recorded takes in whether journal or history could be written. What is wrong is
// logged once.
func (r *runner) recorded(what string, err error) {
	w := &r.records
	if err == nil {
		delete(w.faults, what)
		return
	}
	w.next = time.Now().Add(recordingPause)
	if w.faults[what] == "" {
		r.log.Warn("what is decided cannot be written down; it is decided all the same", "what", what, "error", err)
	}
	w.faults[what] = err.Error()
}

// fault says what cannot be written, "" while all is well.
func (w *records) fault() string {
	for _, what := range []string{"journal", "history"} {
		if f := w.faults[what]; f != "" {
			return what + ": " + f
		}
	}
	return ""
}

// note writes a notice into the history of its member's gateway. gateway is the
// one whose event led to it.
func (r *runner) note(n coordinator.Notice, gateway string) {
	w := &r.records
	owner := n.Member.Gateway
	if owner == "" || time.Now().Before(w.next) || gateway != "" && gateway != owner && !w.allow(gateway) {
		return
	}
	line, err := json.Marshal(struct {
		coordinator.Notice
		Budgets []coordinator.BudgetStatus `json:"budgets,omitempty"`
	}{n, r.budgetsThen(n)})
	if err == nil {
		err = journal.Note(r.runDir().History(), owner, line)
	}
	r.recorded("history", err)
}

func (w *records) allow(gateway string) bool {
	l := w.foreign[gateway]
	if l == nil {
		l = rate.NewLimiter(rate.Every(foreignPeriod), foreignBurst)
		w.foreign[gateway] = l
	}
	return l.Allow()
}

// budgetsThen returns what the member had left after a decision that cost it
// something, or for which it had nothing left.
func (r *runner) budgetsThen(n coordinator.Notice) []coordinator.BudgetStatus {
	switch n.Kind {
	case coordinator.NoticeExcluded, coordinator.NoticeExhausted, coordinator.NoticeDelayed, coordinator.NoticeAllowed:
	default:
		return nil
	}
	if r.core == nil {
		return nil
	}
	for _, m := range r.core.State().Members {
		if m.Member == n.Member {
			return m.Budgets
		}
	}
	return nil
}
