//go:build e2e

package soak

import (
	"context"
	"flag"
	"log"
	"testing"
	"time"

	"guardring/e2e/rig"
	"guardring/e2e/testmain"
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

func TestMain(m *testing.M) {
	testmain.Main(m, testmain.Setup{
		OwnNamespaces: true,
		Programs:      map[string]*string{"guardring/host-agent": &hostBinary, "guardring/guest-agent": &guestBinary},
		Begin:         begin,
	})
}

func begin(ctx context.Context, run *testmain.Run) (err error) {
	if network, err = tornet.Start(ctx, tornet.Config{CacheDir: "../../build/tornet-keys", Guards: 19, Progress: func(s string) { log.Print(s) }}); err != nil {
		return err
	}
	run.Defer(func() { network.Stop() })
	if echo, err = tornet.StartEcho(); err != nil {
		return err
	}
	run.Defer(func() { echo.Close() })
	run.Defer(rig.StopAll)
	return nil
}
