package runner

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"guardring/internal/coordinator"
	"guardring/shmproto"
)

// TestGuestsDoNotWriteTheLog: whatever a gateway makes happen, the log gets so many lines, then
// a sum once a minute; and another gateway's lines are there all the same.
func TestGuestsDoNotWriteTheLog(t *testing.T) {
	var text strings.Builder
	r := &runner{log: slog.New(slog.NewTextHandler(&text, nil)), speeches: map[string]*speech{}}
	lines := func() int {
		n := strings.Count(text.String(), "\n")
		text.Reset()
		return n
	}
	notice := coordinator.Notice{Kind: coordinator.NoticeJoined, Member: coordinator.Member{Gateway: "bad", Instance: "default"}}
	for range 10000 {
		r.violated("bad", &shmproto.ViolationError{Reason: "x"})
	}
	if n := lines(); n != 1 {
		t.Errorf("%d lines about violations, want 1", n)
	}
	for range 10000 {
		r.tell(notice, "bad")
	}
	if n := lines(); n != noticeBurst {
		t.Errorf("%d lines about decisions, want %d", n, noticeBurst)
	}
	r.tell(coordinator.Notice{Kind: coordinator.NoticeJoined, Member: coordinator.Member{Gateway: "good", Instance: "default"}}, "good")
	if n := lines(); n != 1 {
		t.Errorf("%d lines about another gateway, want 1", n)
	}
	now := time.Now().Add(summaryPeriod + time.Second)
	r.summarise(now)
	for _, want := range []string{"times=9999", "joined=9900"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %s in the summary:\n%s", want, &text)
		}
	}
	lines()
	for range 1000 {
		r.violated("bad", &shmproto.ViolationError{Reason: "x"})
		r.summarise(now)
	}
	if n := lines(); n != 0 {
		t.Errorf("%d summaries within a minute", n)
	}
}
