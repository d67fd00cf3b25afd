//go:build e2e

package hostile

import (
	"context"
	"testing"

	"guardring/e2e/rig"
	"guardring/e2e/testmain"
)

var hostBinary, guestBinary, mayhemBinary string

func TestMain(m *testing.M) {
	testmain.Main(m, testmain.Setup{
		Programs: map[string]*string{"guardring/host-agent": &hostBinary, "guardring/guest-agent": &guestBinary, "guardring/e2e/mayhem": &mayhemBinary},
		Begin: func(_ context.Context, run *testmain.Run) error {
			run.Defer(rig.StopAll)
			return makeAskers()
		},
	})
}
