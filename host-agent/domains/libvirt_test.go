//go:build e2e

package domains

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"guardring/e2e/libvirtd"
)

const testURI = "test:///default" // libvirt's own make-believe driver, in a real libvirtd

// startDaemon runs a libvirtd and keeps its make-believe driver's state.
func startDaemon(t *testing.T) *libvirtd.Daemon {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "domains-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	d, err := libvirtd.Start(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	keep(t, d)
	return d
}

// keep holds a connection: the driver forgets all when the last one is closed.
func keep(t *testing.T, d *libvirtd.Daemon) {
	t.Helper()
	c, err := Connect(context.Background(), Address{Socket: d.Socket(), URI: testURI})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if _, err := c.Domains(); err != nil {
		t.Fatal(err)
	}
}

func (s Seen) text() string {
	return strings.Join([]string{s.Gateway, string(s.State), s.Generation}, " ")
}

// logLines counts what is said.
type logLines struct{ lines chan string }

func (l logLines) Write(p []byte) (int, error) {
	l.lines <- string(p)
	return len(p), nil
}

const (
	uuidA = "0b4cd3c2-6a5e-4f0e-9c5e-3c0a9d1f7a11"
	uuidB = "0b4cd3c2-6a5e-4f0e-9c5e-3c0a9d1f7a12"
	gen1  = "11111111-6a5e-4f0e-9c5e-3c0a9d1f7a11"
	gen2  = "22222222-6a5e-4f0e-9c5e-3c0a9d1f7a11"
)

func testDomain(name, uuid, generation string) string {
	return "<domain type='test'><name>" + name + "</name><uuid>" + uuid + "</uuid><genid>" + generation +
		"</genid><memory unit='MiB'>64</memory><os><type>hvm</type></os></domain>"
}

// TestWatch: what happens to domains is told, by the read-only socket alone, also
// after libvirtd was away; that is said once.
func TestWatch(t *testing.T) {
	d := startDaemon(t)
	c, err := Connect(t.Context(), Address{Socket: d.Socket(), URI: testURI})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Define(testDomain("a", uuidA, gen1)); err != nil {
		t.Fatal(err)
	}
	told := make(chan Seen, 64)
	said := logLines{make(chan string, 64)}
	gateways := make(chan []Known, 1)
	gateways <- []Known{{Name: "none"}, {Name: "web", UUID: uuidA}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		Watch{Address: Address{Socket: d.ReadOnlySocket(), URI: testURI}, Period: 100 * time.Millisecond, Log: slog.New(slog.NewTextHandler(said, nil)),
			Gateways: func() []Known { all := <-gateways; gateways <- all; return all }}.Run(ctx, func(s Seen) { told <- s })
	}()
	want := func(texts ...string) {
		t.Helper()
		for _, text := range texts {
			select {
			case s := <-told:
				if s.text() != text {
					t.Fatalf("told %q, want %q", s.text(), text)
				}
			case <-time.After(30 * time.Second):
				t.Fatalf("%q is not told", text)
			}
		}
	}
	want("web off "+gen1, "  ")
	a, ok, err := c.Find(uuidA)
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	if err := c.Start(a); err != nil {
		t.Fatal(err)
	}
	want("web running " + gen1)
	if err := c.Define(testDomain("a", uuidA, gen2)); err != nil { // counts when it is off
		t.Fatal(err)
	}
	virsh := func(args ...string) {
		t.Helper()
		if _, err := d.Virsh(testURI, args...); err != nil {
			t.Fatal(err)
		}
	}
	virsh("suspend", "a")
	want("web paused " + gen1)
	virsh("destroy", "a")
	want("web off " + gen2)

	// A gateway that is new, in a domain that libvirt forgets when it ends.
	<-gateways
	gateways <- []Known{{Name: "web", UUID: uuidA}, {Name: "apps", UUID: uuidB}}
	want("apps unknown ")
	file := t.TempDir() + "/b.xml"
	if err := os.WriteFile(file, []byte(testDomain("b", uuidB, gen1)), 0o600); err != nil {
		t.Fatal(err)
	}
	virsh("create", file)
	want("apps running " + gen1)
	virsh("destroy", "b")
	want("apps off ")

	if err := d.StopDaemon(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	want("web unknown "+gen2, "apps unknown ")
	time.Sleep(time.Second) // several attempts, for which there is no event
	if err := d.StartDaemon(); err != nil {
		t.Fatal(err)
	}
	for s := range told { // the driver has forgotten its domains; those of QEMU would be back
		if s.text() == "apps off " { // it lived once
			break
		}
	}
	cancel()
	<-ended
	close(said.lines)
	warnings := 0
	for line := range said.lines {
		if strings.Contains(line, "level=WARN") {
			warnings++
		}
	}
	if warnings != 1 {
		t.Errorf("libvirt's absence was said %d times", warnings)
	}
}

// TestConnect names what is wrong.
func TestConnect(t *testing.T) {
	if _, err := Connect(t.Context(), Address{Socket: t.TempDir() + "/none", URI: testURI}); !errors.Is(err, ErrAbsent) {
		t.Error(err)
	}
	d := startDaemon(t)
	_, err := Connect(t.Context(), Address{Socket: d.Socket(), URI: "nonsense:///x"})
	if err == nil || !strings.Contains(err.Error(), "connect to nonsense") {
		t.Error(err)
	}
	c, err := Connect(t.Context(), Address{Socket: d.ReadOnlySocket(), URI: testURI})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Define(testDomain("a", uuidA, gen1)); err == nil {
		t.Error("the read-only socket lets domains be defined")
	}
	// A call ends when its connection's context does, whatever libvirt does.
	ctx, cancel := context.WithCancel(t.Context())
	other, err := Connect(ctx, Address{Socket: d.Socket(), URI: testURI})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := other.Domains(); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := d.StopDaemon(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Domains(); !errors.Is(err, errLost) {
		t.Error(err)
	}
}
