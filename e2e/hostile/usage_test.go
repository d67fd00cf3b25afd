//go:build e2e

package hostile

import (
	"strings"

	"guardring/e2e/usage"
)

// used is what the host agents have used, or use, together.
type used struct {
	usage.Usage
	log int64 // lines
}

// use sums up the processes of the host.
func (s *scene) use() used {
	s.t.Helper()
	pids, err := usage.Family(s.server.PID())
	if err != nil {
		s.t.Fatal(err)
	}
	if len(pids) < 3 {
		s.t.Fatalf("guardring run has not started server and coordinators: %v", pids)
	}
	u, err := usage.Of(pids...)
	if err != nil {
		s.t.Fatal(err)
	}
	return used{Usage: u, log: int64(strings.Count(s.rig.Log("host"), "\n"))}
}
