//go:build e2e

package e2e

import (
	"encoding/json"
	"os/exec"
	"testing"
	"time"

	"guardring/e2e/rig"
)

// guestStatus is what scenarios look at in `guardring-guest status --json`.
type guestStatus struct {
	Members  []guestMember `json:"members"`
	Problems []complaint   `json:"problems"`
}

type guestMember struct {
	Name       string     `json:"name"`
	Role       string     `json:"role"`
	Slot       int        `json:"slot"`
	ControlUp  bool       `json:"control_up"`
	NotRunning bool       `json:"not_running"`
	Gate       gateStatus `json:"join_gate"`
}

// gateStatus is what it says of the join gate.
type gateStatus struct {
	State   string `json:"state"`
	Waiting int    `json:"streams_waiting"`
	Why     string `json:"because"`
}

type complaint struct {
	Text string `json:"text"`
	Hint string `json:"hint"`
}

func (s guestStatus) member(name string) *guestMember {
	for i := range s.Members {
		if s.Members[i].Name == name {
			return &s.Members[i]
		}
	}
	return nil
}

// guestStatusOf asks the agent of a gateway; false if it does not answer (yet).
func guestStatusOf(t *testing.T, gw *rig.Gateway) (s guestStatus, ok bool) {
	t.Helper()
	out, err := gw.GuestStatus(deadline(t, 10*time.Second))
	if err != nil {
		return guestStatus{}, false
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatalf("guest status: %v: %s", err, out)
	}
	return s, true
}

// awaitAgent polls the agent's status until it is as wanted.
func awaitAgent(t *testing.T, gw *rig.Gateway, what string, ok func(guestStatus) bool) {
	t.Helper()
	poll(t, 40*time.Second, what, func() bool {
		s, there := guestStatusOf(t, gw)
		return there && ok(s)
	})
}

// bobStatus is the status of bob's agent, as a document and as a person sees it; zero if it does not answer (yet).
func (p *pair) bobStatus() (s guestStatus, text string) {
	p.t.Helper()
	s, ok := guestStatusOf(p.t, p.gb)
	out, err := exec.CommandContext(p.ctx(10*time.Second), guestBinary, "status", "--config", p.gb.ConfigFile()).Output()
	if !ok || err != nil {
		return guestStatus{}, ""
	}
	return s, string(out)
}
