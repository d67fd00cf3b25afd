//go:build e2e

package hostvm

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"guardring/e2e/outcome"
	"guardring/e2e/rig"
	"guardring/e2e/tornet"
)

// TestThreeGateways has three Debian gateways do what docs/ADMIN.md says, with the package and with the CD, while the packages' host coordinates them:
// exactly one of the two that have a common guard moves, an upgrade of all packages goes unnoticed, the upgraded ones do it again, and what is removed leaves Tor as it was and nothing
// behind.
func TestThreeGateways(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), adminLimit)
	defer cancel()
	before, after := hostProgram(t, ctx, "../../build/deb", "before"), hostProgram(t, ctx, filepath.Join(work, "next/debs"), "after")
	s := openScene(t, ctx, before)
	page := packageBlocks(t)
	began := time.Now()
	passed := func(what string) {
		t.Logf("%.1f s: %s", time.Since(began).Seconds(), what)
	}

	// The package, as the page says.
	if err := s.each(func(_ int, d *debian) error {
		if _, err := d.Run(ctx, "cp /kit/guardring-guest_0* /var/tmp; mkdir /var/tmp/guardring-new; cp /kit/guardring-guest_1* /var/tmp/guardring-new"); err != nil {
			return err
		}
		if err := d.follow(ctx, page["install"]); err != nil {
			return err
		}
		return errors.Join(d.connect(ctx), d.confined(ctx))
	}); err != nil {
		t.Fatal(err)
	}
	passed("the packages are installed")
	if err := s.host.StartCoordinator(ctx); err != nil {
		t.Fatal(err)
	}
	right := s.awaitDisjoint(t, ctx)
	mover, first := outcome.Changed(s.before, right)[0], s.common
	s.awaitStatus(t, ctx, "the change is known", s.agreed(mover))
	passed(mover + " has left the common guard, and no other has moved")

	// All packages are upgraded. The machines run on, with their seats and their guards.
	if t.Run("upgrade", func(t *testing.T) { s.upgrade(t, ctx, after, mover, page["upgrade"]) }) {
		passed("everything is upgraded, and nothing else has changed")
	} else {
		t.FailNow()
	}

	if !t.Run("another conflict", func(t *testing.T) { s.anotherConflict(t, ctx, mover) }) {
		t.FailNow()
	}
	passed("a guard that was planted anew has been given up by the one that came to it")

	moved := s.gateways[slices.Index(trio, mover)]
	t.Run("remove", func(t *testing.T) {
		if _, err := moved.Run(ctx, "apt-get remove -y guardring-guest 2>&1"); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(moved.restored(ctx), moved.follow(ctx, page["purge"]), moved.gone(ctx)); err != nil {
			t.Error(err)
		}
	})
	passed("the package is removed in " + mover)
	t.Run("the CD", func(t *testing.T) { s.useCD(t, ctx, moved, first) })
	passed("the CD was installed, upgraded and removed in " + mover)

	if err := s.each(func(_ int, d *debian) error {
		if d == moved {
			return nil
		}
		return errors.Join(d.follow(ctx, page["purge"]), d.restored(ctx))
	}); err != nil {
		t.Error(err)
	}
	passed("the packages are purged in the others")
	for _, d := range s.gateways {
		noDenial(t, d.Host, ctx)
	}
}

// hostProgram unpacks the host's package of a directory, and is the program in it.
func hostProgram(t *testing.T, ctx context.Context, debs, name string) string {
	t.Helper()
	packages, err := filepath.Glob(filepath.Join(debs, "guardring_*_amd64.deb"))
	if err != nil || len(packages) != 1 {
		t.Fatalf("the package guardring in %s: %q, %v (try: make deb)", debs, packages, err)
	}
	to := filepath.Join(t.TempDir(), name)
	if out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", packages[0], to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return filepath.Join(to, "usr/bin/guardring")
}

// packageBlocks are the page's blocks for a gateway that has its agent as a package, by what they are about.
func packageBlocks(t *testing.T) map[string]Block {
	t.Helper()
	found := map[string]Block{}
	for _, b := range pageBlocks(t, "gateway package") {
		for name, key := range map[string]string{"install": "guardring-guest join", "upgrade": "guardring-new", "purge": "apt-get purge"} {
			if strings.Contains(b.Script, key) {
				found[name] = b
			}
		}
	}
	if len(found) != 3 || len(pageBlocks(t, "gateway package")) != 3 {
		t.Fatalf("the page's blocks for a gateway's package are %v", found)
	}
	return found
}

// belongings is what could have changed in a gateway.
type belongings struct {
	tor       string // its configuration
	footprint []string
}

// torConfig are Tor's configuration as it lies there.
const torConfig = `find /etc/tor /usr/local/etc -printf '%p %y %m %u:%g\n' | sort; find /etc/tor /usr/local/etc -type f -exec sha256sum {} + | sort`

