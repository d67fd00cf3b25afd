package ledger

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain also is the child of the crash tests: it works on the directory
// GUARDRING_LEDGER and kills itself at system call number GUARDRING_KILL.
func TestMain(m *testing.M) {
	if dir := os.Getenv("GUARDRING_LEDGER"); dir != "" {
		child(dir)
		return
	}
	os.Exit(m.Run())
}

// child claims the next term, restores, and does three steps and a compaction;
// each step's number goes to stdout once it is reported durable.
func child(path string) {
	n, _ := strconv.Atoi(os.Getenv("GUARDRING_KILL"))
	if limit := os.Getenv("GUARDRING_FSIZE"); limit != "" {
		x, _ := strconv.ParseUint(limit, 10, 64)
		unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: x, Max: x})
	}
	point = func(name string) {
		if n--; n == 0 {
			fmt.Println("at", name)
			unix.Kill(os.Getpid(), unix.SIGKILL)
			select {} // the signal is on its way
		}
	}
	check := func(err error) {
		if err != nil {
			fmt.Println("error", err)
			os.Exit(3)
		}
	}
	d, err := Open(path, start)
	check(err)
	high, err := d.Highest()
	check(err)
	check(d.Claim(high + 1))
	h, err := d.Read(high + 1)
	check(err)
	last := lastStep(h.Lines)
	l, err := d.Create(high+1, h, step(last))
	check(err)
	for i := range 3 {
		last++
		if i == 1 {
			check(l.Compact(h, step(last)))
		} else {
			check(l.Append(step(last)))
		}
		fmt.Println("durable", last)
	}
	check(d.Sweep(h.Term))
	fmt.Println("end")
}

// TestKilledAnywhere kills a coordinator before each of its system calls: in a
// row on one directory, and each time on a fresh one. Nothing that was reported
// durable is ever lost, and the next coordinator can always start.
func TestKilledAnywhere(t *testing.T) {
	points := map[string]bool{}
	path, durable := private(t), 0
	for n := 1; !killAt(t, path, n, &durable, points); n++ {
	}
	for n := 1; ; n++ {
		path, durable := private(t), 0
		if killAt(t, path, n, &durable, points) {
			break
		}
		if !killAt(t, path, 1000, &durable, points) {
			t.Fatalf("no start after a kill at call %d", n)
		}
	}
	for _, name := range []string{"link epoch", "create term", "sync term", "create file", "write file", "sync file", "rename ledger", "sync directory", "write line", "sync line"} {
		if !points[name] {
			t.Errorf("never killed at %q", name)
		}
	}
}

// killAt runs the child until its nth system call and checks what is left
// against the steps that were durable before; it reports whether the child came
// to its end.
func killAt(t *testing.T, path string, n int, durable *int, points map[string]bool) (done bool) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "GUARDRING_LEDGER="+path, "GUARDRING_KILL="+strconv.Itoa(n))
	out, _ := cmd.Output() // killed, most times
	for line := range strings.Lines(string(out)) {
		what, arg, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch what {
		case "durable":
			*durable, _ = strconv.Atoi(arg)
		case "at":
			points[arg] = true
		case "error":
			t.Fatalf("killed before: %s", arg)
		case "end":
			done = true
		}
	}
	d, err := Open(path, start)
	if err != nil {
		t.Fatalf("killed at call %d: %v", n, err)
	}
	defer d.Close()
	high, _ := d.Highest()
	h, err := d.Read(high + 1)
	if err != nil {
		t.Fatalf("killed at call %d: %v", n, err)
	}
	// One step may be on disk that was not reported.
	if got := lastStep(h.Lines); got != *durable && got != *durable+1 {
		t.Fatalf("killed at call %d: %d steps on disk, %d reported", n, got, *durable)
	}
	*durable = lastStep(h.Lines)
	return done
}
