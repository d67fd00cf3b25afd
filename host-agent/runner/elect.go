package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"guardring/host-agent/ledger"
	"guardring/internal/coordinator"
	"guardring/internal/coordinator/election"
	"guardring/internal/hint"
	"guardring/shmproto"
)

// elect gives one event to the machine and does what it says; the answer of an
// action is given in at once.
func (r *runner) elect(e election.Event) {
	before := r.machine.State()
	r.do(r.machine.Step(e))
	if now := r.machine.State(); now != before {
		r.since = time.Now()
		r.log.Info("election", "was", before.String(), "is", now.String(), "term", uint64(r.machine.Lease().Term))
	}
}

func (r *runner) do(actions []election.Action) {
	for _, a := range actions {
		if answer := r.act(a); answer != nil {
			r.do(r.machine.Step(answer))
		}
	}
}

// act does one action of the election and returns its answer, nil if it has
// none.
func (r *runner) act(a election.Action) election.Event {
	switch a := a.(type) {
	case election.SetLease:
		r.show(a.Lease)
		return nil
	case election.ClaimTerm:
		err := r.dir.Claim(a.Term)
		switch {
		case errors.Is(err, ledger.ErrTaken):
			highest, herr := r.dir.Highest()
			if herr != nil {
				return r.failed("read the terms", herr)
			}
			return election.Taken{Highest: highest}
		case err != nil:
			return r.failed("claim the term", err)
		}
		return election.Claimed{}
	case election.FenceRegions:
		r.show(a.Lease)
		shmproto.Fence()
		return election.Fenced{}
	case election.ReadLedger:
		if err := r.restore(a.Term); err != nil {
			return r.failed("read the ledger", err)
		}
		return election.LedgerRead{}
	case election.WriteLedger:
		if err := r.create(a.Term); err != nil {
			return r.failed("write the ledger", err)
		}
		return election.LedgerWritten{Other: r.board.other()}
	case election.Act:
		r.begun()
		return nil
	case election.StandDown:
		r.forget()
		return election.StoodDown{}
	}
	panic(fmt.Sprintf("runner: unknown action %T", a))
}

// failed reports why a take-over failed; the machine tries again later.
func (r *runner) failed(what string, err error) election.Event {
	r.bookError = err.Error()
	attrs := []any{"what", what, "error", err}
	if h := hint.Of(err); h != "" {
		attrs = append(attrs, "hint", h)
	}
	r.log.Error("cannot take over", attrs...)
	return election.Failed{}
}

// show sets our lease everywhere.
func (r *runner) show(l shmproto.Lease) {
	r.board.leases.Set(r.board.seat, l)
	for _, one := range r.links {
		one.host.SetLease(l)
	}
}

// restore makes a core out of the ledgers before a term.
func (r *runner) restore(before shmproto.Term) error {
	h, err := r.dir.Read(before)
	if err != nil {
		return err
	}
	core, err := coordinator.New(r.cfg.core(r.dir.Epoch(), r.seed))
	if err != nil {
		return err
	}
	var records []coordinator.Record
	for i, line := range h.Lines {
		var step []coordinator.Record
		if err := json.Unmarshal(line, &step); err != nil {
			return fmt.Errorf("ledger of term %d, step %d: %w", h.Term, i, err)
		}
		if i >= 1 && i <= h.Late {
			step = coordinator.Late(step)
		}
		records = append(records, step...)
	}
	if err := core.Restore(records); err != nil {
		return fmt.Errorf("ledger of term %d: %w", h.Term, err)
	}
	if h.Torn {
		r.log.Info("the ledger's last line was cut off by a crash and is dropped; its order never reached a gateway", "term", uint64(h.Term))
	}
	r.core, r.history = core, h
	return nil
}

// create writes our own ledger whole and removes those that nobody needs.
func (r *runner) create(t shmproto.Term) error {
	snapshot, err := json.Marshal(r.core.Snapshot())
	if err != nil {
		return err
	}
	book, err := r.dir.Create(t, r.history, snapshot)
	if err != nil {
		return err
	}
	r.book, r.bookError = book, ""
	keep := r.history.Term
	// The other seat's process may still append to its file.
	if l := r.board.other(); l.Epoch == r.dir.Epoch() && l.Term > 0 {
		keep = min(keep, l.Term)
	}
	if err := r.dir.Sweep(keep); err != nil {
		r.log.Warn("old ledgers stay", "error", err)
	}
	return nil
}

// begun starts to act: every region is told to the core, then read.
func (r *runner) begun() {
	r.log.Info("acting", "term", uint64(r.book.Term()), "gateways", len(r.links))
	for _, so := range r.core.Orders() {
		r.write(so)
	}
	r.verify()
	for _, l := range r.sorted() {
		r.introduce(l)
	}
}

// forget ends every effect of the core.
func (r *runner) forget() {
	if r.book != nil {
		_ = r.book.Close()
	}
	r.core, r.book, r.history, r.late = nil, nil, ledger.History{}, false
}

// acting reports whether effects are allowed, after reading the board: a
// coordinator that was stopped and continues finds out here.
func (r *runner) acting() bool {
	if r.machine.State() != election.Acting {
		return false
	}
	r.elect(election.Looked{Other: r.board.other()})
	return r.machine.State() == election.Acting
}