func (p *belongings) take(ctx context.Context, h *Host) error {
	var err error
	if p.tor, err = h.Run(ctx, torConfig); err != nil {
		return err
	}
	text, err := h.Run(ctx, footprintScript)
	p.footprint = strings.Split(strings.TrimSpace(text), "\n")
	return err
}

// follow does what a block of the page says.
func (d *debian) follow(ctx context.Context, b Block) error {
	began := time.Now()
	out, err := try(ctx, d.Host, b)
	log.Printf("%s, line %d: %.1f s", d.name, b.Line, time.Since(began).Seconds())
	if err == nil {
		if m := missing(out, b.Shows); m != "" {
			err = fmt.Errorf("line %d: no line %q in %s", b.Line, m, out)
		}
	}
	return err
}

// confined: the agent runs under its unit and its profile, as Tor's user, and has no network.
func (d *debian) confined(ctx context.Context) error {
	got, err := d.Run(ctx, "systemctl is-active guardring-guest; systemctl is-enabled guardring-guest; "+agentConfinement)
	if err == nil && !isConfined(strings.TrimPrefix(got, "active\nenabled\n")) {
		err = fmt.Errorf("the agent's confinement is %s", got)
	}
	return err
}

// askTor asks the gateway's Tor itself; no program of ours has a part in the answer.
const askTor = `perl -MIO::Socket::UNIX -e '
open(my $f, "<", "/run/tor/control.authcookie") or die $!; binmode $f; read($f, my $cookie, 32);
my $s = IO::Socket::UNIX->new(Peer => "/run/tor/control") or die $!; $s->autoflush(1);
for my $c ("AUTHENTICATE " . unpack("H*", $cookie), @ARGV, "QUIT") { print $s "$c\r\n"; }
while (<$s>) { s/\r//; print unless /^250 (OK|closing connection)$/ }' --`

// restored: Tor has the configuration that it had, on its disk and in its memory.
func (d *debian) restored(ctx context.Context) error {
	now, err := d.Run(ctx, torConfig)
	if err != nil {
		return err
	}
	if lost := difference(strings.Split(untouched.tor, "\n"), strings.Split(now, "\n")); len(lost) > 0 {
		err = fmt.Errorf("Tor's configuration is not as it was: %q", lost)
	}
	if got, asked := d.Run(ctx, askTor+` "GETCONF ReachableORAddresses"`); asked != nil || got != "250 ReachableORAddresses\n" {
		err = errors.Join(err, fmt.Errorf("Tor is left with %q, %v", got, asked))
	}
	return err
}

// gone: nothing of ours is left.
func (d *debian) gone(ctx context.Context) error {
	var now belongings
	if err := now.take(ctx, d.Host); err != nil {
		return err
	}
	if left := difference(untouched.footprint, now.footprint); len(left) > 0 {
		return fmt.Errorf("what was removed has left something: %q", left)
	}
	return nil
}

// agreed: every gateway's agent is there, nothing is in conflict, and the mover's Tor does what it was told.
func (s *scene) agreed(mover string) func(rig.Status) bool {
	return func(st rig.Status) bool {
		for _, name := range trio {
			if st.Member(name+"/default").State != "present" {
				return false
			}
		}
		m := st.Member(mover + "/default")
		return len(st.Conflicts) == 0 && m.Receipt.Status == "applied" && slices.Contains(m.Order.Exclusions, s.common.Fingerprint)
	}
}

// upgrade has the host's program and the gateways' packages replaced by the next ones.
func (s *scene) upgrade(t *testing.T, ctx context.Context, program, mover string, block Block) {
	first, _, err := s.host.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.host.Upgrade(ctx, program); err != nil {
		t.Fatal(err)
	}
	if err := s.each(func(_ int, d *debian) error {
		if err := d.follow(ctx, block); err != nil {
			return err
		}
		version, err := d.Run(ctx, "/proc/$(systemctl show -P MainPID guardring-guest)/exe version")
		if err == nil && !strings.Contains(version, "next") {
			err = fmt.Errorf("the agent that runs is %q", version)
		}
		return errors.Join(err, d.confined(ctx))
	}); err != nil {
		t.Fatal(err)
	}
	s.awaitDisjoint(t, ctx)
	last := s.awaitStatus(t, ctx, "all agents are there again", func(st rig.Status) bool {
		for _, name := range trio {
			if st.Member(name+"/default").Publication.Incarnation == first.Member(name+"/default").Publication.Incarnation {
				return false
			}
		}
		return s.agreed(mover)(st)
	})
	for _, name := range trio {
		if a, b := first.Gateway(name).Attachment, last.Gateway(name).Attachment; a != b {
			t.Errorf("%s has attachment %d, had %d", name, b, a)
		}
		if a, b := first.Member(name+"/default").Order.Exclusions, last.Member(name+"/default").Order.Exclusions; !slices.Equal(a, b) {
			t.Errorf("%s must not use %v, and before %v", name, b, a)
		}
	}
}

