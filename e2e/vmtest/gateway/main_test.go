//go:build e2e

package gateway_test

import (
	"context"
	"log"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"guardring/e2e/rig"
	"guardring/e2e/testmain"
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

func TestMain(m *testing.M) {
	testmain.Main(m, testmain.Setup{
		NeedsRoot:     "guests need addresses on a loopback interface of their own",
		Fetch:         func(ctx context.Context) error { return vmtest.FetchKernel(ctx, filepath.Join(cache, "vm")) },
		OwnNamespaces: true,
		Programs: map[string]*string{"guardring/host-agent": &hostBinary, "guardring/guest-agent": &guestBinary,
			"guardring/e2e/mayhem": &mayhemBinary, "guardring/e2e/vmtest/stopwatch": &stopwatchBinary},
		Begin: begin,
	})
}

func begin(ctx context.Context, run *testmain.Run) (err error) {
	run.Defer(func() {
		if network != nil {
			network.Stop()
		}
	})
	if kit, err = vmtest.Prepare(ctx, gateway.Kit(filepath.Join(cache, "vm"), log.Printf)); err != nil {
		return err
	}
	run.Defer(func() { kit.Close() })
	if echo, err = tornet.StartEcho(); err != nil {
		return err
	}
	run.Defer(func() { echo.Close() })
	run.Defer(rig.StopAll)
	return nil
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
