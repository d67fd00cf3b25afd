//go:build e2e

package hostvm

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestServerReplaced: systemd's descriptor store and two running QEMUs. However the server is replaced, both devices go on as they were: the same
// region, the same seats, doorbells and memory both ways.
func TestServerReplaced(t *testing.T) {
	h, ctx := host(t, attached)
	before := freeSeat(t, h, ctx)
	qemus := qemuPIDs(t, h, ctx)
	ringBoth(t, h, ctx)
	// The main process alone: systemctl fails now and then when it looks for further ones and the last is just gone.
	for _, way := range []struct{ name, script string }{
		{"restart", "systemctl restart guardring-server"},
		{"restart again", "systemctl restart guardring-server"},
		{"SIGKILL", "systemctl kill --kill-whom=main -s KILL guardring-server"},
		{"SIGKILL again", "systemctl kill --kill-whom=main -s KILL guardring-server"},
		{"SIGABRT, as the watchdog does", "systemctl kill --kill-whom=main -s ABRT guardring-server"},
		{"SIGKILL twice at once", "systemctl kill --kill-whom=main -s KILL guardring-server; until systemctl is-active guardring-server; do :; done; systemctl kill --kill-whom=main -s KILL guardring-server"},
		{"server and coordinator killed", "systemctl kill --kill-whom=main -s KILL guardring-server guardring-coordinator"},
	} {
		old := before.Server.PID
		must(t, h, ctx, way.script)
		now := awaitStatus(t, h, ctx, way.name+": another server, and one coordinator that acts and has a seat of each gateway", func(s serverStatus) bool {
			return s.Server.PID != 0 && s.Server.PID != old && s.ready()
		})
		for _, g := range []string{former, made} {
			if was, is := before.held(g), now.held(g); is != was {
				t.Errorf("%s: %s is %s; it was %s", way.name, g, is, was)
			}
		}
		if got := qemuPIDs(t, h, ctx); got != qemus {
			t.Errorf("%s: the QEMUs are %s; they were %s", way.name, got, qemus)
		}
		ringBoth(t, h, ctx)
		before.Server.PID = now.Server.PID
	}
	wantLines(t, h, ctx, "guardring doctor --json", "warn agent of "+former, "warn agent of "+made)
	noDenial(t, h, ctx)
}

// TestServerKilledInAHandshake: a server that is killed while it greets a domain's QEMU, after each of its messages. The next one goes on with it, so the
// domain starts; the other domain's device notices nothing.
func TestServerKilledInAHandshake(t *testing.T) {
	h, ctx := host(t, attached)
	// A build with kill points, in the place where the profile and the unit want it.
	must(t, h, ctx, `install -m 755 /kit/guardring /usr/bin/guardring
d=/run/systemd/system/guardring-server.service.d; mkdir -p $d
printf '[Service]\nEnvironmentFile=-/run/kill.env\n' >$d/kill.conf
systemctl daemon-reload; systemctl restart guardring-server`)
	before := freeSeat(t, h, ctx)
	const messages = 3 + 3*2 // version, own seat, memory; and two doorbells of each of three seats
	for sent := range messages + 1 {
		began := time.Now()
		// The file is that of one server only: the next one has none.
		doomed := strings.TrimSpace(must(t, h, ctx, fmt.Sprintf(`virsh -q destroy web
echo GUARDRING_KILL_AT=handshake-%d >/run/kill.env; systemctl restart guardring-server; rm /run/kill.env
systemctl show -P MainPID guardring-server`, sent)))
		if started, err := h.Sh(ctx, "virsh -q start --paused web"); err != nil || started.Code != 0 {
			t.Errorf("%d messages sent: the domain does not start: %v, %+v", sent, err, started)
			continue
		}
		now := awaitStatus(t, h, ctx, "another server, and one coordinator that acts and has a seat of each gateway", func(s serverStatus) bool {
			return s.Server.PID != 0 && strconv.Itoa(s.Server.PID) != doomed && s.ready()
		})
		if was, is := before.held(former), now.held(former); is != was {
			t.Errorf("%d messages sent: %s is %s; it was %s", sent, former, is, was)
		}
		ringBoth(t, h, ctx)
		t.Logf("%d of %d messages sent: %.0f s", sent, messages, time.Since(began).Seconds())
	}
	noDenial(t, h, ctx)
}

