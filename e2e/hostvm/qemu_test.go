//go:build e2e

package hostvm

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// domain is a machine without anything, which is never run: it has a QEMU when it is started.
const domain = `<domain type='qemu'>
  <name>NAME</name>
  <memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <features><acpi/></features>
  <devices><controller type='usb' model='none'/><memballoon model='none'/></devices>
</domain>
`

// gatewayDomain defines a domain and makes a gateway of it, and returns its UUID.
func gatewayDomain(t *testing.T, h *Host, ctx context.Context, name string) string {
	t.Helper()
	if err := h.Put(ctx, "/root/"+name+".xml", []byte(strings.ReplaceAll(domain, "NAME", name)), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, h, ctx, fmt.Sprintf("virsh -q define /root/%s.xml; guardring gateway attach %[1]s --polling", name))
	return strings.TrimSpace(must(t, h, ctx, "virsh -q domuuid "+name))
}

// giverProfile confines a server that hands out a file, so that the kernel asks whether the receiver may have it.
const giverProfile = "abi <abi/3.0>,\nprofile giver flags=(attach_disconnected) { file, network unix, unix, capability, signal, ptrace (readby), }\n"

// TestQEMUIsConfined: a gateway's QEMU that was taken over, under the profile that libvirt has made for it, is told by its monitor to reach for what
// is another's. The profile denies it, or, for what this kernel does not mediate, our server does.
func TestQEMUIsConfined(t *testing.T) {
	h, ctx := host(t, installed)
	since := mark(t, h, ctx)
	must(t, h, ctx, "guardring hook install; systemctl restart libvirtd")
	rightful, thief := gatewayDomain(t, h, ctx, "rightful"), gatewayDomain(t, h, ctx, "thief")
	must(t, h, ctx, "virsh -q start --paused thief; install -m 666 /dev/null /dev/shm/memory; truncate -s 1M /dev/shm/memory")
	if err := h.Put(ctx, "/run/giver.profile", []byte(giverProfile), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, h, ctx, "apparmor_parser -r /run/giver.profile; systemd-run --quiet --unit=giver aa-exec -p giver -- /kit/giver /run/giver.sock /dev/shm/memory")
	if err := h.Await(ctx, "the giver listens", "journalctl -u giver -o cat | grep -qx listens"); err != nil {
		t.Fatal(err)
	}
	profile := "libvirt-" + thief
	var checked struct {
		Processes []struct{ Name, Profile, Mode string }
	}
	decode(t, must(t, h, ctx, "guardring apparmor check --json"), &checked)
	if !slices.Contains(checked.Processes, struct{ Name, Profile, Mode string }{"gateway thief", profile, "enforce"}) {
		t.Errorf("what is confined: %+v", checked.Processes)
	}
	noDenials(t, h, ctx, since)

	const other = "/var/lib/libvirt/qemu/other.sock"
	for _, attempt := range []struct {
		command   string // of the monitor
		says      string
		operation string // in the log; "" where users and modes are in the way already
		name      string
	}{
		{"chardev-add socket,id=a,path=" + other + ",server=on,wait=off", "Permission denied", "mknod", other},
		{"object_add memory-backend-file,id=b,mem-path=/dev/shm/memory,size=1M,share=on", "Permission denied", "open", "/dev/shm/memory"},
		{"drive_add 0 file=/etc/guardring/guardring.yaml,format=raw,if=none,readonly=on,id=c", "Permission denied", "open", "/etc/guardring/guardring.yaml"},
		{"chardev-add socket,id=d,path=/run/guardring/host/rightful.sock", "Permission denied", "", ""},
		{"chardev-add socket,id=e,path=/run/giver.sock", "", "", ""},
		{"device_add ivshmem-doorbell,chardev=e,vectors=2", "can't determine size of shared memory", "file_receive", "/dev/shm/memory"},
	} {
		since := mark(t, h, ctx)
		r, err := h.Sh(ctx, "timeout 60 virsh -q qemu-monitor-command thief --hmp '"+attempt.command+"' 2>&1")
		if said := strings.TrimSpace(r.Stdout); err != nil || !strings.Contains(said, attempt.says) || attempt.says == "" && said != "" {
			t.Errorf("%s: %q, %v", attempt.command, said, err)
		}
		denied, err := h.Denials(ctx, since)
		if err != nil {
			t.Fatal(err)
		}
		if attempt.operation != "" && !slices.ContainsFunc(denied, func(r Record) bool {
			return r.Fields["profile"] == profile && r.Fields["operation"] == attempt.operation && r.Fields["name"] == attempt.name
		}) {
			t.Errorf("%s: not in the log: %v", attempt.command, denied)
		}
	}
	// The same user may do it all, without the profile.
	said, _ := trespass(t, h, ctx, "", []string{"bind=" + other, "write=/dev/shm/memory", "read=/etc/guardring/guardring.yaml"}, "setpriv --reuid=libvirt-qemu --regid=libvirt-qemu --clear-groups ")
	for what, came := range said {
		if came != "allowed" {
			t.Errorf("%s without the profile: %s", what, came)
		}
	}

	// Another gateway's region. This kernel lets everybody connect to a socket whose mode allows it.
	since = mark(t, h, ctx)
	must(t, h, ctx, "virsh -q qemu-monitor-command thief --hmp 'chardev-add socket,id=f,path=/run/guardring/gateways/rightful.sock'")
	wanted := []string{"not the gateway's domain", "gateway=rightful", "libvirt-" + thief, "want domain " + rightful}
	awaitLog(t, h, ctx, wanted...)
	if r, err := h.Sh(ctx, "guardring status"); err != nil || !strings.Contains(r.Stdout, "gateway rightful, in the last minute: refused: not the gateway's domain") {
		t.Errorf("status: %+v, %v", r, err)
	}

	// Others that are not that domain's QEMU.
	const libvirtUser = "setpriv --reuid=libvirt-qemu --regid=libvirt-qemu --clear-groups "
	take := "/kit/standin -uuid=UUID /run/guardring/gateways/rightful.sock"
	for n := range 4 {
		take += " " + relay(n)
	}
	for _, c := range []struct{ who, how, uuid, why string }{
		{"a process with the thief's label", libvirtUser + "aa-exec -p " + profile + " -- ", rightful, "libvirt-" + thief},
		{"a QEMU of another domain, by its command line", libvirtUser, thief, "it is domain"},
		{"no QEMU of libvirt's", libvirtUser, "", "its command line has no -uuid"},
		{"another user of QEMU's group", "setpriv --reuid=nobody --regid=libvirt-qemu --clear-groups ", rightful, "user and group not allowed"},
	} {
		must(t, h, ctx, "systemctl restart guardring-server") // which else would sum its lines up
		command := strings.ReplaceAll(take, "-uuid=UUID", "-uuid "+c.uuid)
		if c.uuid == "" {
			command = strings.ReplaceAll(take, "-uuid=UUID", "")
		}
		r, err := h.Sh(ctx, "timeout 60 "+c.how+command)
		if err != nil || r.Code != 1 || !strings.Contains(r.Stderr, "this process may not have the seat") {
			t.Errorf("%s: %+v, %v", c.who, r, err)
		}
		awaitLog(t, h, ctx, "refused", "gateway=rightful", c.why)
	}
	// The right user with the right UUID has it, so nothing else was in their way.
	r, err := h.Sh(ctx, "timeout 5 "+libvirtUser+strings.ReplaceAll(take, "-uuid=UUID", "-uuid "+rightful))
	if err != nil || !strings.HasPrefix(r.Stdout, "seat taken\n") {
		t.Errorf("the rightful domain: %+v, %v", r, err)
	}
	denied, err := h.Denials(ctx, since)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range denied {
		if strings.HasPrefix(r.Fields["profile"], "guardring") {
			t.Errorf("denied: %v", r)
		}
	}
}

// awaitLog waits until a line of the server's log has all of these.
func awaitLog(t *testing.T, h *Host, ctx context.Context, all ...string) {
	t.Helper()
	script := `journalctl -u guardring-server -o cat _PID="$(systemctl show -P MainPID guardring-server)" | tr -d '\\'`
	for _, part := range all {
		script += fmt.Sprintf(" | grep -F %q", part)
	}
	ctx, cancel := context.WithTimeout(ctx, statusLimit)
	defer cancel()
	if err := h.Await(ctx, "the server says so", script); err != nil {
		t.Error(err)
	}
}
