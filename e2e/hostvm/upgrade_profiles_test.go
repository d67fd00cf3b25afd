//go:build e2e

package hostvm

import (
	"strings"
	"testing"
)

// TestThePackagesProfiles: an upgrade gives the kernel the new profiles and leaves what the administrator has made of the
// files; purge takes them out of the kernel, and leaves nothing.
func TestThePackagesProfiles(t *testing.T) {
	h, ctx := host(t, installed)
	const loaded = `grep '^guardring' /sys/kernel/security/apparmor/profiles | sort`
	confined := func(what string) {
		t.Helper()
		got := must(t, h, ctx, `for unit in guardring-server guardring-coordinator guardring-standby; do
	cat /proc/$(systemctl show -P MainPID $unit)/attr/current; done`)
		if want := "guardring-server (enforce)\nguardring-coordinator (enforce)\nguardring-coordinator (enforce)\n"; got != want {
			t.Errorf("%s: the services are confined by\n%swant\n%s", what, got, want)
		}
	}
	want := "guardring (enforce)\nguardring-coordinator (enforce)\nguardring-guest (enforce)\nguardring-server (enforce)\nguardring//parser (enforce)\n"
	if got := must(t, h, ctx, loaded); got != want {
		t.Errorf("installed:\n%swant\n%s", got, want)
	}
	confined("installed")

	// The former version's profile is in the kernel; one file is edited, one has been removed.
	must(t, h, ctx, `echo 'profile guardring-server flags=(complain) { file, }' | apparmor_parser -r
echo '# mine' >>/etc/apparmor.d/guardring-coordinator
rm /etc/apparmor.d/guardring
sed -i 's/^policy: .*/policy: disjoint/' /etc/guardring/guardring.yaml
echo 'consensus: /srv/tor/cached-consensus' >>/etc/guardring/guardring.yaml
DEBIAN_FRONTEND=noninteractive dpkg -i /kit/guardring.deb 2>&1`)
	if got := must(t, h, ctx, loaded); got != want {
		t.Errorf("upgraded:\n%swant\n%s", got, want)
	}
	confined("upgraded")
	for what, script := range map[string]string{
		"an edited profile stays":             "tail -n 1 /etc/apparmor.d/guardring-coordinator | grep -q '^# mine'",
		"a removed profile stays away":        "! test -e /etc/apparmor.d/guardring",
		"the configuration stays":             "grep -q '^policy: disjoint' /etc/guardring/guardring.yaml",
		"the configuration's paths are told":  "grep -q /srv/tor/cached-consensus /etc/apparmor.d/tunables/guardring.configured",
		"the server was never without a unit": "systemctl is-active guardring-server",
	} {
		if r, err := h.Sh(ctx, script); err != nil || r.Code != 0 {
			t.Errorf("%s: it is not so: %v, %v", what, r, err)
		}
	}

	must(t, h, ctx, "dpkg -P guardring guardring-guest 2>&1")
	if got := must(t, h, ctx, loaded+" || true"); got != "" {
		t.Errorf("purged, and the kernel has\n%s", got)
	}
	left := must(t, h, ctx, `find / -xdev \( -path /kit -o -path /proc -o -path /var/lib/dpkg -o -path /var/log \) -prune -o -name '*guardring*' -print
find /run -path /run/udev -prune -o -name '*guardring*' -print; grep guardring /etc/passwd /etc/group || true; systemctl list-units --all 'guardring*' --no-legend --plain`)
	if strings.TrimSpace(left) != "" {
		t.Errorf("purged, and there is\n%s", left)
	}
}
