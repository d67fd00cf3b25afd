//go:build e2e

package gateway_test

import (
	"testing"
	"time"
)

// TestThreeGateways is the main job with real machines: three guests, a common guard planted in two of them. Tor itself, asked from
// outside, shows disjoint guards and exactly the due change; the orders came by interrupt. Then come the faults.
func TestThreeGateways(t *testing.T) {
	all := map[string]setting{"updates": byVFIO, "browsing": byVFIO, "apps": byVFIO}
	s := open(t, all)
	before := map[string]int{}
	for _, name := range names {
		before[name] = s.interrupts(name)
	}
	s.work(all)
	st := s.status()
	rung := 0
	for _, name := range names {
		n := s.interrupts(name) - before[name]
		t.Logf("%s: %d interrupts from the device", name, n)
		rung += n
	}
	t.Logf("the coordinator has rung %d doorbells", st.Doorbells)
	if st.Doorbells == 0 || rung == 0 {
		t.Errorf("%d doorbells rung, %d interrupts: no doorbell was used", st.Doorbells, rung)
	}
	for _, name := range names {
		m, err := s.gateways[name].AgentMemory(s.ctx(20 * time.Second))
		if err != nil {
			t.Error(err)
		}
		t.Logf("figures: the agent of %s has used %.1f MiB of memory at most", name, float64(m)/(1<<20))
	}
	s.faults()
}

// TestPolling is the same with guests that have no IOMMU.
func TestPolling(t *testing.T) {
	all := map[string]setting{"updates": byPolling, "browsing": byPolling, "apps": byPolling}
	open(t, all).work(all)
}

// TestMixedGateways has one of each: VFIO, polling on q35, polling on the old PC, whose QEMU has no IOMMU to offer. Then the
// last two stand still for minutes.
func TestMixedGateways(t *testing.T) {
	all := map[string]setting{"updates": byPolling, "browsing": byVFIO, "apps": onOldPC}
	s := open(t, all)
	s.work(all)
	s.pauses()
}

func last(s string, n int) string { return s[max(0, len(s)-n):] }
