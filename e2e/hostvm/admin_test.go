//go:build e2e

package hostvm

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// adminLimit bounds the whole page. A calm machine takes a sixth.
const adminLimit = 20 * time.Minute

// TestAdminPageHost has a fresh Debian host do what docs/ADMIN.md says, block by block, from the installation to the purge, with an upgrade between.
func TestAdminPageHost(t *testing.T) {
	h, _ := host(t, booted)
	ctx, cancel := context.WithTimeout(t.Context(), adminLimit)
	defer cancel()
	a := &admin{t: t, h: h, ctx: ctx, notes: map[string]string{}}

	// What the page says is there: packages in two directories, disks, and a domain.
	bring(t, ctx, h, "/var/tmp/guardring", "../../build/deb", "guardring.deb")
	bring(t, ctx, h, "/var/tmp/guardring-new", filepath.Join(work, "next/debs"), "next.deb")
	if err := h.Put(ctx, "/root/Whonix-Gateway.xml", []byte(whonixDomain), 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, h, ctx, `cd /var/lib/libvirt/images
for d in updates apps Whonix-Gateway; do qemu-img create -q -f qcow2 $d.qcow2 1G; done
virsh define /root/Whonix-Gateway.xml`)

	before := a.footprint()
	mark, err := h.Mark(ctx)
	if err != nil {
		t.Fatal(err)
	}
	a.run(pageBlocks(t, "", "repair"), map[string]check{
		"guardring gateway attach Whonix-Gateway --name browsing --with-agent\nvirsh": {before: func() {
			a.note("document", "virsh dumpxml --inactive Whonix-Gateway")
		}},
		// Three machines without a system: what their agents would say is said for them. Two have a common guard.
		"guardring explain browsing": {before: func() {
			a.publish("browsing", 1, common, 2, 3)
			a.await("browsing is a member", "guardring status --json | grep browsing/default")
			a.publish("updates", 4, common, 5, 6)
			a.publish("apps", 7, 8, 9, 10)
			a.await("three gateways are members, and the later of two has a conflict",
				"guardring status --json >/run/s; grep apps/default /run/s; grep '\"newcomer\": \"updates/default\"' /run/s")
		}},
		"guardring check-config\nsystemctl restart": {after: func() {
			a.await("updates is told to leave the common guard", "guardring explain updates | grep 'updates/default was told not to use guard'")
			a.publish("updates", 4, 5, 6, 11)
			a.await("no two gateways have a common guard", "guardring status --json | grep '\"conflicts\": \\[\\]'")
		}},
		"cd /var/tmp/guardring-new": {before: func() {
			a.note("version", "guardring version")
			a.note("server", "systemctl show -p MainPID --value guardring-server")
			a.note("QEMUs", "pgrep qemu-system | sort")
			a.note("seats", seats)
		}, after: func() {
			a.changed("version", "server")
			a.same("QEMUs", "seats")
		}},
		"virsh destroy Whonix-Gateway": {after: func() {
			a.same("document")
			if got := must(t, h, ctx, "virsh list --all --name; ls /etc/guardring/gateways.d"); strings.TrimSpace(got) != "Whonix-Gateway" {
				t.Errorf("after the removal there are %q", got)
			}
		}},
	})
	for _, l := range difference(before, a.footprint()) {
		t.Errorf("after the purge: %s", l)
	}
	denied, err := h.Denials(ctx, mark)
	if err != nil {
		t.Error(err)
	}
	for _, d := range denied {
		if strings.HasPrefix(d.Fields["profile"], "guardring") {
			t.Errorf("AppArmor has denied something that the page asks for: %v", d)
		}
	}
}

// seats says who has the guest seats, and by which connections: their numbers grow.
const seats = `guardring gateway list; guardring status --json | grep -o '"attachment": [0-9]*' | sort -u`

// whonixDomain is a domain that exists before the page is read.
const whonixDomain = `<domain type='qemu'>
  <name>Whonix-Gateway</name>
  <memory unit='MiB'>64</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <features><acpi/><apic/></features>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='/var/lib/libvirt/images/Whonix-Gateway.qcow2'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <memballoon model='none'/>
  </devices>
</domain>
`

// admin does what the page says.
type admin struct {
	t     *testing.T
	h     *Host
	ctx   context.Context
	notes map[string]string // what scripts said, and by name
	asked map[string]string // the scripts
}

// check is done around a block.
type check struct{ before, after func() }

