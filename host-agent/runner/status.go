package runner

import (
	"cmp"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"guardring/host-agent/domains"
	"guardring/host-agent/ledger"
	"guardring/host-agent/report"
	"guardring/host-agent/rundir"
	"guardring/internal/coordinator"
	"guardring/internal/coordinator/election"
)

// describe makes the status document.
func (r *runner) describe() report.Document {
	self := report.Self{
		PID: os.Getpid(), Number: r.board.seat, Since: r.since, Epoch: ledger.FormatEpoch(r.dir.Epoch()),
		Term: uint64(r.machine.Lease().Term), Policy: string(r.cfg.Policy), LedgerError: r.bookError,
		Doorbells: r.rung.Load(), Orders: r.ordered, Publications: r.published,
		Goroutines: runtime.NumGoroutine(),
	}
	self.JournalError, self.ConsensusError, self.ConsensusGuards = r.records.fault(), r.verification.fault, len(r.verification.facts)
	if blocked := r.machine.Blocked(); blocked != "" {
		self.LedgerError = blocked
	}
	var state coordinator.State
	switch r.machine.State() {
	case election.Acting:
		self.Role = report.RoleActing
		self.LedgerFile, self.LedgerBytes = filepath.Base(r.book.Name()), r.book.Size()
		state = r.core.State()
	case election.Standby:
		self.Role = report.RoleStandby
		if other, _ := r.machine.Other(); other.Acting {
			self.Term = uint64(other.Term)
		}
	default:
		self.Role = report.RoleElecting
	}
	d := document(self, state)
	d.At = time.Now()
	// What is attached, also while the core is not asked (standby) or has just
	// been thrown away (full disk).
	gateway := func(name string) *report.Gateway {
		i := slices.IndexFunc(d.Gateways, func(g report.Gateway) bool { return g.Name == name })
		if i < 0 {
			i = len(d.Gateways)
			d.Gateways = append(d.Gateways, report.Gateway{Name: name, Present: r.links[name] != nil && r.links[name].seat().held})
		}
		return &d.Gateways[i]
	}
	for _, l := range r.sorted() {
		g := gateway(l.name)
		g.Attachment = uint64(l.region.Attachment())
		if at := l.paced.Load(); at != nil {
			g.Paced = *at
		}
	}
	for _, s := range r.domains {
		if s.State != domains.StateUnknown {
			gateway(s.Gateway).Domain = string(s.State)
		}
	}
	for name, dial := range r.dials {
		// A region that we have works on without its server, which says so itself.
		if name != rundir.Board && dial.fault != "" && r.links[name] == nil {
			gateway(name).Fault = dial.fault
		}
	}
	slices.SortFunc(d.Gateways, func(a, b report.Gateway) int { return cmp.Compare(a.Name, b.Name) })
	return d
}
