//go:build e2e

package failover

import (
	"os/exec"
	"strconv"
	"syscall"

	"guardring/e2e/rig"
)

// neighbours are busy on the processor that a starved coordinator has left.
const neighbours = 3

// starve has the victim run only when nobody else wants its processor, and three others want it all the time.
func starve(s *stage) {
	s.t.Helper()
	pid := strconv.Itoa(s.victim.PID())
	s.run("taskset", "-a", "-c", "-p", "0", pid)
	s.run("chrt", "-a", "-i", "-p", "0", pid)
	for range neighbours {
		p, err := s.rig.Start("neighbour", nil, "/usr/bin/taskset", "-c", "0", "/bin/sh", "-c", "while :; do :; done")
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { _ = p.Kill() })
		s.neighbours = append(s.neighbours, p)
	}
	s.await("somebody else acts", func(st rig.Status) bool { return role(st, s.standby) == "acting" })
}

// feed gives the victim its processor back.
func feed(s *stage) {
	s.t.Helper()
	for _, p := range s.neighbours {
		s.signal(p, syscall.SIGKILL)
	}
	s.run("chrt", "-a", "-o", "-p", "0", strconv.Itoa(s.victim.PID()))
}

func (s *stage) run(name string, args ...string) {
	s.t.Helper()
	if out, err := exec.CommandContext(s.t.Context(), name, args...).CombinedOutput(); err != nil {
		s.t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}
