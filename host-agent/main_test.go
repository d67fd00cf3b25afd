package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"guardring": main})
}

// TestScripts drives the command as a user does. Socket paths must be short, so
// each script gets a directory of its own below /tmp as $RUN.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			dir, err := os.MkdirTemp("/tmp", "gr")
			if err != nil {
				return err
			}
			e.Defer(func() { os.RemoveAll(dir) })
			e.Setenv("RUN", dir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"eventually": eventually, "killchild": killChild,
		},
	})
}

// eventually runs a command until its output contains a text: what another
// process does tells us nothing.
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: eventually TEXT command...")
	}
	var out []byte
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		cmd := exec.Command(args[1], args[2:]...)
		for _, key := range []string{"PATH", "RUN", "WORK"} {
			cmd.Env = append(cmd.Env, key+"="+ts.Getenv(key))
		}
		cmd.Dir = ts.Getenv("WORK")
		out, _ = cmd.CombinedOutput()
		if strings.Contains(string(out), args[0]) {
			return
		}
	}
	ts.Fatalf("never %q in:\n%s", args[0], out)
}

// killChild kills the server of a run directory, whose number is in its lock, and
// waits for another one.
func killChild(ts *testscript.TestScript, neg bool, args []string) {
	data, err := os.ReadFile(filepath.Join(args[0], "server.lock"))
	ts.Check(err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	ts.Check(err)
	ts.Check(syscall.Kill(pid, syscall.SIGKILL))
	// The next server writes its own number into the lock.
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if now, _ := os.ReadFile(filepath.Join(args[0], "server.lock")); len(now) > 1 && fmt.Sprintf("%d\n", pid) != string(now) {
			return
		}
	}
	ts.Fatalf("no other server was started")
}
