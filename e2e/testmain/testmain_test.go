package testmain

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain also is a run that a test interrupts: it says what it does on standard output.
func TestMain(m *testing.M) {
	where := os.Getenv("GUARDRING_TEST_INTERRUPT")
	if where == "" {
		os.Exit(m.Run())
	}
	wait := func(at string, until <-chan struct{}) {
		if at == where {
			fmt.Println("waiting")
			<-until
		}
	}
	os.Exit(Setup{Begin: func(ctx context.Context, r *Run) error {
		fmt.Println("dir", r.Dir)
		r.Defer(func() { fmt.Println("first ended") })
		wait("begin", ctx.Done())
		r.Defer(func() { fmt.Println("last ended") })
		return ctx.Err()
	}}.run(func() int {
		wait("tests", nil)
		return 0
	}))
}

// TestInterrupted: whatever a run was at, what it has made is ended in order, and its folder is gone.
func TestInterrupted(t *testing.T) {
	for _, where := range []string{"begin", "tests"} {
		t.Run(where, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0])
			cmd.Env = append(os.Environ(), "GUARDRING_TEST_INTERRUPT="+where)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var dir string
			var said []string
			for lines := bufio.NewScanner(out); lines.Scan(); {
				if path, ok := strings.CutPrefix(lines.Text(), "dir "); ok {
					dir = path
					continue
				}
				if said = append(said, lines.Text()); lines.Text() == "waiting" {
					if _, err := os.Stat(dir); err != nil {
						t.Errorf("the folder of a run: %v", err)
					}
					if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
						t.Error(err)
					}
				}
			}
			if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 1 {
				t.Errorf("ended with %v, want exit code 1", err)
			}
			if got := strings.Join(said, ", "); got != "waiting, last ended, first ended" {
				t.Errorf("it said %q", got)
			}
			if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the folder is left: %v", err)
			}
		})
	}
}

// TestAFaultRunsNoTest: what was made before it is ended all the same.
func TestAFaultRunsNoTest(t *testing.T) {
	ended := false
	code := Setup{Begin: func(_ context.Context, r *Run) error {
		r.Defer(func() { ended = true })
		return errors.New("a fault that the test makes")
	}}.run(func() int {
		t.Error("tests ran")
		return 0
	})
	if code != 1 || !ended {
		t.Errorf("code %d, ended %v", code, ended)
	}
}
