package runner

import (
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"runtime"
	"slices"
	"time"

	"guardring/host-agent/ledger"
	"guardring/internal/coordinator"
	"guardring/internal/coordinator/election"
	"guardring/internal/killpoint"
	"guardring/shmproto"
)

// point is called after each effect, with its name; our tests, and end-to-end
// tests in builds for them, end the process there.
var point = killpoint.Here

// step gives one event to the core, if we act, and does what it says. The event
// is of the named gateway, "" for none. done: whatever it led to is durable.
func (r *runner) step(e coordinator.Event, gateway string) (ready coordinator.Ready, done bool) {
	if !r.acting() {
		return coordinator.Ready{}, false
	}
	tick, isTick := e.(coordinator.Tick)
	kept := !isTick || r.core.Due(tick.At)
	if kept {
		r.prepare()
	}
	core := r.core
	ready = core.Step(e)
	r.perform(ready, gateway)
	if r.core != core {
		return ready, false // it was thrown away with what it decided
	}
	if kept {
		r.record(e, ready, gateway)
	}
	return ready, true
}

// perform does a Ready in its order: ledger durable, orders in our seat, rings,
// doorbells.
func (r *runner) perform(ready coordinator.Ready, gateway string) {
	if len(ready.Save) > 0 && !r.save(ready.Save) {
		return
	}
	// Making a step durable takes long enough for somebody to have taken over.
	if len(ready.Orders) > 0 && !r.acting() {
		return
	}
	var ring []*link
	for _, so := range ready.Orders {
		if l := r.write(so); l != nil && !slices.Contains(ring, l) {
			ring = append(ring, l)
		}
	}
	if len(ring) > 0 {
		point("ring-written")
	}
	for _, l := range ring {
		l.ask()
	}
	if len(ring) > 0 {
		// The ringers are next on this processor: they need not wait for our log.
		runtime.Gosched()
	}
	for _, n := range ready.Notices {
		r.tell(n, gateway)
		r.note(n, gateway)
	}
}

// save makes records durable. If it cannot, the core's state is ahead of the
// ledger's and is thrown away.
func (r *runner) save(records []coordinator.Record) bool {
	text, err := json.Marshal(records)
	if err == nil {
		err = r.book.Append(text)
	}
	if err != nil {
		r.unsaved(err)
		return false
	}
	point("ledger-durable")
	r.bookError = ""
	if now := time.Now(); r.book.Due() && now.After(r.compactNext) {
		r.compact(now)
	}
	return true
}

func (r *runner) compact(now time.Time) {
	// In a snapshot our own words are no longer told from what we had read. So what is late
	// is joined with them first.
	if grown, err := r.dir.Grown(r.history); err == nil && grown {
		r.late, r.compactNext = true, now.Add(r.cfg.Rescan)
		return
	}
	snapshot, err := json.Marshal(r.core.Snapshot())
	if err == nil {
		err = r.book.Compact(r.history, snapshot)
	}
	if err != nil {
		// What counts is durable in the old file; the next step finds out
		// whether the ledger can still be used.
		r.compactNext = now.Add(summaryPeriod)
		r.log.Warn("the ledger could not be compacted; it grows until that works", "file", r.book.Name(), "bytes", r.book.Size(), "error", err)
	}
}

// unsaved goes back to what the ledger holds. After a full disk we keep the
// lease and try again on every rescan; after anything else nothing can be
// promised, and we give it up.
func (r *runner) unsaved(err error) {
	if now := time.Now(); now.After(r.unsavedNext) {
		r.unsavedNext = now.Add(summaryPeriod)
		r.log.Error("nothing can be made durable, so nothing is ordered", "error", err)
	}
	r.bookError = err.Error()
	var full *ledger.FullError
	if errors.As(err, &full) && r.again() == nil {
		return
	}
	r.elect(election.Failed{})
}

// catchUp takes in what a former coordinator has written after its ledger was read. It
// reports whether there was any: then every region is read anew, or we act no more.
func (r *runner) catchUp() bool {
	grown, err := r.dir.Grown(r.history)
	if err == nil && !grown {
		return false
	}
	r.log.Info("a former coordinator has written after its ledger was read", "grown", grown, "error", err)
	if err == nil {
		err = r.inherit()
	}
	if err != nil {
		r.bookError = err.Error()
		r.elect(election.Failed{})
		return true
	}
	r.lookAll()
	return true
}

// inherit replays what a former coordinator wrote after its ledger was read, and
// writes our ledger anew: the core settled what the two said differently.
func (r *runner) inherit() error {
	if err := r.again(); err != nil {
		return err
	}
	snapshot, err := json.Marshal(r.core.Snapshot())
	if err != nil {
		return err
	}
	return r.book.Compact(r.history, snapshot)
}

// again restores the core from the ledgers including our own, and lets the next
// rescan read every publication anew.
func (r *runner) again() error {
	if err := r.restore(r.book.Term() + 1); err != nil {
		r.log.Error("the ledger cannot be read again", "error", err)
		return err
	}
	// Our own file may grow: only the others' growth is news.
	own := r.book.Term()
	r.history.Follows = slices.DeleteFunc(r.history.Follows, func(p ledger.Position) bool { return p.Term == own })
	r.rescan = true
	return nil
}

// write shows an order in our seat and notes it in the ring. It returns the
// region whose doorbell is to be rung, nil if it is not attached.
func (r *runner) write(so coordinator.SlotOrder) *link {
	l := r.links[so.Gateway]
	if l == nil {
		return nil
	}
	so.Order.Epoch, so.Order.Term = r.dir.Epoch(), r.book.Term()
	point("order-due")
	if err := l.host.WriteOrder(so.Slot, &so.Order); err != nil {
		// The core's orders always fit; say it rather than die over one gateway.
		r.log.Error("order not written", "gateway", so.Gateway, "slot", so.Slot, "error", err)
		return nil
	}
	r.ordered++
	point("order-written")
	l.host.Append(shmproto.Journal{
		Kind: shmproto.JournalOrdered, Slot: uint8(so.Slot),
		Args: [3]uint64{uint64(so.Order.Term), uint64(so.Order.Seq), uint64(len(so.Order.Exclusions))},
	})
	return l
}

// rewrite shows the orders of a region's members in it: its memory may be new.
func (r *runner) rewrite(l *link) {
	if !r.acting() {
		return
	}
	for _, so := range r.core.Orders() {
		if so.Gateway == l.name && r.write(so) != nil {
			l.ask()
		}
	}
}

func (r *runner) sorted() []*link {
	return slices.SortedFunc(maps.Values(r.links), func(a, b *link) int { return cmp.Compare(a.name, b.name) })
}
