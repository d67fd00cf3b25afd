//go:build e2e

package gateway_test

import (
	"context"
	"log"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"guardring/e2e/binaries"
	"guardring/e2e/namespace"
	"guardring/e2e/rig"
	"guardring/e2e/tornet"
	"guardring/e2e/vmtest"
	"guardring/e2e/vmtest/gateway"
)

// What all scenarios share: the private Tor network, what guests are made of, the binaries under test, and an echo service.
var (
	network                 *tornet.Network
	kit                     *vmtest.Kit
	hostBinary, guestBinary string
	mayhemBinary            string // what a hostile guest runs
	stopwatchBinary         string // what measures
	echo                    *tornet.Echo
	cache                   = "../../../build"
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	if os.Getuid() != 0 {
		log.Print("skipping, guests need addresses on a loopback interface of their own (try: make test, as root)")
		return 0
	}
	// The kernel comes from a package mirror, and behind the next line there is none.
	if err := vmtest.FetchKernel(ctx, filepath.Join(cache, "vm")); err != nil {
		log.Print(err)
		return 1
	}
	if err := namespace.Enter(); err != nil {
		log.Print(err)
		return 1
	}
	end, err := begin(ctx)
	defer end()
	if err != nil {
		log.Print(err)
		return 1
	}
	rig.OnInterrupt(func() {
		rig.StopAll()
		end()
	})
	return m.Run()
}

// begin starts what is shared. end ends it, whatever has been started.
func begin(ctx context.Context) (end func(), err error) {
	bin, err := os.MkdirTemp("/tmp", "bin-")
	end = func() {
		if kit != nil {
			kit.Close()
		}
		if network != nil {
			network.Stop()
		}
		if echo != nil {
			echo.Close()
		}
		os.RemoveAll(bin)
	}
	if err != nil {
		return end, err
	}
	hostBinary, guestBinary = filepath.Join(bin, "guardring"), filepath.Join(bin, "guardring-guest")
	mayhemBinary, stopwatchBinary = filepath.Join(bin, "mayhem"), filepath.Join(bin, "stopwatch")
	err = binaries.Build(ctx, map[string]string{hostBinary: "guardring/host-agent", guestBinary: "guardring/guest-agent",
		mayhemBinary: "guardring/e2e/mayhem", stopwatchBinary: "guardring/e2e/vmtest/stopwatch"})
	if err != nil {
		return end, err
	}
	if kit, err = vmtest.Prepare(ctx, gateway.Kit(filepath.Join(cache, "vm"), log.Printf)); err != nil {
		return end, err
	}
	echo, err = tornet.StartEcho()
	return end, err
}

// startNetwork starts the private Tor network for those scenarios that need it, once.
var startNetwork = sync.OnceValue(func() error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	var err error
	network, err = tornet.Start(ctx, tornet.Config{CacheDir: filepath.Join(cache, "tornet-keys"), Guards: 14, Exits: 2, Routable: true,
		Progress: func(s string) { log.Print(s) }})
	return err
})
