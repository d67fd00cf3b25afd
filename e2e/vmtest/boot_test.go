//go:build e2e

package vmtest

import (
	"context"
	"errors"
	"log"
	"strings"
	"testing"
	"time"

	"guardring/e2e/testmain"
)

// kit is shared by all tests of the package.
var kit *Kit

func TestMain(m *testing.M) {
	testmain.Main(m, testmain.Setup{Begin: func(ctx context.Context, run *testmain.Run) (err error) {
		kit, err = Prepare(ctx, Config{CacheDir: "../../build/vm", Modules: []string{"virtio_scsi", "sr_mod", "isofs"}, Log: log.Printf})
		if err == nil {
			run.Defer(func() { kit.Close() })
		}
		return err
	}})
}

func boot(t *testing.T, o Options) *Guest {
	t.Helper()
	g, err := kit.Boot(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func (g *Guest) must(t *testing.T, argv ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out, err := g.Run(ctx, argv...)
	if err != nil {
		t.Fatalf("%v\nconsole: %s", err, tail(g.Console()))
	}
	return strings.TrimSpace(out)
}

func TestGuestLives(t *testing.T) {
	g := boot(t, Options{Name: "lives", IOMMU: true, Files: []File{{Path: "/etc/greeting", Data: []byte("hello\n")}}})
	t.Logf("ready after %v", g.Ready())
	if got := g.must(t, "cat", "/etc/greeting"); got != "hello" {
		t.Errorf("the guest's own file reads %q", got)
	}
	var exit *ExitError
	if _, err := g.Run(t.Context(), "sh", "-c", "echo no >&2; exit 3"); !errors.As(err, &exit) || exit.Code != 3 || exit.Stderr != "no\n" {
		t.Errorf("a command that fails: %v", err)
	}
	if _, err := g.Run(t.Context(), "no-such-program"); err == nil || errors.As(err, &exit) {
		t.Errorf("a program that is not there: %v", err)
	}
	g.must(t, "modprobe", "vfio-pci")
	if got := g.must(t, "sh", "-c", "ls /sys/kernel/iommu_groups | wc -l"); got == "0" {
		t.Error("no IOMMU groups")
	}

	// A command that outlives its deadline is ended in the guest.
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	_, err := g.Run(ctx, "sleep", "4711")
	cancel()
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a command without end: %v", err)
	}
	g.must(t, "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do grep -lz '^471[1]' /proc/[0-9]*/cmdline || exit 0; sleep 0.2; done; exit 1")

	if err := g.WriteFile(t.Context(), "/run/new/file", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	first := g.must(t, "cat", "/proc/sys/kernel/random/boot_id")
	if err := g.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if second := g.must(t, "cat", "/proc/sys/kernel/random/boot_id"); second == first {
		t.Error("reset, and the same boot")
	}
	if _, err := g.Run(t.Context(), "test", "-e", "/run/new/file"); !errors.As(err, &exit) {
		t.Errorf("a file in memory is still there after a reset: %v", err)
	}

	pid := g.PID()
	if err := g.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Run(t.Context(), "true"); err == nil {
		t.Error("a dead guest answers")
	}
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if g.must(t, "hostname"); g.PID() == pid {
		t.Error("the same QEMU")
	}
}

func TestPausedGuestStandsStill(t *testing.T) {
	g := boot(t, Options{Name: "paused"})
	uptime := func() string { return g.must(t, "cut", "-d.", "-f1", "/proc/uptime") }
	before := uptime()
	if err := g.Pause(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if _, err := g.Run(ctx, "true"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a paused guest: %v", err)
	}
	if err := g.Resume(); err != nil {
		t.Fatal(err)
	}
	t.Logf("uptime %s s before three seconds of pause, %s s afterwards", before, uptime())
}