// TestServerStopped: systemd 252 empties the store of a service that is stopped. The devices are dead then; the doctor says which domains must be
// restarted, and with their restart all is well.
func TestServerStopped(t *testing.T) {
	h, ctx := host(t, attached)
	freeSeat(t, h, ctx)
	ring(t, h, ctx, former)
	must(t, h, ctx, "systemctl stop guardring-server")
	// A domain cannot start without the server, and says so at once.
	must(t, h, ctx, "virsh -q destroy web; ! timeout 60 virsh -q start --paused web")
	wantLines(t, h, ctx, "guardring doctor --json", "fail server")

	must(t, h, ctx, "systemctl start guardring-server")
	awaitStatus(t, h, ctx, "a coordinator that has a seat of each gateway again", serverStatus.ready)
	if r, err := h.Sh(ctx, fmt.Sprintf("/kit/bell %s /run/guardring/host/%s.sock", qtestSocket(former), former)); err != nil || r.Code == 0 {
		t.Errorf("the device of a server that was stopped works: %v, %+v", err, r)
	}
	r, err := h.Sh(ctx, "guardring doctor")
	if err != nil || r.Code != 2 || !strings.Contains(r.Stdout, "fail  domain of mail") || strings.Contains(r.Stdout, "fail  domain of web") || !strings.Contains(r.Stdout, "shut the domain down and start it") {
		t.Errorf("the doctor does not say which domain to restart: %v, code %d\n%s%s", err, r.Code, r.Stdout, r.Stderr)
	}
	must(t, h, ctx, "virsh -q destroy mail; virsh -q start --paused mail; virsh -q start --paused web")
	ringBoth(t, h, ctx)
	wantLines(t, h, ctx, "guardring doctor --json", "warn agent of "+former, "warn agent of "+made)
	noDenial(t, h, ctx)
}

// TestUpgrade: the package is upgraded, and the former version is installed again, while two QEMUs have their devices; the QEMUs notice nothing.
func TestUpgrade(t *testing.T) {
	h, ctx := host(t, attached)
	before := awaitStatus(t, h, ctx, "both coordinators", func(s serverStatus) bool { return len(s.Coordinators) == 2 })
	qemus := qemuPIDs(t, h, ctx)
	version := must(t, h, ctx, "guardring version")
	for _, deb := range []string{"/kit/next.deb", "/kit/guardring.deb"} {
		began := time.Now()
		must(t, h, ctx, "dpkg -i "+deb+" 2>&1")
		t.Logf("dpkg -i %s: %.1f s", deb, time.Since(began).Seconds())
		now := awaitStatus(t, h, ctx, "another server, and both coordinators, after dpkg -i "+deb, func(s serverStatus) bool {
			return s.Server.PID != 0 && s.Server.PID != before.Server.PID && len(s.Coordinators) == 2
		})
		for _, g := range []string{former, made} {
			if was, is := before.held(g), now.held(g); is != was {
				t.Errorf("%s: %s is %s; it was %s", deb, g, is, was)
			}
		}
		if got := qemuPIDs(t, h, ctx); got != qemus {
			t.Errorf("%s: the QEMUs are %s; they were %s", deb, got, qemus)
		}
		if got := must(t, h, ctx, "guardring version"); (got == version) != (deb == "/kit/guardring.deb") {
			t.Errorf("after dpkg -i %s: %s", deb, got)
		}
		before.Server.PID = now.Server.PID
	}
	for unit, profile := range units {
		if got := labelOf(t, h, ctx, "$(systemctl show -p MainPID --value "+unit+")"); got != profile+" (enforce)" {
			t.Errorf("%s is confined by %q", unit, got)
		}
	}
	freeSeat(t, h, ctx)
	ringBoth(t, h, ctx)
	noDenial(t, h, ctx)
}

// qemuPIDs are the processes of both domains. One that has ended has no file.
func qemuPIDs(t *testing.T, h *Host, ctx context.Context) string {
	t.Helper()
	return strings.Join(strings.Fields(must(t, h, ctx, "for d in mail web; do p=$(cat /run/libvirt/qemu/$d.pid); test -e /proc/$p; echo $p; done")), " ")
}
