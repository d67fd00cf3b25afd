//go:build killpoints

package killpoint

import (
	"os"
	"runtime"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

var stopped atomic.Bool

// Here kills the process with SIGKILL if GUARDRING_KILL_AT names this step, and
// stops it, once, if GUARDRING_STOP_AT does.
func Here(step string) {
	switch step {
	case os.Getenv("GUARDRING_KILL_AT"):
		// Nothing that follows may run, not even another goroutine's step.
		if err := unix.Kill(os.Getpid(), unix.SIGKILL); err != nil {
			panic(err)
		}
		select {}
	case os.Getenv("GUARDRING_STOP_AT"):
		if stopped.Swap(true) {
			return
		}
		// To this thread: another one would let it run on for a moment.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGSTOP); err != nil {
			panic(err)
		}
	}
}
