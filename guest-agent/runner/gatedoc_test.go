package runner

import (
	"testing"
	"time"
)

// TestGateOverdue: a gate that is about to open, as each does for a moment, is no problem.
func TestGateOverdue(t *testing.T) {
	limit := time.Unix(90, 0)
	for _, c := range []struct {
		name string
		gate *Gate
		now  int64
		want bool
	}{
		{"no gate", nil, 100, false},
		{"closed within its limit", &Gate{State: "closed", Limit: limit}, 89, false},
		{"closed past its limit", &Gate{State: "closed", Limit: limit}, 91, true},
		{"opening within its limit", &Gate{State: "opening", Limit: limit}, 89, false},
		{"opening past its limit", &Gate{State: "opening", Limit: limit}, 91, true},
		{"opening since an earlier start, which knew the limit", &Gate{State: "opening"}, 91, false},
		{"open", &Gate{State: "open", Limit: limit}, 91, false},
	} {
		if got := c.gate.overdue(time.Unix(c.now, 0)); got != c.want {
			t.Errorf("%s: overdue is %t", c.name, got)
		}
	}
}
