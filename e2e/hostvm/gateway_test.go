//go:build e2e

package hostvm

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// The two gateways of the state attached: one whose domain was there before, and one that guardring made. Their QEMUs have a qtest socket,
// by which /kit/bell plays the guest; their processors never run.
const (
	former = "mail"
	made   = "web"
)

// qtestArgs are a domain's element for a qtest socket. The path is one that libvirt's profile of every domain has.
func qtestArgs(domain string) string {
	return "<qemu:commandline><qemu:arg value='-qtest'/><qemu:arg value='unix:" + qtestSocket(domain) + ",server=on,wait=off'/></qemu:commandline>"
}

func qtestSocket(domain string) string {
	return "/var/lib/libvirt/qemu/domain-" + domain + "/monitor.sock"
}

const qemuNamespace = "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"

// formerDomain is a domain that an administrator had.
var formerDomain = `<domain type='qemu' ` + qemuNamespace + `>
<name>` + former + `</name><memory unit='MiB'>32</memory><os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/><apic/></features>
<devices><controller type='usb' model='none'/><memballoon model='none'/></devices>` + qtestArgs(former) + `
</domain>`

// attach makes both gateways and starts their domains.
func attach(ctx context.Context, h *Host) error {
	if err := h.Put(ctx, "/root/former.xml", []byte(formerDomain), 0o600); err != nil {
		return err
	}
	_, err := h.Run(ctx, `for d in mail web; do install -d -o libvirt-qemu -g libvirt-qemu /var/lib/libvirt/qemu/domain-$d; done
virsh -q define /root/former.xml
guardring gateway attach mail
truncate -s 1M /var/lib/libvirt/images/web.raw
guardring gateway create web --disk /var/lib/libvirt/images/web.raw --disk-format raw --type qemu --memory 128 --user-network 192.168.71.0/24`)
	if err != nil {
		return err
	}
	text, err := h.Run(ctx, "virsh dumpxml --inactive web")
	if err != nil {
		return err
	}
	text = strings.Replace(text, "<domain ", "<domain "+qemuNamespace+" ", 1)
	text = strings.Replace(text, "</domain>", qtestArgs(made)+"</domain>", 1)
	if err := h.Put(ctx, "/root/made.xml", []byte(text), 0o600); err != nil {
		return err
	}
	_, err = h.Run(ctx, "virsh -q define /root/made.xml; virsh -q start --paused mail; virsh -q start --paused web")
	return err
}

// serverStatus is what `guardring status --json` says of server and coordinators, as far as it is looked at here.
type serverStatus struct {
	Coordinators []coordinatorStatus `json:"coordinators"`
	Server       struct {
		PID      int             `json:"pid"`
		Gateways []gatewayStatus `json:"gateways"`
	} `json:"server"`
}

type coordinatorStatus struct {
	PID  int    `json:"pid"`
	Role string `json:"role"`
}

type gatewayStatus struct {
	Name        string `json:"name"`
	RegionEpoch string `json:"region_epoch"`
	Attachment  int    `json:"attachment"`
	TakenOver   bool   `json:"taken_over"`
	Seats       []seat `json:"seats"`
}

type seat struct {
	Seat  int    `json:"seat"`
	State string `json:"state"`
	PID   int    `json:"pid"`
}

// held is what has to stay as it is while a server is replaced: the region, which attachment it is, and who has the guest seat.
func (s serverStatus) held(gateway string) string {
	for _, g := range s.Server.Gateways {
		if g.Name == gateway && len(g.Seats) == 3 {
			return fmt.Sprintf("region %s, attachment %d, guest seat %s, process %d", g.RegionEpoch, g.Attachment, g.Seats[2].State, g.Seats[2].PID)
		}
	}
	return "not served"
}

// ready says whether a coordinator acts and has one host seat of each gateway, while the other one is free.
func (s serverStatus) ready() bool {
	for _, g := range s.Server.Gateways {
		if len(g.Seats) != 3 || (g.Seats[0].State == "connected") == (g.Seats[1].State == "connected") {
			return false
		}
	}
	return len(s.Server.Gateways) == 2 && len(s.Coordinators) == 1 && s.Coordinators[0].Role == "acting"
}

// awaitStatus asks until ok says yes.
func awaitStatus(t *testing.T, h *Host, ctx context.Context, what string, ok func(serverStatus) bool) serverStatus {
	t.Helper()
	limit, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		r, err := h.Sh(limit, "guardring status --json || [ $? -le 2 ]") // a verdict is no failure
		var s serverStatus
		if err == nil && json.Unmarshal([]byte(r.Stdout), &s) == nil && ok(s) {
			return s
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-limit.Done():
			t.Fatalf("still not: %s: %v %s%s", what, err, r.Stdout, r.Stderr)
		}
	}
}

// freeSeat stops one of the two coordinators, so that bell finds a host seat, and waits until the other one acts.
func freeSeat(t *testing.T, h *Host, ctx context.Context) serverStatus {
	t.Helper()
	must(t, h, ctx, "systemctl stop guardring-standby")
	return awaitStatus(t, h, ctx, "one coordinator that acts and has a seat of each gateway", serverStatus.ready)
}

// ringBoth has each gateway's device and a host agent ring and write both ways.
func ringBoth(t *testing.T, h *Host, ctx context.Context) {
	t.Helper()
	for _, g := range []string{former, made} {
		ring(t, h, ctx, g)
	}
}

func ring(t *testing.T, h *Host, ctx context.Context, gateway string) {
	t.Helper()
	said := must(t, h, ctx, fmt.Sprintf("/kit/bell %s /run/guardring/host/%s.sock", qtestSocket(gateway), gateway))
	if !strings.HasPrefix(said, "guest seat 2, ") || !strings.Contains(said, "both ways") {
		t.Errorf("gateway %s: %s", gateway, said)
	}
}
