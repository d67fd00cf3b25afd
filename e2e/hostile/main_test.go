//go:build e2e

package hostile

import (
	"context"
	"log"
	"os"
	"path/filepath"
	"testing"
	"time"

	"guardring/e2e/binaries"
	"guardring/e2e/rig"
)

var hostBinary, guestBinary, mayhemBinary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	bin, err := os.MkdirTemp("/tmp", "bin-")
	if err != nil {
		log.Print(err)
		return 1
	}
	end := func() { rig.StopAll(); os.RemoveAll(bin) }
	defer end()
	hostBinary, guestBinary, mayhemBinary = filepath.Join(bin, "guardring"), filepath.Join(bin, "guardring-guest"), filepath.Join(bin, "mayhem")
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	err = binaries.Build(ctx, map[string]string{hostBinary: "guardring/host-agent", guestBinary: "guardring/guest-agent", mayhemBinary: "guardring/e2e/mayhem"})
	if err != nil {
		log.Print(err)
		return 1
	}
	rig.OnInterrupt(end)
	return m.Run()
}
