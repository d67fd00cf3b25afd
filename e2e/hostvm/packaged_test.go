//go:build e2e

package hostvm

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// units are the host's services and the profile that each runs under.
var units = map[string]string{"guardring-server": "guardring-server", "guardring-coordinator": "guardring-coordinator", "guardring-standby": "guardring-coordinator"}

// TestPackagedHost: our packages on a Debian host run by themselves, confined, and say that all is well.
func TestPackagedHost(t *testing.T) {
	h, ctx := host(t, installed)
	for unit, profile := range units {
		if got := must(t, h, ctx, "systemctl is-active "+unit+"; systemctl is-enabled "+unit); got != "active\nenabled\n" {
			t.Errorf("%s is %s", unit, got)
		}
		if got := labelOf(t, h, ctx, "$(systemctl show -p MainPID --value "+unit+")"); got != profile+" (enforce)" {
			t.Errorf("%s is confined by %q", unit, got)
		}
	}
	awaitStatus(t, h, ctx, "one coordinator acts, the other one stands by", func(s serverStatus) bool {
		return len(s.Coordinators) == 2 && s.Coordinators[0].Role != s.Coordinators[1].Role
	})
	wantLines(t, h, ctx, "guardring apparmor check --json")
	wantLines(t, h, ctx, "guardring doctor --json", "warn gateways")
	noDenial(t, h, ctx)

	// After a restart of the host it all comes back by itself, the server before libvirt.
	const bootID = "cat /proc/sys/kernel/random/boot_id"
	before := must(t, h, ctx, bootID)
	if err := h.Reboot(ctx); err != nil {
		t.Fatal(err)
	}
	if must(t, h, ctx, bootID) == before {
		t.Fatal("a restart, and the same boot")
	}
	for unit := range units {
		must(t, h, ctx, "systemctl is-active "+unit)
	}
	awaitStatus(t, h, ctx, "a coordinator acts", func(s serverStatus) bool {
		return slices.ContainsFunc(s.Coordinators, func(c coordinatorStatus) bool { return c.Role == "acting" })
	})
	const monotonic = "systemctl show -p ActiveEnterTimestampMonotonic --value "
	must(t, h, ctx, "[ $("+monotonic+"guardring-server) -lt $(systemctl show -p ExecMainStartTimestampMonotonic --value libvirtd) ]")
	noDenial(t, h, ctx)
}

// TestDomains: domains that libvirt starts, with the profiles that virt-aa-helper makes for them, have the device; it rings and is written both ways.
func TestDomains(t *testing.T) {
	h, ctx := host(t, attached)
	for _, d := range []string{former, made} {
		uuid := strings.TrimSpace(must(t, h, ctx, "virsh -q domuuid "+d))
		if got := labelOf(t, h, ctx, "$(cat /run/libvirt/qemu/"+d+".pid)"); got != "libvirt-"+uuid+" (enforce)" {
			t.Errorf("the QEMU of %s is confined by %q", d, got)
		}
		// Nothing of ours is in libvirt's profile but the socket, by virt-aa-helper itself.
		must(t, h, ctx, "grep -F '\"/run/guardring/gateways/"+d+".sock\" rw,' /etc/apparmor.d/libvirt/libvirt-"+uuid+".files")
	}
	wantLines(t, h, ctx, "guardring apparmor check --json")
	wantLines(t, h, ctx, "guardring doctor --json", "warn agent of "+former, "warn agent of "+made)
	freeSeat(t, h, ctx)
	ringBoth(t, h, ctx)
	must(t, h, ctx, "virsh -q destroy mail; virsh -q start --paused mail")
	ringBoth(t, h, ctx)
	must(t, h, ctx, "virsh -q destroy mail; virsh -q destroy web; guardring gateway detach mail; guardring gateway remove web")
	if got := must(t, h, ctx, "ls /etc/guardring/gateways.d; virsh -q list --all --name; virsh dumpxml --inactive mail | grep -c shmem || true"); strings.Join(strings.Fields(got), " ") != "mail 0" {
		t.Errorf("after detach and remove: %s", got)
	}
	noDenial(t, h, ctx)
}

// labelOf is the AppArmor label of a process.
func labelOf(t *testing.T, h *Host, ctx context.Context, pid string) string {
	t.Helper()
	return strings.TrimSpace(must(t, h, ctx, "cat /proc/"+pid+"/attr/current"))
}

// wantLines wants a command that checks something to find nothing but what is given as "state name".
func wantLines(t *testing.T, h *Host, ctx context.Context, command string, want ...string) {
	t.Helper()
	r, err := h.Sh(ctx, command)
	var d struct {
		Checks []struct{ State, Name string }
	}
	if err != nil || json.Unmarshal([]byte(r.Stdout), &d) != nil || len(d.Checks) == 0 {
		t.Fatalf("%s: %v, %+v", command, err, r)
	}
	var got []string
	for _, l := range d.Checks {
		if l.Name == "kvm" {
			continue // whether a machine that is a VM itself has it is not ours
		}
		if l.State != "pass" && l.State != "skip" {
			got = append(got, l.State+" "+l.Name)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s finds %q, want %q\n%s", command, got, want, r.Stdout)
	}
}

// noDenial: nothing was denied since the host was booted.
func noDenial(t *testing.T, h *Host, ctx context.Context) {
	t.Helper()
	noDenials(t, h, ctx, "")
}
