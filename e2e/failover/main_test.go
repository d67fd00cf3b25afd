//go:build e2e

package failover

import (
	"context"
	"flag"
	"log"
	"os"
	"path/filepath"
	"testing"
	"time"

	"guardring/e2e/binaries"
	"guardring/e2e/rig"
)

var (
	lasts = flag.Duration("for", 10*time.Second, "how long TestLinearizable has faults")
	seed  = flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the faults")
)

var bin, hostBinary, guestBinary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if bin, err = os.MkdirTemp("/tmp", "bin-"); err != nil {
		log.Print(err)
		return 1
	}
	end := func() { rig.StopAll(); os.RemoveAll(bin) }
	defer end()
	hostBinary, guestBinary = filepath.Join(bin, "guardring"), filepath.Join(bin, "guardring-guest")
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	if err := binaries.Build(ctx, map[string]string{hostBinary: "guardring/host-agent", guestBinary: "guardring/guest-agent"}); err != nil {
		log.Print(err)
		return 1
	}
	rig.OnInterrupt(end)
	return m.Run()
}
