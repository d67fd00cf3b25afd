//go:build e2e

package hostile

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// usage is what the host agents have used, or use, together.
type usage struct {
	cpu         time.Duration
	sleeps      int64 // how often threads have waited: what they are woken from
	resident    int64 // bytes
	descriptors int
	log         int64 // lines
}

// use sums up the processes of the host.
func (s *scene) use() usage {
	s.t.Helper()
	var u usage
	for _, pid := range family(s.t, s.server.PID()) {
		proc := fmt.Sprintf("/proc/%d", pid)
		stat := read(s.t, proc+"/stat")
		f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
		var user, system int64
		if _, err := fmt.Sscan(f[11]+" "+f[12], &user, &system); err != nil { // fields 14 and 15 of proc(5)
			s.t.Fatal(err)
		}
		u.cpu += time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
		u.resident += field(s.t, proc+"/status", "VmRSS") << 10
		tasks, err := filepath.Glob(proc + "/task/*/status")
		if err != nil {
			s.t.Fatal(err)
		}
		for _, task := range tasks {
			u.sleeps += field(s.t, task, "voluntary_ctxt_switches")
		}
		open, err := os.ReadDir(proc + "/fd")
		if err != nil {
			s.t.Fatal(err)
		}
		u.descriptors += len(open)
	}
	u.log = int64(strings.Count(read(s.t, s.rig.LogFile("host")), "\n"))
	return u
}

// family is a process with its children, whichever of its threads has started them.
func family(t *testing.T, pid int) []int {
	t.Helper()
	pids := []int{pid}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range tasks {
		for _, word := range strings.Fields(read(t, file)) {
			child, err := strconv.Atoi(word)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, child)
		}
	}
	if len(pids) < 3 {
		t.Fatalf("guardring run has not started server and coordinators: %v", pids)
	}
	return pids
}

// field is a number of a file like /proc/PID/status; 0 if the thread has ended meanwhile.
func field(t *testing.T, file, name string) int64 {
	t.Helper()
	b, err := os.ReadFile(file)
	if os.IsNotExist(err) || err != nil && strings.Contains(err.Error(), "no such process") {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	var n int64
	_, after, found := strings.Cut("\n"+string(b), "\n"+name+":")
	if _, err := fmt.Sscan(after, &n); !found || err != nil {
		t.Fatalf("%s: no %s: %v", file, name, err)
	}
	return n
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
