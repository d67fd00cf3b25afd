//go:build e2e

// Package device tests the guest agent's ways to its region in real QEMU guests: VFIO with interrupts, polling, and what they must survive.
// The Tor is a script, so that nothing but the device is under test.
package device

import (
	"context"
	"log"
	"os"
	"path/filepath"
	"testing"
	"time"

	"guardring/e2e/binaries"
	"guardring/e2e/namespace"
	"guardring/e2e/rig"
	"guardring/e2e/vmtest"
)

// What all tests share: what guests are made of, and the binaries under test.
var (
	kit                     *vmtest.Kit
	hostBinary, guestBinary string
	benchBinary             string // benchmarks of guest-agent/device
	cache                   = "../../../build/vm"
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	if os.Getuid() != 0 {
		log.Print("skipping, guests need a network namespace (try: make test, as root)")
		return 0
	}
	// The kernel comes from a package mirror, and behind the next line there is none.
	if err := vmtest.FetchKernel(ctx, cache); err != nil {
		log.Print(err)
		return 1
	}
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
		if kit != nil {
			kit.Close()
		}
		os.RemoveAll(bin)
	}
	defer end()
	if err := prepare(ctx, bin); err != nil {
		log.Print(err)
		return 1
	}
	rig.OnInterrupt(end)
	return m.Run()
}

func prepare(ctx context.Context, bin string) error {
	hostBinary, guestBinary, benchBinary = filepath.Join(bin, "guardring"), filepath.Join(bin, "guardring-guest"), filepath.Join(bin, "device.test")
	if err := binaries.Build(ctx, map[string]string{hostBinary: "guardring/host-agent", guestBinary: "guardring/guest-agent"}); err != nil {
		return err
	}
	if err := binaries.BuildTests(ctx, benchBinary, "guardring/guest-agent/device"); err != nil {
		return err
	}
	var err error
	kit, err = vmtest.Prepare(ctx, vmtest.Config{CacheDir: cache, Log: log.Printf})
	return err
}
