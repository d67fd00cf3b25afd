//go:build e2e

package gateway_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"guardring/e2e/libvirtd"
	"guardring/e2e/vmtest"
	"guardring/e2e/vmtest/gateway"
)

// TestThroughLibvirt is the main job as an administrator has it done: two gateways by `guardring gateway create`, a third by `attach` from
// a domain that was there, after Whonix's; all three real guests in domains of a real libvirtd. Afterwards that domain is what it was.
func TestThroughLibvirt(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "libvirt-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	daemon, err := libvirtd.Start(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(daemon.Close)
	host, err := gateway.NewHost(hostBinary, guestBinary, "disjoint")
	if err != nil {
		t.Fatal(err)
	}
	host.Options = fmt.Sprintf("gateways-dir: %s/gateways.d\ndomains-dir: %[1]s/domains\nlibvirt-socket: %s\nlibvirt-watch: %s\n", dir, daemon.Socket(), daemon.ReadOnlySocket())
	if err := host.WriteHostConfig(); err != nil {
		t.Fatal(err)
	}
	guardring := func(ctx context.Context, args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, hostBinary, append(args, "--config", host.ConfigFile())...).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("guardring %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return string(out), err
	}
	virsh := func(args ...string) string {
		t.Helper()
		out, err := daemon.Virsh("qemu:///system", args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	var before string
	created := setting{func(c *gateway.Config) {
		c.Hypervisor = &gateway.Libvirt{Daemon: daemon, Define: func(ctx context.Context, m vmtest.Machine, emulator string) error {
			_, err := guardring(ctx, gateway.CreateArguments(m, emulator)...)
			return err
		}}
	}, "vfio"}
	attached := setting{func(c *gateway.Config) {
		c.Hypervisor = &gateway.Libvirt{Daemon: daemon, Define: func(ctx context.Context, m vmtest.Machine, emulator string) error {
			file := filepath.Join(dir, "foreign.xml")
			if err := os.WriteFile(file, []byte(gateway.ForeignDocument(m, emulator)), 0o600); err != nil {
				return err
			}
			_, err := daemon.Virsh("qemu:///system", "define", file)
			if err == nil {
				before, err = daemon.Virsh("qemu:///system", "dumpxml", "--inactive", m.Name)
			}
			if err == nil {
				_, err = guardring(ctx, "gateway", "attach", m.Name)
			}
			return err
		}}
	}, "vfio"}
	all := map[string]setting{"updates": created, "browsing": created, "apps": attached}
	s := openOn(t, all, host)
	s.work(all)
	rung := 0 // who is told nothing is not rung for
	for _, name := range names {
		n := s.interrupts(name)
		t.Logf("%s: %d interrupts from the device", name, n)
		rung += n
	}
	if rung == 0 {
		t.Error("no doorbell was used")
	}
	list, err := guardring(s.ctx(20*time.Second), "gateway", "list")
	if err != nil || strings.Count(list, "connected") != 3 || strings.Count(list, "doorbell") != 3 {
		t.Errorf("%v: %s", err, list)
	}
	t.Logf("guardring gateway list:\n%s", list)
	for _, name := range names {
		virsh("destroy", name)
	}
	for _, args := range [][]string{{"gateway", "detach", "apps"}, {"gateway", "remove", "updates"}, {"gateway", "remove", "browsing"}} {
		if _, err := guardring(s.ctx(20*time.Second), args...); err != nil {
			t.Error(err)
		}
	}
	if after := virsh("dumpxml", "--inactive", "apps"); after != before {
		t.Errorf("the domain that was attached is not as before:\n%s\nbut:\n%s", before, after)
	}
	if left := virsh("list", "--all", "--name"); strings.TrimSpace(left) != "apps" {
		t.Errorf("libvirt has %q", left)
	}
}
