//go:build e2e

package hostvm

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"guardring/e2e/oracle"
	"guardring/e2e/outcome"
	"guardring/e2e/rig"
	"guardring/e2e/tornet"
	"guardring/e2e/vmtest"
	"guardring/e2e/vmtest/gateway"
)

// trio are the gateways of a scene. The first two have a guard in common.
var trio = []string{"updates", "browsing", "apps"}

// What scenes share: a private Tor network, an echo service behind it, and a Debian gateway that was booted once.
var (
	network   *tornet.Network
	echo      *tornet.Echo
	template  *Host
	untouched belongings // what is in the template, and so in each gateway that nothing of ours was in
)

// torNumber is the number of the gateways' network, which is each QEMU's own.
const torNumber = 90

// startNetwork starts the network, once.
var startNetwork = sync.OnceValue(func() error {
	ctx, cancel := context.WithTimeout(context.Background(), bootLimit)
	defer cancel()
	began := time.Now()
	var err error
	network, err = tornet.Start(ctx, tornet.Config{CacheDir: "../../build/tornet-keys", Guards: 14, Exits: 2, Routable: true})
	log.Printf("a Tor network after %.1f s", time.Since(began).Seconds())
	return err
})

// openStage starts all that scenes share, once.
var openStage = sync.OnceValue(func() error {
	ctx, cancel := context.WithTimeout(context.Background(), bootLimit)
	defer cancel()
	began := time.Now()
	var wg sync.WaitGroup
	var networkErr, bootErr error
	wg.Go(func() { networkErr = startNetwork() })
	wg.Go(func() { bootErr = bootTemplate(ctx) })
	wg.Wait()
	if err := errors.Join(networkErr, bootErr); err != nil {
		return err
	}
	// Debian's own place for logs, which Tor's profile allows.
	_, err := template.Run(ctx, fmt.Sprintf(`card=$(ls /sys/class/net | grep -v lo)
ip address add 192.168.%d.15/24 dev $card; ip link set $card up; ip route add default via 192.168.%[1]d.2
cat >>/etc/tor/torrc <<'END'

# The private network.
%sLog notice syslog
Log [guard]info file /var/log/tor/guard.log
END
systemctl --quiet enable tor tor@default`, 70+torNumber, network.ClientLines()))
	if err != nil {
		return err
	}
	if err := untouched.take(ctx, template); err != nil {
		return err
	}
	if err := template.Freeze(ctx); err != nil {
		return err
	}
	log.Printf("a gateway that can be copied after %.1f s", time.Since(began).Seconds())
	echo, err = tornet.StartEcho()
	return err
})

// closeStage ends what there is of it.
func closeStage() {
	if template != nil {
		template.Close()
	}
	if echo != nil {
		echo.Close()
	}
	if network != nil {
		network.Stop()
	}
}

// bootTemplate boots a gateway with the CD that the host would make. Nothing of ours is installed in it.
func bootTemplate(ctx context.Context) error {
	iso := filepath.Join(work, "agent.iso")
	if err := writeCD(ctx, "../../build", iso); err != nil {
		return err
	}
	var files []File
	for _, dir := range []string{"../../build/deb", filepath.Join(work, "next/debs")} {
		packages, err := filepath.Glob(filepath.Join(dir, "guardring-guest_*_amd64.deb"))
		if err != nil || len(packages) != 1 {
			return fmt.Errorf("the package guardring-guest in %s: %q, %v (try: make deb)", dir, packages, err)
		}
		files = append(files, File{Name: filepath.Base(packages[0]), Source: packages[0]})
	}
	var err error
	template, err = Boot(ctx, kit, image, Options{Name: "gateway", MemoryMiB: 384, Gateway: true, CD: iso, Files: files,
		Network: &vmtest.Network{Number: torNumber}, Ports: []string{gateway.GuardLogPort}})
	return err
}

