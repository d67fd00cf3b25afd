package usage

import (
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

// TestOfThisProcess: what this process does shows in its figures.
func TestOfThisProcess(t *testing.T) {
	before := mustOf(t)
	if before.Resident < 1<<20 || before.Peak < before.Resident || before.Threads < 1 || before.Descriptors < 3 {
		t.Errorf("this process: %+v", before)
	}
	f, err := os.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	after := before
	for end := time.Now().Add(time.Minute); after.CPU == before.CPU || after.Sleeps == before.Sleeps; after = mustOf(t) {
		if time.Now().After(end) {
			t.Fatalf("neither processor time nor sleeps: %+v, then %+v", before, after)
		}
		time.Sleep(time.Microsecond)
	}
	if after.Descriptors <= before.Descriptors {
		t.Errorf("a file more is open: %d, then %d", before.Descriptors, after.Descriptors)
	}
	if both, err := Of(os.Getpid(), os.Getpid()); err != nil || both.Threads < 2*before.Threads {
		t.Errorf("twice this process: %+v, %v", both, err)
	}
}

func mustOf(t *testing.T) Usage {
	t.Helper()
	u, err := Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestFamily(t *testing.T) {
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer child.Process.Kill()
	if pids, err := Family(os.Getpid()); err != nil || pids[0] != os.Getpid() || !slices.Contains(pids, child.Process.Pid) {
		t.Errorf("family %v, %v; the child is %d", pids, err, child.Process.Pid)
	}
}

func TestParse(t *testing.T) {
	const stat = "7 (a) (b) S 1 7 7 0 -1 4194560 100 0 0 0 250 51 0 0 20 0 5 0 100 0 0\n"
	if got, err := cpu(stat); err != nil || got != 3010*time.Millisecond {
		t.Errorf("processor time %v, %v", got, err)
	}
	for _, bad := range []string{"", "7 (a) S 1", "7 (a) S 1 7 7 0 -1 4194560 100 0 0 0 x y 0 0"} {
		if got, err := cpu(bad); err == nil {
			t.Errorf("%q has processor time %v", bad, got)
		}
	}
	status := []byte("Name:\ta\nVmRSS:\t  512 kB\nThreads:\t3\nEmpty:\nvoluntary_ctxt_switches:\t9\nnonvoluntary_ctxt_switches:\t4\n")
	for name, want := range map[string]int64{"VmRSS": 512, "Threads": 3, "voluntary_ctxt_switches": 9} {
		if got, err := Field(status, name); err != nil || got != want {
			t.Errorf("%s: %d, %v", name, got, err)
		}
	}
	for _, name := range []string{"Name", "Empty", "Absent"} {
		if got, err := Field(status, name); err == nil {
			t.Errorf("%s: %d", name, got)
		}
	}
}
