package runner

import (
	"maps"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"guardring/internal/coordinator"
	"guardring/shmproto"
)

// Guests must not write our log: what one gateway can cause is said up to a
// pace, then counted and summed up.
const (
	summaryPeriod = time.Minute
	noticeBurst   = 100      // lines about decisions that one gateway can cause at once
	noticeRate    = 1.0 / 60 // and then each second
)

// speech is what one gateway has made us say and not say.
type speech struct {
	violations uint64 // unsaid
	reason     string // of the last one
	next       time.Time

	lines *rate.Limiter
	held  map[coordinator.NoticeKind]uint64 // notices that were not said
	until time.Time                         // no summary of them before
}

func (r *runner) speech(gateway string) *speech {
	s := r.speeches[gateway]
	if s == nil {
		s = &speech{lines: rate.NewLimiter(noticeRate, noticeBurst), held: map[coordinator.NoticeKind]uint64{}}
		r.speeches[gateway] = s
	}
	return s
}

// tell logs a notice, or counts it if the gateway whose event led to it has
// made us say too much. What time alone led to is on the member's gateway.
func (r *runner) tell(n coordinator.Notice, gateway string) {
	if gateway == "" {
		gateway = n.Member.Gateway
	}
	s := r.speech(gateway)
	if !s.lines.Allow() {
		s.held[n.Kind]++
		return
	}
	text := n.String()
	if r.cfg.ShowFingerprints {
		text = n.Detail()
	}
	r.log.Info(text)
}

// violated logs the first violation of a gateway and then sums up.
func (r *runner) violated(gateway string, v *shmproto.ViolationError) {
	s := r.speech(gateway)
	s.violations++
	s.reason = v.Error()
	r.say(gateway, s, time.Now())
}

// summarise says what was held back.
func (r *runner) summarise(now time.Time) {
	for _, gateway := range slices.Sorted(maps.Keys(r.speeches)) {
		r.say(gateway, r.speeches[gateway], now)
	}
}

func (r *runner) say(gateway string, s *speech, now time.Time) {
	if s.violations > 0 && now.After(s.next) {
		r.log.Warn("gateway breaks the protocol", "gateway", gateway, "times", s.violations, "last", s.reason)
		s.violations, s.next = 0, now.Add(summaryPeriod)
	}
	if len(s.held) > 0 && now.After(s.until) {
		attrs := []any{"gateway", gateway}
		for _, kind := range slices.Sorted(maps.Keys(s.held)) {
			attrs = append(attrs, string(kind), s.held[kind])
		}
		r.log.Warn("gateway causes more decisions than are said one by one", attrs...)
		clear(s.held)
		s.until = now.Add(summaryPeriod)
	}
}