// run runs the blocks in order. Checks are by what the block's script contains; each must be done.
func (a *admin) run(blocks []Block, checks map[string]check) {
	a.t.Helper()
	done := map[string]bool{}
	for _, b := range blocks {
		var here []check
		for key, c := range checks {
			if strings.Contains(b.Script, key) {
				here = append(here, c)
				done[key] = true
			}
		}
		for _, c := range here {
			if c.before != nil {
				c.before()
			}
		}
		a.block(b)
		for _, c := range here {
			if c.after != nil {
				c.after()
			}
		}
	}
	for key := range checks {
		if !done[key] {
			a.t.Errorf("no block of the page has %q", key)
		}
	}
}

// block runs one block as it is written, and compares what it says with what the page promises.
func (a *admin) block(b Block) {
	a.t.Helper()
	began := time.Now()
	out, err := try(a.ctx, a.h, b)
	if err != nil {
		a.t.Fatal(err)
	}
	first, _, _ := strings.Cut(b.Script, "\n")
	a.t.Logf("line %d: %.1f s: %s", b.Line, time.Since(began).Seconds(), first)
	if m := missing(out, b.Shows); m != "" {
		a.t.Errorf("line %d: no line %q in what this says:\n%s\n%s", b.Line, m, b.Script, out)
	}
}

// try runs a block in a host and returns what it says. Another exit code than the page's is an error.
func try(ctx context.Context, h *Host, b Block) (string, error) {
	r, err := h.Sh(ctx, "exec 2>&1\n"+b.Script)
	if err == nil && r.Code != b.Code {
		err = fmt.Errorf("code %d, want %d:\n%s\nsays\n%s", r.Code, b.Code, b.Script, r.Stdout)
	}
	if err != nil {
		err = fmt.Errorf("line %d: %w", b.Line, err)
	}
	return r.Stdout, err
}

// common is the number of the guard that two gateways have.
const common = 99

// publish shows guards of a gateway, by invented numbers, in place of its agent.
func (a *admin) publish(gateway string, guards ...int) {
	a.t.Helper()
	script := "/kit/publish " + gateway
	for _, n := range guards {
		script += fmt.Sprintf(" %040X@11.%d.0.1:9001", n, n)
	}
	must(a.t, a.h, a.ctx, script)
}

// await waits until a script succeeds.
func (a *admin) await(what, script string) {
	a.t.Helper()
	if err := a.h.Await(a.ctx, what, script); err != nil {
		a.t.Fatal(err)
	}
}

// note keeps what a script says; changed and same run it again and compare.
func (a *admin) note(name, script string) {
	if a.asked == nil {
		a.asked = map[string]string{}
	}
	a.asked[name] = script
	a.notes[name] = must(a.t, a.h, a.ctx, script)
}

func (a *admin) changed(names ...string) { a.compare(true, names) }
func (a *admin) same(names ...string)    { a.compare(false, names) }

func (a *admin) compare(change bool, names []string) {
	a.t.Helper()
	for _, n := range names {
		if now := must(a.t, a.h, a.ctx, a.asked[n]); (now != a.notes[n]) != change {
			a.t.Errorf("%s: want a change: %t; before:\n%snow:\n%s", n, change, a.notes[n], now)
		}
	}
}

//go:embed footprint.sh
var footprintScript string

// footprint lists what a package could leave in a system.
func (a *admin) footprint() []string {
	a.t.Helper()
	return strings.Split(strings.TrimSpace(must(a.t, a.h, a.ctx, footprintScript)), "\n")
}

// difference says which lines are in one of two lists only.
func difference(before, after []string) []string {
	var out []string
	for _, l := range before {
		if !slices.Contains(after, l) {
			out = append(out, "gone: "+l)
		}
	}
	for _, l := range after {
		if !slices.Contains(before, l) {
			out = append(out, "left: "+l)
		}
	}
	return out
}

// bring puts the host's package and the checksums, as make deb has made them, into a directory of the host. The package is in /kit.
func bring(t *testing.T, ctx context.Context, h *Host, dir, built, kitName string) {
	t.Helper()
	files, err := filepath.Glob(built + "/guardring_*_amd64.deb")
	if err != nil || len(files) != 1 {
		t.Fatalf("packages in %s: %q, %v (try: make deb)", built, files, err)
	}
	sums, err := os.ReadFile(built + "/SHA256SUMS")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Put(ctx, dir+"/SHA256SUMS", sums, 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, h, ctx, "cp /kit/"+kitName+" '"+dir+"/"+filepath.Base(files[0])+"'")
}