// anotherConflict has the third gateway come to a guard of the rival that has stayed, under the upgraded programs: the newcomer moves, and no other.
func (s *scene) anotherConflict(t *testing.T, ctx context.Context, mover string) {
	third, stays := s.gateways[2], trio[0]
	if stays == mover {
		stays = trio[1]
	}
	now := s.look(t)
	var held []string
	for _, v := range now {
		held = append(held, outcome.Held(v)...)
	}
	s.conflict = conflict{rivals: []string{stays, third.name}, common: network.GuardByFingerprint(now[stays].Primary[1]), before: now}
	plant := []*tornet.Relay{s.common}
	for _, g := range network.Guards {
		if len(plant) < 3 && !slices.Contains(held, g.Fingerprint) {
			plant = append(plant, g)
		}
	}

	// Without its agent it uses the guard.
	if _, err := third.Run(ctx, "systemctl stop guardring-guest tor@default"); err != nil {
		t.Fatal(err)
	}
	if err := third.plant(ctx, plant); err != nil {
		t.Fatal(err)
	}
	if _, err := third.Run(ctx, "systemctl start tor@default"); err != nil {
		t.Fatal(err)
	}
	err := third.connect(ctx)
	if err == nil {
		s.before[third.name], err = third.awaitPlanted(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := third.Run(ctx, "systemctl start guardring-guest"); err != nil {
		t.Fatal(err)
	}
	if got := outcome.Changed(s.before, s.awaitDisjoint(t, ctx)); !slices.Equal(got, []string{third.name}) {
		t.Errorf("%v moved; %s came to the guard that %s had", got, third.name, stays)
	}
	s.awaitStatus(t, ctx, "the change is known", s.agreed(third.name))
}

// packageOverCD has the package installed where the CD's agent is, and purged again. Nothing is asked, and the CD's agent stays the one that runs, with Tor as it was.
func (d *debian) packageOverCD(t *testing.T, ctx context.Context) {
	t.Helper()
	same := func(what string) {
		t.Helper()
		got := must(t, d.Host, ctx, "readlink /proc/$(systemctl show -P MainPID guardring-guest)/exe")
		if err := d.confined(ctx); err != nil || strings.TrimSpace(got) != "/usr/local/bin/guardring-guest" {
			t.Errorf("%s: the agent that runs is %s, %v", what, got, err)
		}
	}
	// What the agent writes itself may change at any time.
	config := func() (lines []string) {
		for line := range strings.Lines(must(t, d.Host, ctx, torConfig)) {
			if !strings.Contains(line, "/etc/tor/guardring/") {
				lines = append(lines, line)
			}
		}
		return lines
	}
	before := config()
	said := must(t, d.Host, ctx, "dpkg -i /kit/guardring-guest_0*.deb 2>&1 </dev/null")
	if !strings.Contains(said, "the agent from the host's CD is installed, and stays") {
		t.Errorf("the package says nothing of the CD's agent:\n%s", said)
	}
	same("with the package")
	must(t, d.Host, ctx, "dpkg -P guardring-guest 2>&1")
	same("after the purge")
	if lost := difference(before, config()); len(lost) > 0 {
		t.Errorf("the package over the CD's agent has changed Tor's configuration: %q", lost)
	}
}

// useCD has a gateway do what the page says for the CD. It is told to leave the guard.
func (s *scene) useCD(t *testing.T, ctx context.Context, d *debian, guard *tornet.Relay) {
	a := &admin{t: t, h: d.Host, ctx: ctx, notes: map[string]string{}}
	awaitTor := func() {
		if err := d.Await(ctx, "the gateway's Tor can build circuits", torBuilds); err != nil {
			t.Fatal(err)
		}
	}
	installs := 0
	a.run(pageBlocks(t, "gateway"), map[string]check{
		"guardring-guest status": {before: func() {
			awaitTor()
			a.await("Tor is told again to leave the common guard", askTor+` "GETCONF ReachableORAddresses" | grep -F "`+guard.Address+`"`)
			if err := d.confined(ctx); err != nil {
				t.Error(err)
			}
		}},
		"sh /mnt/install\n": {before: func() {
			if installs++; installs == 2 {
				d.packageOverCD(t, ctx) // purged, it has taken the profile along, which the CD brings again, as it says
				iso := filepath.Join(work, "next.iso")
				if err := errors.Join(writeCD(ctx, filepath.Join(work, "next"), iso), d.ChangeCD(ctx, iso)); err != nil {
					t.Fatal(err)
				}
			}
		}, after: func() {
			if got := must(t, d.Host, ctx, "guardring-guest version"); strings.Contains(got, "next") != (installs == 2) {
				t.Errorf("installed for the %d. time, the agent is %q", installs, got)
			}
		}},
		"guardring-guest fresh": {after: awaitTor},
		"sh /mnt/install --remove": {after: func() {
			awaitTor()
			if err := errors.Join(d.restored(ctx), d.gone(ctx)); err != nil {
				t.Error(err)
			}
		}},
	})
}
