package server

import (
	"encoding/json"
	"errors"

	"guardring/host-agent/rundir"
)

// Request is a line that the operator's programs send to RUN/host/server.command,
// which only root and the server's user can reach.
type Request struct {
	// Reload reads the configured gateways anew, as SIGHUP does, but with an answer.
	Reload bool `json:"reload"`
}

// Answer is what comes back.
type Answer struct {
	Served []string `json:"served"`          // gateways with a socket, sorted
	Error  string   `json:"error,omitempty"` // why not all is as configured
}

// Reload applies what Config.Reread returns (see Apply). It may be called from any
// goroutine while the server runs.
func (s *Server) Reload() error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	if s.cfg.Reread == nil {
		return errors.New("this server's gateways cannot be read anew")
	}
	gateways, err := s.cfg.Reread()
	if err != nil {
		return err
	}
	if err := s.Apply(gateways); err != nil {
		return err
	}
	s.log.Info("gateways read anew", "gateways", len(gateways))
	return nil
}

// answer is called by the command socket, in goroutines of their own.
func (s *Server) answer(question []byte) any {
	var q Request
	if err := json.Unmarshal(question, &q); err != nil || !q.Reload {
		return Answer{Error: "unknown request: want reload"}
	}
	var a Answer
	if err := s.Reload(); err != nil {
		a.Error = err.Error()
	}
	for _, g := range s.regions() {
		if g.name != rundir.Board {
			a.Served = append(a.Served, g.name)
		}
	}
	return a
}
