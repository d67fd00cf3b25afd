//go:build e2e

// Package device tests the guest agent's ways to its region in real QEMU guests: VFIO with interrupts, polling, and what they must survive.
// The Tor is a script, so that nothing but the device is under test.
package device

import (
	"context"
	"log"
	"path/filepath"
	"testing"

	"guardring/e2e/binaries"
	"guardring/e2e/rig"
	"guardring/e2e/testmain"
	"guardring/e2e/vmtest"
)

// What all tests share: what guests are made of, and the binaries under test.
var (
	kit                     *vmtest.Kit
	hostBinary, guestBinary string
	benchBinary             string // benchmarks of guest-agent/device
	cache                   = "../../../build/vm"
)

func TestMain(m *testing.M) {
	testmain.Main(m, testmain.Setup{
		NeedsRoot:     "guests need a network namespace",
		Fetch:         func(ctx context.Context) error { return vmtest.FetchKernel(ctx, cache) },
		OwnNamespaces: true,
		Programs:      map[string]*string{"guardring/host-agent": &hostBinary, "guardring/guest-agent": &guestBinary},
		Begin:         begin,
	})
}

func begin(ctx context.Context, run *testmain.Run) (err error) {
	benchBinary = filepath.Join(run.Dir, "device.test")
	if err := binaries.BuildTests(ctx, benchBinary, "guardring/guest-agent/device"); err != nil {
		return err
	}
	if kit, err = vmtest.Prepare(ctx, vmtest.Config{CacheDir: cache, Log: log.Printf}); err != nil {
		return err
	}
	run.Defer(func() { kit.Close() })
	run.Defer(rig.StopAll)
	return nil
}
