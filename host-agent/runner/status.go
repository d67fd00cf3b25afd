package runner

import (
	"os"
	"path/filepath"
	"time"

	"guardring/host-agent/ledger"
	"guardring/host-agent/report"
	"guardring/internal/coordinator"
	"guardring/internal/coordinator/election"
)

// describe makes the status document.
func (r *runner) describe() report.Document {
	self := report.Self{
		PID: os.Getpid(), Number: r.board.seat, Since: r.since, Epoch: ledger.FormatEpoch(r.dir.Epoch()),
		Term: uint64(r.machine.Lease().Term), Policy: string(r.cfg.Policy), LedgerError: r.bookError,
		Doorbells: r.rung.Load(), Orders: r.ordered, Publications: r.published,
	}
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
	d := report.FromState(self, state)
	d.At = time.Now()
	for i := range d.Gateways {
		if l := r.links[d.Gateways[i].Name]; l != nil {
			d.Gateways[i].Attachment = uint64(l.region.Attachment())
		}
	}
	return d
}
