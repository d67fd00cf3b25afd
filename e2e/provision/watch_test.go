//go:build e2e

package provision

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// gatewayStatus is what `guardring status --json` says of a gateway.
func (h *host) gatewayStatus(name string) (present bool, domain string) {
	out, _ := exec.Command(binary, "status", "--json", "--config", h.path("guardring.yaml")).Output()
	var document struct {
		Gateways []struct {
			Name, Domain string
			Present      bool
		}
	}
	if json.Unmarshal(out, &document) != nil {
		return false, ""
	}
	for _, g := range document.Gateways {
		if g.Name == name {
			return g.Present, g.Domain
		}
	}
	return false, ""
}

func (h *host) awaitGateway(name string, present bool, domain string) {
	h.t.Helper()
	await(h.t, name+" is "+domain, func() bool { p, d := h.gatewayStatus(name); return p == present && d == domain })
}

// TestDomainsAreWatched: a coordinator that runs hears of a gateway that is made
// later; a destroyed domain makes it away, also while there is no server; and
// libvirt's absence changes nothing and is said once.
func TestDomainsAreWatched(t *testing.T) {
	h := newHost(t, "qemu:///system")
	server := h.serve()
	h.start("coordinate")
	h.started("eye")
	h.awaitGateway("eye", true, "running")
	h.virsh("suspend", "eye")
	h.awaitGateway("eye", true, "paused")
	h.virsh("destroy", "eye")
	h.awaitGateway("eye", false, "off")
	h.virsh("start", "eye")
	h.awaitGateway("eye", true, "running")

	if err := daemon.StopDaemon(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	h.awaitGateway("eye", true, "")
	if err := daemon.StartDaemon(); err != nil {
		t.Fatal(err)
	}
	h.awaitGateway("eye", true, "running")
	text, err := os.ReadFile(h.path("coordinate.log"))
	if n := strings.Count(string(text), "domains are not watched"); err != nil || n != 1 {
		t.Errorf("libvirt's absence was said %d times, %v", n, err)
	}

	_ = server.Process.Kill()
	_ = server.Wait()
	h.virsh("qemu-monitor-command", "eye", `{"execute":"query-status"}`) // libvirtd has its QEMU again
	h.virsh("destroy", "eye")
	h.awaitGateway("eye", false, "off")
}
