package simulation

import (
	"time"
)

// meter adds up for how long one observer of a kind sees two gateways.
type meter struct {
	net      *population
	gateways []*gateway
	since    time.Duration // what follows was so from here on
	sees     [observers]bool
	total    [observers]time.Duration
	running  int
	hours    time.Duration // of all gateways together
	used     [observers]map[int]int
}

// advance counts the time up to now.
func (m *meter) advance(now time.Duration) {
	d := now - m.since
	m.since = now
	for o := range m.total {
		if m.sees[o] {
			m.total[o] += d
		}
	}
	m.hours += d * time.Duration(m.running)
}

// look notes who sees whom from now on.
func (m *meter) look() {
	m.running = 0
	for o := range m.used {
		if m.used[o] == nil {
			m.used[o] = map[int]int{}
		}
		clear(m.used[o])
		m.sees[o] = false
	}
	for n, g := range m.gateways {
		if g == nil || !g.on {
			continue
		}
		m.running++
		for i := range g.tor.sample {
			if s := &g.tor.sample[i]; s.inUse {
				for o := range m.used {
					k := m.net.shape.class(Observer(o), s.id.relay)
					if other, ok := m.used[o][k]; ok && other != n {
						m.sees[o] = true
					}
					m.used[o][k] = n
				}
			}
		}
	}
}
