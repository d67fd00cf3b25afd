//go:build e2e

package device

import (
	"path/filepath"
	"testing"
	"time"

	"guardring/shmproto/ivshmem"
)

// The peers of a gateway's region: docs/LAYOUT.md.
const (
	guestSeat = 2
	vectors   = 2
	changed   = 0 // the vector that means "something changed"
)

// takeSeat takes the host seat that the coordinator does not have, until the test ends or the seat is closed.
func (g *gateway) takeSeat() *ivshmem.Client {
	g.t.Helper()
	c, err := ivshmem.Dial(filepath.Join(g.rig.RunDir(), "host", "one.sock"), vectors, 5*time.Second)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { c.Close() })
	if c.ID == guestSeat {
		g.t.Fatal("the host's socket gave the guest seat")
	}
	return c
}

// ringsBothWays checks that the running agent is rung by an interrupt, and rings: it publishes when it starts anew. It returns the new
// agent's process ID.
func (g *gateway) ringsBothWays(when string, pid int) int {
	g.t.Helper()
	seat := g.takeSeat()
	defer seat.Close()
	before := g.interrupts()
	if err := seat.Ring(guestSeat, changed); err != nil {
		g.t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); g.interrupts() == before; {
		if time.Now().After(end) {
			g.t.Fatalf("%s: rung, and no interrupt comes", when)
		}
	}
	if _, err := seat.Interrupt(changed).Drain(); err != nil {
		g.t.Fatal(err)
	}
	g.kill(pid)
	pid = g.start()
	rung(g.t, when, seat)
	return pid
}

func rung(t *testing.T, when string, seat *ivshmem.Client) {
	t.Helper()
	if err := seat.Interrupt(changed).SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := seat.Interrupt(changed).Wait(); err != nil {
		t.Fatalf("%s: the agent publishes, and does not ring: %v", when, err)
	}
}
