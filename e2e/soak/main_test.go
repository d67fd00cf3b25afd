//go:build e2e

package soak

import (
	"context"
	"flag"
	"log"
	"os"
	"path/filepath"
	"testing"
	"time"

	"guardring/e2e/binaries"
	"guardring/e2e/namespace"
	"guardring/e2e/rig"
	"guardring/e2e/tornet"
)

var (
	lasts = flag.Duration("for", 3*time.Minute, "how long new rounds begin")
	seed  = flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the faults")
)

var (
	network                 *tornet.Network
	echo                    *tornet.Echo
	hostBinary, guestBinary string
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if err := namespace.Enter(); err != nil {
		log.Print(err)
		return 1
	}
	bin, err := os.MkdirTemp("/tmp", "bin-")
	if err != nil {
		log.Print(err)
		return 1
	}
	end := func() {
		rig.StopAll()
		if network != nil {
			network.Stop()
		}
		if echo != nil {
			echo.Close()
		}
		os.RemoveAll(bin)
	}
	defer end()
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	hostBinary, guestBinary = filepath.Join(bin, "guardring"), filepath.Join(bin, "guardring-guest")
	if err := binaries.Build(ctx, map[string]string{hostBinary: "guardring/host-agent", guestBinary: "guardring/guest-agent"}); err != nil {
		log.Print(err)
		return 1
	}
	if network, err = tornet.Start(ctx, tornet.Config{CacheDir: "../../build/tornet-keys", Guards: 19, Progress: func(s string) { log.Print(s) }}); err != nil {
		log.Print(err)
		return 1
	}
	if echo, err = tornet.StartEcho(); err != nil {
		log.Print(err)
		return 1
	}
	rig.OnInterrupt(end)
	return m.Run()
}
