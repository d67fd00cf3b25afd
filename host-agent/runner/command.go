package runner

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"guardring/host-agent/report"
	"guardring/internal/coordinator"
)

// asked is a command of the operator that the loop is to do.
type asked struct {
	request report.Request
	answer  chan report.Answer
}

// ask is called by the command socket, in goroutines of their own.
func (r *runner) ask(question []byte) any {
	var q report.Request
	if err := json.Unmarshal(question, &q); err != nil {
		return report.Answer{Error: "no request: " + err.Error()}
	}
	a := asked{q, make(chan report.Answer, 1)}
	select {
	case r.commands <- a:
		return <-a.answer
	case <-time.After(2 * time.Second):
		return report.Answer{Error: "the coordinator is busy"}
	}
}

// command does what the operator asks for. Only who acts can.
func (r *runner) command(q report.Request) report.Answer {
	if !r.acting() {
		return report.Answer{Standby: true, Error: "this coordinator does not act"}
	}
	gateway, instance, _ := strings.Cut(q.Allow, "/")
	if gateway == "" {
		return report.Answer{Error: "unknown request: want allow, with a gateway"}
	}
	var known []string
	found := false
	for _, m := range r.core.State().Members {
		known = append(known, m.Member.String())
		found = found || m.Member.Gateway == gateway && (instance == "" || m.Member.Instance == instance)
	}
	if !found {
		slices.Sort(known)
		if len(known) == 0 {
			return report.Answer{Error: fmt.Sprintf("no member %s is known: no gateway has a member yet", q.Allow)}
		}
		return report.Answer{Error: fmt.Sprintf("no member %s is known; known are: %s", q.Allow, strings.Join(known, ", "))}
	}
	a := report.Answer{Allowed: []report.Allowance{}}
	ready, done := r.step(coordinator.Allowed{At: time.Now(), Gateway: gateway, Instance: instance}, "")
	if !done {
		return report.Answer{Error: "it could not be made durable: see guardring status"}
	}
	for _, n := range ready.Notices {
		if n.Kind == coordinator.NoticeAllowed {
			a.Allowed = append(a.Allowed, report.Allowance{Member: n.Member.String(), Waiting: n.Count})
		}
	}
	return a
}