// writeCD has the host's program in a directory write the CD with the agent beside it.
func writeCD(ctx context.Context, dir, iso string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	config := iso + ".yaml"
	if err := os.WriteFile(config, []byte("guest-agent: "+filepath.Join(dir, "guardring-guest")+"\n"), 0o600); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, filepath.Join(dir, "guardring"), "agent-image", "--config", config, iso).CombinedOutput(); err != nil {
		return fmt.Errorf("write the agent's CD: %w: %s", err, out)
	}
	return nil
}

// scene is a host, which is this machine, with three gateways, each a Debian in a VM with a Tor whose user makes requests. The first two use a
// common guard, the third shares nothing. Nothing of ours is in them yet, and no coordinator runs.
type scene struct {
	host     *gateway.Host
	gateways []*debian
	conflict
	stop context.CancelFunc // of the users
}

// conflict is one that must be resolved: two gateways have a common guard.
type conflict struct {
	rivals []string
	common *tornet.Relay
	before outcome.Snapshot
}

// debian is one gateway.
type debian struct {
	*Host
	name    string
	planted []string
	window  *gateway.Window
	traffic outcome.Traffic
}

// openScene starts a scene on a host that runs the given program.
func openScene(t *testing.T, ctx context.Context, program string) *scene {
	t.Helper()
	if err := openStage(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	g := network.Guards
	s := &scene{conflict: conflict{rivals: trio[:2], common: g[0], before: outcome.Snapshot{}}}
	t.Cleanup(func() {
		if err := s.close(t.Failed()); err != nil {
			t.Error(err)
		}
	})
	var err error
	if s.host, err = gateway.NewHost(program, "../../build/guardring-guest", "disjoint", trio...); err != nil {
		t.Fatal(err)
	}
	if err := s.host.StartServer(ctx); err != nil {
		t.Fatal(err)
	}
	plants := [][]*tornet.Relay{{g[0], g[1], g[2]}, {g[0], g[3], g[4]}, {g[5], g[6], g[7]}}
	for _, name := range trio {
		s.gateways = append(s.gateways, &debian{name: name})
	}
	if err := s.each(func(i int, d *debian) error { return d.open(ctx, i, s.host.Region(d.name), plants[i]) }); err != nil {
		t.Fatal(err)
	}
	log.Printf("three gateways after %.1f s", time.Since(began).Seconds())
	users, stop := context.WithCancel(ctx)
	s.stop = stop
	for _, d := range s.gateways {
		go d.traffic.Run(users, d.window.Tor, echo.Addr())
	}
	for _, d := range s.gateways {
		if s.before[d.name], err = d.awaitPlanted(ctx); err != nil {
			t.Fatal(err)
		}
	}
	log.Printf("three gateways with circuits through their planted guards after %.1f s", time.Since(began).Seconds())
	return s
}

// each does something for all gateways at once.
func (s *scene) each(do func(i int, d *debian) error) error {
	errs := make([]error, len(s.gateways))
	var wg sync.WaitGroup
	for i, d := range s.gateways {
		wg.Go(func() {
			if err := do(i, d); err != nil {
				errs[i] = fmt.Errorf("gateway %s: %w", d.name, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// open starts the gateway and its Tor, as Debian does.
func (d *debian) open(ctx context.Context, number int, region string, plant []*tornet.Relay) error {
	var err error
	if d.Host, err = template.Thaw(ctx, d.name, region, gateway.Forwards(number)...); err != nil {
		return err
	}
	log.Printf("%s goes on after %.1f s", d.name, d.Booted().Seconds())
	for _, f := range network.Directory() {
		b, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		if err := d.Put(ctx, "/var/lib/tor/"+filepath.Base(f), b, 0o600); err != nil {
			return err
		}
	}
	if err := d.plant(ctx, plant); err != nil {
		return err
	}
	if d.window, err = gateway.NewWindow(d.guest, network, number); err != nil {
		return err
	}
	if err := d.window.Admit(ctx); err != nil {
		return err
	}
	if _, err := d.Run(ctx, `systemctl start tor tor@default
tail -n +1 -F /var/log/tor/guard.log >/dev/virtio-ports/`+gateway.GuardLogPort+` 2>/dev/null &`); err != nil {
		return err
	}
	return d.connect(ctx)
}

// plant has the gateway's Tor, which must be stopped, start with these guards.
func (d *debian) plant(ctx context.Context, guards []*tornet.Relay) error {
	d.planted = nil
	for _, g := range guards {
		d.planted = append(d.planted, g.Fingerprint)
	}
	if err := d.Put(ctx, "/var/lib/tor/state", []byte(network.PlantedState(guards)), 0o600); err != nil {
		return err
	}
	_, err := d.Run(ctx, "chown -R debian-tor:debian-tor /var/lib/tor")
	return err
}

// torBuilds succeeds when the gateway's Tor can build circuits.
const torBuilds = askTor + ` "GETINFO status/bootstrap-phase" | grep PROGRESS=100`

// connect waits for a Tor that was started, and connects to it. On a busy machine it has no time for us before.
func (d *debian) connect(ctx context.Context) error {
	if err := d.Await(ctx, "the gateway's Tor can build circuits", torBuilds); err != nil {
		return err
	}
	return d.window.Connect(ctx)
}

// awaitPlanted waits until Tor uses the planted guards and no other.
func (d *debian) awaitPlanted(ctx context.Context) (oracle.View, error) {
	return oracle.Await(ctx, d.window.Tor, "use of the planted guards", func(v oracle.View) bool {
		done, _, _ := d.traffic.Counts()
		if !oracle.AllIn(v.InUse, d.planted) {
			_ = oracle.CloseStrays(d.window.Tor, d.planted) // the next look tells whether they are gone
		}
		return done > 0 && slices.Equal(v.Primary, d.planted) && slices.Contains(v.InUse, d.planted[0]) && oracle.AllIn(v.InUse, d.planted) && len(v.Sample) >= 3
	})
}

// look is what the Tors show now.
func (s *scene) look(t *testing.T) outcome.Snapshot {
	t.Helper()
	now := outcome.Snapshot{}
	for _, d := range s.gateways {
		v, err := oracle.Look(d.window.Tor)
		if err != nil {
			t.Fatal(err)
		}
		now[d.name] = v
	}
	return now
}

// settled is how long an outcome must last.
const settled = 4 * time.Second

// awaitDisjoint waits until Tor shows for some seconds that one of the two rivals has moved, and nothing else has changed.
func (s *scene) awaitDisjoint(t *testing.T, ctx context.Context) outcome.Snapshot {
	t.Helper()
	var since time.Time
	for {
		after := s.look(t)
		faults := outcome.Disjoint(s.before, after, s.rivals, s.common.Fingerprint)
		switch {
		case len(faults) > 0:
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		case time.Since(since) > settled:
			return after
		}
		select {
		case <-time.After(250 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("not disjoint: %s", strings.Join(faults, "; "))
		}
	}
}

// awaitStatus waits until the host's status is as wanted.
func (s *scene) awaitStatus(t *testing.T, ctx context.Context, what string, is func(rig.Status) bool) rig.Status {
	t.Helper()
	for {
		st, _, err := s.host.Status(ctx)
		if err == nil && is(st) {
			return st
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("still not: %s: %v: %+v", what, err, st)
		}
	}
}

func (s *scene) close(failed bool) error {
	if s.stop != nil {
		s.stop()
	}
	var errs []error
	for _, d := range s.gateways {
		if d.Host == nil {
			continue
		}
		if failed {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			r, err := d.Sh(ctx, "journalctl -b --no-pager | tail -n 40")
			log.Printf("the journal of %s ends with:\n%s%v", d.name, r.Stdout, err)
			cancel()
		}
		if d.window != nil {
			errs = append(errs, d.window.Close())
		}
		errs = append(errs, d.Close())
	}
	if s.host != nil {
		if failed {
			b, err := os.ReadFile(s.host.LogFile("host"))
			log.Printf("the coordinator says:\n%s%v", b[max(0, len(b)-3000):], err)
		}
		errs = append(errs, s.host.Stop())
	}
	return errors.Join(errs...)
}
