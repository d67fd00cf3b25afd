//go:build killpoints

package killpoint

import (
	"os"

	"golang.org/x/sys/unix"
)

// Here kills the process with SIGKILL if GUARDRING_KILL_AT names this step.
func Here(step string) {
	if os.Getenv("GUARDRING_KILL_AT") == step {
		// Nothing that follows may run, not even another goroutine's step.
		if err := unix.Kill(os.Getpid(), unix.SIGKILL); err != nil {
			panic(err)
		}
		select {}
	}
}
