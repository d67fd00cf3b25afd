//go:build e2e

package hostvm

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"guardring/e2e/rig"
	"guardring/e2e/tornet"
)

// torFiles are what a Tor needs to know a network without having met it: files in its data directory, by their names, and lines for its torrc.
type torFiles struct {
	files map[string][]byte
	lines string
	guard []*tornet.Relay // its primary guards
}

// planted are a sample of the network's guards, and what it takes to know the network.
func planted(t *testing.T) torFiles {
	t.Helper()
	if err := startNetwork(); err != nil {
		t.Fatal(err)
	}
	p := torFiles{files: map[string][]byte{"state": []byte(network.PlantedState(network.Guards[:3]))}, lines: network.ClientLines(), guard: network.Guards[:3]}
	for _, path := range network.Directory() {
		var err error
		if p.files[filepath.Base(path)], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// torPicture is all that joining could change of Tor. The folder for the include files is not in it: the package has made it, and an empty one goes
// with the last of them.
const torPicture = "find /etc/tor ! -path /etc/tor/guardring -printf '%p %y %m %u:%g\\n' | sort; find /etc/tor -type f -exec sha256sum {} + | sort"

// unreachable has Tor's connections end in nothing. A refusal would have it try another relay at once, for ever.
const unreachable = "nft 'add table inet nowhere; add chain inet nowhere out { type filter hook output priority 0; }; add rule inet nowhere out meta skuid debian-tor meta l4proto tcp drop'"

// agentConfinement says by which profile the agent is confined, as whom it runs, and which network cards it sees.
const agentConfinement = `p=$(systemctl show -P MainPID guardring-guest); cat /proc/$p/attr/current; stat -c %U /proc/$p; nsenter -n -t $p ip -o link`

func isConfined(said string) bool {
	return strings.HasPrefix(said, "guardring-guest (enforce)\ndebian-tor\n1: lo: <LOOPBACK") && strings.Count(said, "\n") == 3
}

// TestConfinedAgent: the packaged agent, under its unit's sandbox and its profile, does its whole job beside Debian's Tor: it joins, takes its seat at
// the server's socket, has Tor give up a guard that another gateway had first, and leaves. AppArmor denies it nothing, and it has no network.
func TestConfinedAgent(t *testing.T) {
	h, ctx := host(t, installed)
	p := planted(t)
	must(t, h, ctx, "systemctl stop guardring-guest; "+unreachable)
	for name, data := range p.files {
		if err := h.Put(ctx, "/var/lib/tor/"+name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Put(ctx, "/etc/tor/lines", []byte(p.lines), 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, h, ctx, "chown -R debian-tor:debian-tor /var/lib/tor; cat /etc/tor/lines >>/etc/tor/torrc; rm /etc/tor/lines; systemctl start tor@default")
	before := must(t, h, ctx, torPicture)

	// The gateway's agent is Tor's user, not QEMU's.
	for name, user := range map[string]string{"default": "debian-tor", "updates": "libvirt-qemu"} {
		text := fmt.Sprintf("name: %s\nmode: \"0666\"\nallow-users: [%s]\n", name, user)
		if err := h.Put(ctx, "/etc/guardring/gateways.d/"+name+".yaml", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Put(ctx, "/etc/guardring/guardring.yaml", []byte("policy: disjoint\n"+rig.AtOnce), 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, h, ctx, "systemctl restart guardring-standby guardring-coordinator; guardring gateway reload")
	// Another gateway has the first of the guards.
	must(t, h, ctx, fmt.Sprintf("systemd-run --quiet --unit=updates -p User=libvirt-qemu /kit/standin /run/guardring/gateways/updates.sock %s %s %s %s",
		p.guard[0].Fingerprint, relay(2), relay(3), relay(4)))
	awaitMembers(t, h, ctx, "updates is a member", member("updates", "present"))

	since := mark(t, h, ctx)
	must(t, h, ctx, "guardring-guest join; systemctl restart tor@default; systemctl start guardring-guest")
	awaitMembers(t, h, ctx, "the agent's Tor has given up the guard", func(s rig.Status) bool {
		return slices.ContainsFunc(s.Members, func(m rig.Member) bool {
			return m.Member == "default/default" && m.Receipt.Status == "applied" && slices.Contains(m.Order.Exclusions, p.guard[0].Fingerprint)
		})
	})
	if out := must(t, h, ctx, "cat /etc/tor/guardring/default.conf"); !strings.Contains(out, "reject "+p.guard[0].Address) {
		t.Errorf("the include file has no rule against %s:\n%s", p.guard[0].Address, out)
	}
	if got := must(t, h, ctx, agentConfinement); !isConfined(got) {
		t.Errorf("the agent's confinement is\n%s", got)
	}
	if out := must(t, h, ctx, "cat /proc/$(systemctl show -P MainPID tor@default)/attr/current"); out != "system_tor (enforce)\n" {
		t.Errorf("Tor's is %s", out)
	}
	for _, command := range []string{"status", "status --json", "doctor"} {
		r, err := h.Sh(ctx, "guardring-guest "+command)
		if err != nil || r.Code > 1 {
			t.Errorf("guardring-guest %s: code %d, %v\n%s%s", command, r.Code, err, r.Stdout, r.Stderr)
		}
	}
	// It restarts, and knows what it has to.
	must(t, h, ctx, "systemctl kill --kill-whom=main -s KILL guardring-guest")
	if err := h.Await(ctx, "the agent is back", "guardring-guest status --json | grep -q '\"connected\": true'"); err != nil {
		t.Error(err)
	}
	must(t, h, ctx, "guardring-guest leave; systemctl stop guardring-guest")
	same(t, "joining and leaving", before, must(t, h, ctx, torPicture))
	noDenials(t, h, ctx, since)
}
