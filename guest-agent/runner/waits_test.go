package runner

import (
	"testing"
	"time"
)

// TestWaits: what was waited before an order was seen is not counted as waited after it, also
// when the answer comes later.
func TestWaits(t *testing.T) {
	var w waits
	start := time.Unix(0, 0)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	check := func(s, want int) {
		t.Helper()
		if got := w.until(at(s)); got != time.Duration(want)*time.Second {
			t.Errorf("%s was waited until second %d, want %d s", got, s, want)
		}
	}
	check(5, 0)
	w.begin(at(10))
	check(9, 0) // seen before, told later
	check(13, 3)
	w.end(at(14))
	check(20, 4)
	w.begin(at(20))
	check(21, 5)
	w.end(at(22))
	check(30, 6)
}
