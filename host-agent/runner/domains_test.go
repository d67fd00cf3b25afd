package runner

import (
	"context"
	"testing"
	"time"

	"guardring/host-agent/domains"
	"guardring/internal/coordinator"
)

// watched gives the rig a watch that tells what is sent.
func (r *rig) watched() chan<- domains.Seen {
	sent := make(chan domains.Seen)
	r.cfg.Watch = func(ctx context.Context, tell func(domains.Seen)) {
		tell(domains.Seen{})
		for {
			select {
			case s := <-sent:
				tell(s)
			case <-ctx.Done():
				return
			}
		}
	}
	return sent
}

// TestDomainEndsWithoutServer: while there is no server, libvirt's word tells that
// a gateway is away; with a server its process's end does, whatever libvirt says.
func TestDomainEndsWithoutServer(t *testing.T) {
	r := newRig(t, coordinator.PolicyDisjoint, "a")
	r.cfg.Rescan = 100 * time.Millisecond
	see := r.watched()
	r.coordinateHere()
	r.guestProcess("a", sampleA()...)
	before := claims(r.state("a/default", "present"))
	// A libvirt that does not know of this QEMU is wrong.
	see <- domains.Seen{Gateway: "a", State: domains.StateOff}
	time.Sleep(5 * r.cfg.Rescan) // for what must not happen there is no event
	if m := r.member("a/default"); m.State != "present" {
		t.Fatalf("%s although its process has the seat", m.State)
	}
	r.end()
	away := r.state("a/default", "away")
	if len(before) != 3 || len(claims(away)) != 3 {
		t.Errorf("claims %v, had %v", claims(away), before)
	}
	see <- domains.Seen{Gateway: "a", State: domains.StateRunning}
	r.state("a/default", "present")
	see <- domains.Seen{Gateway: "a", State: domains.StateUnknown} // libvirt is gone
	time.Sleep(5 * r.cfg.Rescan)
	if m := r.member("a/default"); m.State != "present" {
		t.Fatalf("%s because libvirt does not answer", m.State)
	}
}

// TestNewGeneration: a VM with a new generation and the old sample was rolled back.
func TestNewGeneration(t *testing.T) {
	r := newRig(t, coordinator.PolicyDisjoint, "a")
	r.cfg.Rescan = 100 * time.Millisecond
	see := r.watched()
	r.coordinateHere()
	see <- domains.Seen{Gateway: "a", State: domains.StateRunning, Generation: "1"}
	r.guest("a").publish(sampleA()...)
	if m := r.state("a/default", "present"); !m.RolledBack.IsZero() {
		t.Fatal("rolled back by its first generation")
	}
	see <- domains.Seen{Gateway: "a", State: domains.StateUnknown, Generation: "1"} // libvirt is gone for a while
	see <- domains.Seen{Gateway: "a", State: domains.StateRunning, Generation: "2"}
	r.eventually("it is named", func() bool { return !r.member("a/default").RolledBack.IsZero() })
	if got := r.actingDocument().Gateways[0].Domain; got != "running" {
		t.Errorf("its domain is %q in status", got)
	}
}
