//go:build e2e

package gateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"guardring/e2e/impostor"
	"guardring/e2e/rig"
	"guardring/e2e/vmtest"
	"guardring/e2e/vmtest/gateway"
)

// How often each way is measured. The coordinator writes its ledger 64 times at once, and then once a second: that is not to be measured.
const (
	bells  = 200
	orders = 50
)

// TestFigures measures, in one guest and one run: the bare round trip of a doorbell, from a publication to the order that is visible in
// the guest, the round trip of a virtio-serial port; and how long a machine takes until its agent has its region. docs/PERFORMANCE.md has
// the figures. On a machine that others use, only gross failure fails the test.
func TestFigures(t *testing.T) {
	host, err := gateway.NewHost(hostBinary, guestBinary, "disjoint", "one", "two")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the coordinator says:\n%s", host.LogEnd("host"))
		}
		if err := host.Stop(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	onTmpfs(t, host.LedgerDir())
	if err := host.StartServer(ctx); err != nil {
		t.Fatal(err)
	}
	echo := filepath.Join(t.TempDir(), "echo")
	go echoSerial(t, echo)
	began := time.Now()
	g, err := kit.Boot(ctx, vmtest.Options{Name: "figures", Region: host.Region("one"), IOMMU: true, MemoryMiB: 224,
		Files: []vmtest.File{
			{Path: "/usr/bin/guardring-guest", Source: guestBinary, Mode: 0o755},
			{Path: "/usr/bin/stopwatch", Source: stopwatchBinary, Mode: 0o755},
			{Path: "/etc/guardring/guest.yaml", Data: []byte("user: debian-tor\n")},
			{Path: "/etc/tor/torrc"},
			{Path: "/run/guardring-guest", Folder: true},
		},
		QEMU: []string{"-chardev", "socket,id=echo,server=on,wait=off,path=" + echo, "-device", "virtserialport,chardev=echo,name=echo"}})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	run := func(argv ...string) string {
		t.Helper()
		out, err := g.Run(ctx, argv...)
		if err != nil {
			t.Fatalf("%v; console: %s", err, last(g.Console(), 1000))
		}
		return out
	}
	up := time.Since(began)
	run("sh", "-c", "mkdir -p /run/guardring-guest /var/lib/guardring-guest; chown debian-tor /run/guardring-guest")
	run("guardring-guest", "prepare")
	pid := strings.TrimSpace(run("sh", "-c", "su -s /bin/sh debian-tor -c 'exec guardring-guest run' >/run/agent.log 2>&1 & echo $!"))
	for !strings.Contains(run("cat", "/run/agent.log"), "guest seat taken") {
		if ctx.Err() != nil {
			t.Fatalf("the agent has no region: %s", run("cat", "/run/agent.log"))
		}
	}
	t.Logf("figures, %s: from QEMU's start until the guest takes commands %.1f s, until its agent has the region %.1f s",
		kit.Accelerator(ctx), up.Seconds(), time.Since(began).Seconds())
	run("sh", "-c", "kill "+pid+"; while kill -0 "+pid+" 2>/dev/null; do sleep 0.1; done")

	mirror, err := host.Start("mirror", nil, stopwatchBinary, "mirror", filepath.Join(host.RunDir(), "host", "one.sock"))
	if err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(host.Log("mirror"), "mirroring") {
		if !mirror.Running() {
			t.Fatal(host.Log("mirror"))
		}
	}
	bell := times(t, run("stopwatch", "bell", strconv.Itoa(bells)))
	if err := mirror.Kill(); err != nil {
		t.Fatal(err)
	}
	serial := times(t, run("stopwatch", "serial", "echo", strconv.Itoa(bells)))

	// Another gateway, without a machine, holds the guards that ours publishes one after the other.
	other, err := impostor.Take(host.Region("two"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	var guards []impostor.Guard
	argv := []string{"stopwatch", "order", strconv.Itoa(orders)}
	for n := range 3 {
		fp, addr := strings.Repeat(fmt.Sprint(n+1), 40), fmt.Sprintf("198.18.%d.1:9001", n)
		guards = append(guards, impostor.Guard{Fingerprint: fp, Addr: addr, Primary: true, InUse: true})
		argv = append(argv, fp+"@"+addr)
	}
	if err := other.Publish(guards...); err != nil {
		t.Fatal(err)
	}
	if err := host.StartCoordinator(ctx); err != nil {
		t.Fatal(err)
	}
	for st := (rig.Status{}); !st.Holds("two/default", guards[2].Fingerprint); {
		if st, _, err = host.Status(ctx); err != nil {
			t.Fatal(err)
		}
	}
	order := times(t, run(argv...))
	show := times(t, run(slices.Concat([]string{"stopwatch", "show"}, argv[2:])...))

	t.Logf("figures: doorbell round trip %v; publication to order %v, %.2f times the round trip (target 2), of which the guest's own publishing %v; virtio-serial round trip %v",
		bell, order, float64(order.median)/float64(bell.median), show, serial)
	if order.median > 10*bell.median {
		t.Error("an order takes more than ten doorbell round trips")
	}
	if bell.median > 5*serial.median {
		t.Error("a doorbell takes more than five virtio-serial round trips")
	}
}

// onTmpfs makes a folder and mounts a memory file system on it, in our own mount
// namespace, for as long as the test runs.
func onTmpfs(t *testing.T, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("none", dir, "tmpfs", 0, "mode=0700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// echoSerial returns what the guest writes to its port.
func echoSerial(t *testing.T, socket string) {
	for {
		c, err := net.Dial("unix", socket)
		if err == nil {
			defer c.Close()
			_, _ = io.Copy(c, bufio.NewReaderSize(c, 1<<10)) // it ends with the guest
			return
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-t.Context().Done():
			return
		}
	}
}

// spread is what is told of many times.
type spread struct{ least, median, p99 time.Duration }

func (s spread) String() string {
	us := func(d time.Duration) string { return strconv.FormatInt(d.Microseconds(), 10) }
	return us(s.median) + " µs (least " + us(s.least) + ", p99 " + us(s.p99) + ")"
}

func times(t *testing.T, out string) spread {
	t.Helper()
	var d []time.Duration
	if err := json.Unmarshal([]byte(out), &d); err != nil || len(d) == 0 {
		t.Fatalf("stopwatch says %q: %v", out, err)
	}
	slices.Sort(d)
	return spread{d[0], d[len(d)/2], d[len(d)*99/100]}
}
