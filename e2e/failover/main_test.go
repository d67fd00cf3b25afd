//go:build e2e

package failover

import (
	"context"
	"flag"
	"log"
	"testing"
	"time"

	"guardring/e2e/rig"
	"guardring/e2e/testmain"
)

var (
	lasts = flag.Duration("for", 10*time.Second, "how long TestLinearizable has faults")
	seed  = flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the faults")
)

var hostBinary, guestBinary string

// together is how many tests run at once: they wait for heartbeats most of the time.
const together = "6"

func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", together); err != nil {
		log.Fatal(err)
	}
	flag.Parse() // Begin reads them; what was set above is the default
	testmain.Main(m, testmain.Setup{
		Programs: map[string]*string{"guardring/host-agent": &hostBinary, "guardring/guest-agent": &guestBinary},
		Begin: func(ctx context.Context, run *testmain.Run) error {
			run.Defer(rig.StopAll)
			return buildPrevious(ctx, run.Dir)
		},
		Limit: 3 * buildLimit,
	})
}
