//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"guardring/e2e/oracle"
	"guardring/e2e/rig"
	"guardring/e2e/tornet"
)

// made is what the scenario made on this machine, for the way out.
var made struct {
	mu        sync.Mutex
	instances []*instance
}

// undoInstances removes every instance that is left: also when the test binary is interrupted.
func undoInstances() {
	made.mu.Lock()
	defer made.mu.Unlock()
	for _, in := range made.instances {
		_ = in.undo() // as much as is possible on the way out
	}
	made.instances = nil
}

// instance is one of Debian's Tor instances, made by tor-instance-create.
type instance struct {
	name   string
	client *tornet.Client
	parent []string // folders that were not there before the first instance
}

func (in *instance) user() string  { return "_tor-" + in.name }
func (in *instance) etc() string   { return "/etc/tor/instances/" + in.name }
func (in *instance) data() string  { return "/var/lib/tor-instances/" + in.name }
func (in *instance) run() string   { return "/run/tor-instances/" + in.name }
func (in *instance) torrc() string { return in.etc() + "/torrc" }

func (in *instance) defaults() string { return in.run() + ".defaults" }

// create runs tor-instance-create, and appends the network's lines. It refuses to touch what is there already.
func create(t *testing.T, name string, plant ...*tornet.Relay) *instance {
	t.Helper()
	in := &instance{name: name}
	if _, err := user.Lookup(in.user()); err == nil {
		t.Fatalf("user %s exists already: this scenario makes and removes it (hint: run it on another machine)", in.user())
	}
	for _, path := range []string{in.etc(), in.data(), in.run(), in.defaults()} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("%s exists already: this scenario makes and removes it (hint: run it on another machine)", path)
		}
	}
	for _, path := range []string{"/etc/tor/instances", "/var/lib/tor-instances", "/run/tor-instances"} {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			in.parent = append(in.parent, path)
		}
	}
	made.mu.Lock()
	made.instances = append(made.instances, in)
	made.mu.Unlock()
	t.Cleanup(func() { in.remove(t) })
	if out, err := exec.Command("tor-instance-create", name).CombinedOutput(); err != nil {
		t.Fatalf("tor-instance-create %s: %v: %s", name, err, out)
	}
	f, err := os.OpenFile(in.torrc(), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = fmt.Fprintf(f, "%sLog [guard]info file %[2]s/guard.log\nLog notice file %[2]s/notice.log\n", network.ClientLines(), in.run())
		err = errors.Join(err, f.Close())
	}
	if err == nil {
		err = os.WriteFile(in.data()+"/state", []byte(network.PlantedState(plant)), 0o600)
	}
	if err == nil {
		err = os.Chown(in.data()+"/state", uidOf(t, in.user()), -1)
	}
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// start does what the unit tor@NAME does: its ExecStartPre lines, then tor, which becomes its user by itself.
func (in *instance) start(t *testing.T) {
	t.Helper()
	for _, pre := range [][]string{
		{"mkdir", "-p", "/run/tor-instances"},
		{"install", "-m", "02755", "-o", in.user(), "-g", in.user(), "-d", in.run()},
		{"sed", "-n", "-e", "s/@@NAME@@/" + in.name + "/g; w " + in.defaults(), "/usr/share/tor/tor-service-defaults-torrc-instances"},
	} {
		if out, err := exec.Command(pre[0], pre[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", pre, err, out)
		}
	}
	// Where the network's own clients have their state file.
	if err := os.Symlink(in.data(), in.run()+"/data"); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("tor", "--defaults-torrc", in.defaults(), "-f", in.torrc(), "--__OwningControllerProcess", strconv.Itoa(os.Getpid()))
	var err error
	if in.client, err = network.RunForeign(deadline(t, 90*time.Second), in.name, in.run(), cmd); err != nil {
		t.Fatal(err)
	}
	poll(t, 60*time.Second, "a request of "+in.name, func() bool { return request(deadline(t, 20*time.Second), in.client) == nil })
}

// remove undoes create and start, once.
func (in *instance) remove(t *testing.T) {
	t.Helper()
	made.mu.Lock()
	defer made.mu.Unlock()
	i := slices.Index(made.instances, in)
	if i < 0 {
		return
	}
	made.instances = slices.Delete(made.instances, i, i+1)
	if t.Failed() {
		b, _ := os.ReadFile(in.run() + "/stdout.log")
		t.Logf("%s says:\n%s", in.name, b[max(0, len(b)-1500):])
	}
	if err := in.undo(); err != nil {
		t.Error(err)
	}
}

func (in *instance) undo() error {
	var errs []error
	if in.client != nil {
		errs = append(errs, network.RemoveClient(in.client))
	}
	if _, err := user.Lookup(in.user()); err == nil {
		if out, err := exec.Command("userdel", in.user()).CombinedOutput(); err != nil {
			errs = append(errs, fmt.Errorf("userdel %s: %w: %s", in.user(), err, out))
		}
	}
	for _, path := range []string{in.etc(), in.data(), in.run(), in.defaults(), "/etc/tor/guardring/instance-" + in.name + ".conf"} {
		errs = append(errs, os.RemoveAll(path))
	}
	for _, path := range append(in.parent, "/etc/tor/guardring") { // only if they are empty now
		_ = os.Remove(path)
	}
	return errors.Join(errs...)
}

// torrcs reads every torrc below /etc/tor, and names every other file there.
func torrcs(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir("/etc/tor", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		out[path] = d.Type().String()
		if d.Type().IsRegular() {
			b, err := os.ReadFile(path)
			info, statErr := d.Info()
			if err := errors.Join(err, statErr); err != nil {
				return err
			}
			out[path] = fmt.Sprintf("%v %s", info.Mode(), b)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestInstances: one agent finds the machine's Tors by itself, real instances of tor-instance-create that run as users of their own,
// and keeps their guards disjoint, without a VM. One that is created later is taken up, one that is removed leaves, one leaves by
// name; and leave restores every byte.
func TestInstances(t *testing.T) {
	needRoot(t, "tor-instance-create", "userdel", "install")
	t.Parallel()
	untouched := torrcs(t)
	g := network.Guards
	updates, browsing := create(t, "updates", g[0], g[1], g[2]), create(t, "browsing", g[0], g[3], g[4])
	r, err := rig.New(hostBinary, guestBinary, "disjoint")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, name := range []string{"host", "all"} {
				t.Logf("%s says:\n%s", name, r.LogEnd(name))
			}
		}
		if err := r.Stop(); err != nil {
			t.Error(err)
		}
	})
	gw, err := r.Add("all")
	if err != nil {
		t.Fatal(err)
	}
	gw.Options = "slow-tick: 1s\n"
	if err := gw.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	before := torrcs(t)
	t.Cleanup(func() { // a torrc that we may not have made: the machine's own
		if after := torrcs(t); after["/etc/tor/torrc"] != untouched["/etc/tor/torrc"] || after["/etc/tor/guardring"] != "" {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // the test's own is over
			defer cancel()
			out, err := gw.Leave(ctx)
			t.Errorf("leave is run again for the machine's own torrc: %s %v", out, err)
		}
	})
	if out, err := gw.Join(deadline(t, 20*time.Second)); err != nil || !strings.Contains(out, "updates: added") || !strings.Contains(out, "systemctl restart tor@browsing.service") {
		t.Fatal(out, err)
	}
	updates.start(t)
	browsing.start(t)
	// Each reads its own include file as its own user, as at Debian's daily HUP.
	for _, in := range []*instance{updates, browsing} {
		if err := in.client.HUP(); err != nil {
			t.Fatal(err)
		}
		poll(t, 10*time.Second, "HUP of "+in.name, func() bool {
			log, err := in.client.Log()
			return err == nil && strings.Contains(log, reloadLine) || !in.client.Running()
		})
		if _, err := in.client.Control().Conf("DataDirectory"); err != nil {
			t.Fatalf("%s has not survived HUP: %v", in.name, err)
		}
	}
	for _, in := range []*instance{updates, browsing} {
		if v := look(t, in); !slices.Contains(v.Primary, g[0].Fingerprint) {
			t.Fatalf("%s does not hold the common guard: %v", in.name, v.Primary)
		}
		if uid := uidOf(t, in.user()); !ownedBy(t, in.client.PID(), uid) {
			t.Errorf("%s does not run as user %d", in.name, uid)
		}
	}
	if _, err := r.StartHost(deadline(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	agent, err := gw.StartGuest()
	if err != nil {
		t.Fatal(err)
	}
	awaitDisjoint(t, 60*time.Second, updates, browsing)

	// A third one is created while the agent runs. It shares a guard with one of the others.
	apps := create(t, "apps", look(t, updates).relays()[0], look(t, browsing).relays()[0], g[7])
	bytes := torrcs(t)[apps.torrc()]
	if out, err := gw.Join(deadline(t, 20*time.Second), "apps"); err != nil || strings.Contains(out, "updates") {
		t.Fatal(out, err)
	}
	apps.start(t)
	awaitDisjoint(t, 60*time.Second, updates, browsing, apps)
	var doc guestStatus
	awaitAgent(t, gw, "three members with roles", func(d guestStatus) bool { doc = d; return d.member("apps") != nil && d.member("apps").Slot >= 0 })
	slots := map[int]bool{}
	for _, name := range []string{"updates", "browsing", "apps"} {
		m := doc.member(name)
		if m == nil || m.Role != name || m.Slot < 0 || slots[m.Slot] {
			t.Fatalf("%s in the agent's status: %+v", name, doc.Members)
		}
		slots[m.Slot] = true
	}
	if d := doc.member("default"); d != nil && (!d.NotRunning || len(doc.Problems) > 0) {
		t.Errorf("a Tor that is installed and not started is a problem: %+v", doc)
	}

	// browsing leaves by name; apps is stopped, stays, and leaves when its files are gone.
	if out, err := gw.Leave(deadline(t, 60*time.Second), "browsing"); err != nil || !strings.Contains(out, "browsing: removed the include line") {
		t.Fatal(out, err)
	}
	if now := torrcs(t); now[browsing.torrc()] != before[browsing.torrc()] {
		t.Errorf("torrc of browsing is not what it was:\n%s", now[browsing.torrc()])
	}
	awaitAgent(t, gw, "browsing gone, the others there", func(d guestStatus) bool {
		return d.member("browsing") == nil && d.member("updates") != nil && d.member("apps") != nil
	})
	if err := apps.client.Stop(); err != nil {
		t.Fatal(err)
	}
	awaitAgent(t, gw, "apps without control port", func(d guestStatus) bool { return d.member("apps") != nil && !d.member("apps").ControlUp })
	if torrcs(t)[apps.torrc()] == bytes {
		t.Error("the torrc of apps was not prepared")
	}
	apps.remove(t)
	awaitAgent(t, gw, "apps gone", func(d guestStatus) bool { return d.member("apps") == nil })
	poll(t, 20*time.Second, "apps gone on the host", func() bool {
		s, _, err := r.Status(deadline(t, 10*time.Second))
		return err == nil && s.Member("all/apps").State == "left"
	})

	if out, err := gw.Leave(deadline(t, 60*time.Second)); err != nil {
		t.Fatal(out, err)
	}
	select {
	case <-agent.Done():
	case <-time.After(10 * time.Second):
		t.Error("the agent has not ended")
	}
	after := torrcs(t)
	for path := range before {
		if before[path] != after[path] {
			t.Errorf("%s is not what it was before join:\n%s", path, after[path])
		}
	}
	for path := range after {
		if _, ok := before[path]; !ok {
			t.Errorf("%s is left", path)
		}
	}
	conf, err := updates.client.Control().Conf("ReachableORAddresses")
	if err != nil || strings.Contains(strings.Join(conf, ""), "192.0.2.71") {
		t.Errorf("Tor's option after leave: %v, %v", conf, err)
	}
}

// view is what one instance's Tor shows.
type view struct{ oracle.View }

func look(t *testing.T, in *instance) view {
	t.Helper()
	v, err := oracle.Look(in.client)
	if err != nil {
		t.Fatal(err)
	}
	return view{v}
}

// relays are its primary guards.
func (v view) relays() []*tornet.Relay {
	var out []*tornet.Relay
	for _, fp := range v.Primary {
		out = append(out, network.GuardByFingerprint(fp))
	}
	return out
}

// ownedBy tells whether a process runs as a user.
func ownedBy(t *testing.T, pid, uid int) bool {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(b), fmt.Sprintf("\nUid:\t%d\t%d\t", uid, uid))
}

// awaitDisjoint waits until no two of the Tors hold one guard, by what they say themselves, with requests going on.
func awaitDisjoint(t *testing.T, d time.Duration, instances ...*instance) {
	t.Helper()
	for _, in := range instances {
		defer keepBusy(t, in.client)()
	}
	poll(t, d, "disjoint guards", func() bool {
		holder := map[string]string{}
		for _, in := range instances {
			v := look(t, in)
			if len(v.Primary) < 3 {
				return false
			}
			for _, fp := range append(slices.Clone(v.Primary), v.InUse...) {
				if other, ok := holder[fp]; ok && other != in.name {
					return false
				}
				holder[fp] = in.name
			}
		}
		return true
	})
}
