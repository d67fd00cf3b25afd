//go:build e2e

package gateway_test

import (
	"fmt"
	"slices"
	"time"
)

// standstill is how long two gateways are paused: longer than Tor waits for a stream (SocksTimeout), and than the agent for anything.
const standstill = 125 * time.Second

// pauses has two gateways stand still for minutes, and their clocks jump. Afterwards each Tor has the guards that it had, and nobody was
// told to change any.
func (s *scene) pauses() {
	s.t.Helper()
	right, err := s.look()
	if err != nil {
		s.t.Fatal(err)
	}
	orders := s.orders()
	steady := func(after string) {
		s.t.Helper()
		now := s.awaitDisjoint(90 * time.Second)
		for _, name := range names {
			if !slices.Equal(now[name].Primary, right[name].Primary) {
				s.t.Errorf("after %s the primaries of %s are %v, were %v", after, name, now[name].Primary, right[name].Primary)
			}
		}
		if got := s.orders(); !slices.Equal(got, orders) {
			s.t.Errorf("after %s the orders are %v, were %v", after, got, orders)
		}
	}
	still := names[1:]
	for _, name := range still {
		if err := s.gateways[name].Pause(); err != nil {
			s.t.Fatal(err)
		}
	}
	time.Sleep(standstill) // the pause itself is what is tested
	for _, name := range still {
		if err := s.gateways[name].Resume(); err != nil {
			s.t.Fatal(err)
		}
	}
	steady(fmt.Sprintf("a pause of %s", standstill))
	for _, jump := range []int{900, -1800, 900} {
		for _, name := range still {
			if _, err := s.gateways[name].Run(s.ctx(20*time.Second), "sh", "-c", fmt.Sprintf("date -s @$(($(date +%%s) + %d))", jump)); err != nil {
				s.t.Fatal(err)
			}
		}
		steady(fmt.Sprintf("a clock's jump by %+d s", jump))
	}
}

// orders are the numbers of the members' orders, with a member that is taken for a copy marked.
func (s *scene) orders() []string {
	s.t.Helper()
	var all []string
	st := s.status()
	for _, name := range names {
		m := st.Member(name + "/default")
		all = append(all, fmt.Sprintf("%s: order %d, excluded %d, copy %v", name, m.Order.Seq, len(m.Order.Exclusions), m.CloneOf != "" || !m.RolledBack.IsZero()))
	}
	return all
}
