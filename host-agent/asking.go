package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"guardring/host-agent/config"
	"guardring/host-agent/domains"
	"guardring/host-agent/report"
	"guardring/host-agent/rundir"
	"guardring/host-agent/server"
	"guardring/internal/hint"
	"guardring/internal/statussock"
	"guardring/shmproto"
)

const (
	// fetchTime is how long server and coordinators may take for an answer.
	fetchTime = 3 * time.Second
	// reloadTime is how long the server may take to read its configuration and make
	// what is new.
	reloadTime = 20 * time.Second
)

// answers are what server and coordinators say of themselves, or why they say nothing.
func answers(cfg config.Config) report.Answers {
	var a report.Answers
	run := rundir.Dir(cfg.RunDir)
	a.Server, a.ServerErr = statussock.Fetch(run.Server(), "guardring serve", fetchTime)
	for n := range shmproto.HostSeats {
		data, err := statussock.Fetch(run.Coordinator(n), "guardring coordinate", fetchTime)
		var d report.Document
		if err == nil {
			err = json.Unmarshal(data, &d)
		}
		if err == nil && d.Self.PID == 0 {
			err = errors.New("the coordinator is busy")
		}
		if err != nil {
			// The reason that is not just "nobody is there" says more.
			if a.CoordinatorErr == nil || errors.Is(a.CoordinatorErr, fs.ErrNotExist) {
				a.CoordinatorErr = err
			}
			continue
		}
		a.Coordinators = append(a.Coordinators, d)
	}
	return a
}

// serverStatus is the server's document.
func serverStatus(cfg config.Config) (st server.Status, err error) {
	data, err := statussock.Fetch(rundir.Dir(cfg.RunDir).Server(), "guardring serve", fetchTime)
	if err == nil {
		err = json.Unmarshal(data, &st)
	}
	return st, err
}

// seats asks the server for the guest seat of each gateway; nil if none answers.
func seats(cfg config.Config) map[string]string {
	st, err := serverStatus(cfg)
	if err != nil {
		return nil
	}
	all := map[string]string{}
	for _, g := range st.Gateways {
		all[g.Name] = g.Guest().State
	}
	return all
}

// command asks the coordinators until one acts.
func command(runDir string, q report.Request) (report.Answer, error) {
	fault := errors.New("no coordinator acts")
	for n := range shmproto.HostSeats {
		data, err := statussock.Ask(rundir.Dir(runDir).Command(n), "guardring coordinate", q, fetchTime)
		var a report.Answer
		if err == nil {
			err = json.Unmarshal(data, &a)
		}
		switch {
		case err != nil:
			if !errors.Is(err, fs.ErrNotExist) {
				fault = err
			}
		case a.Standby:
		case a.Error != "":
			return a, hint.Errorf("guardring status shows gateways and members", "%s", a.Error)
		default:
			return a, nil
		}
	}
	return report.Answer{}, hint.Wrap(fault, "guardring status tells who coordinates")
}

// reloadServer has the server read its configuration, and returns what it serves.
func reloadServer(runDir string) ([]string, error) {
	data, err := statussock.Ask(rundir.Dir(runDir).ServerCommand(), "guardring serve", server.Request{Reload: true}, reloadTime)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, domains.ErrNoServer
	}
	var a server.Answer
	if err == nil {
		err = json.Unmarshal(data, &a)
	}
	if err == nil && a.Error != "" {
		err = fmt.Errorf("the server: %s", a.Error)
	}
	return a.Served, err
}

// judge asks server and coordinators, and shortens fingerprints unless asked not
// to.
func judge(cfg config.Config) report.Status {
	s := report.Judge(answers(cfg))
	if !cfg.ShowFingerprints {
		s = s.Shorten()
	}
	return s
}
