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

// step gives one event to the core, if we act, and does what it says.
func (r *runner) step(e coordinator.Event) {
	if r.acting() {
		r.perform(r.core.Step(e))
	}
}

// perform does a Ready in its order: ledger durable, orders in our seat, rings,
// doorbells.
func (r *runner) perform(ready coordinator.Ready) {
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
		text := n.String()
		if r.cfg.ShowFingerprints {
			text = n.Detail()
		}
		r.log.Info(text)
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
	if r.book.Due() {
		r.compact()
	}
	return true
}

func (r *runner) compact() {
	snapshot, err := json.Marshal(r.core.Snapshot())
	if err == nil {
		err = r.book.Compact(r.history, snapshot)
	}
	if err != nil {
		// What counts is durable in the old file; the next step finds out
		// whether the ledger can still be used.
		r.log.Warn("the ledger could not be compacted", "error", err)
	}
}

// unsaved goes back to what the ledger holds. After a full disk we keep the
// lease and try again on every rescan; after anything else nothing can be
// promised, and we give it up.
func (r *runner) unsaved(err error) {
	if r.bookError == "" {
		r.log.Error("nothing can be made durable, so nothing is ordered", "error", err)
	}
	r.bookError = err.Error()
	var full *ledger.FullError
	if errors.As(err, &full) && r.again() == nil {
		return
	}
	r.elect(election.Failed{})
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

// introduce tells the core of a region and reads it.
func (r *runner) introduce(l *link) {
	l.known = [shmproto.MaxMembers]bool{}
	r.step(coordinator.GatewaySeen{At: time.Now(), Gateway: l.name, Present: true})
	r.look(l)
}

func (r *runner) lookAll() {
	if r.rescan {
		r.rescan = false
		for _, l := range r.sorted() {
			r.introduce(l)
		}
		return
	}
	for _, l := range r.sorted() {
		r.look(l)
	}
}

// look gives every changed publication of a region to the core.
func (r *runner) look(l *link) {
	for slot := range shmproto.MaxMembers {
		version := l.host.PublicationVersion(slot)
		if l.known[slot] && l.seen[slot] == version {
			continue
		}
		if !r.acting() {
			return
		}
		err := l.host.ReadPublication(slot, &r.publication)
		if errors.Is(err, shmproto.ErrTorn) {
			continue // being replaced: its doorbell follows, or the next rescan sees it
		}
		// What changes between the two loads has another version and is read
		// again.
		l.seen[slot], l.known[slot] = version, true
		if err == nil && r.publication.Attachment > l.region.Attachment() {
			// Believed, it would make the gateway's own later ones look stale.
			err = &shmproto.ViolationError{Reason: "publication of an attachment that has not been"}
		}
		var bad *shmproto.ViolationError
		switch {
		case err == nil:
			r.published++
			r.step(coordinator.Published{At: time.Now(), Gateway: l.name, Slot: slot, Publication: &r.publication})
		case errors.As(err, &bad):
			r.violated(l.name, bad)
			r.step(coordinator.Violated{At: time.Now(), Gateway: l.name, Slot: slot, Reason: bad.Reason})
		}
		// Empty and fenced slots say nothing; the last good one stays.
	}
}

func (r *runner) sorted() []*link {
	return slices.SortedFunc(maps.Values(r.links), func(a, b *link) int { return cmp.Compare(a.name, b.name) })
}

// summary counts a gateway's violations for the log.
type summary struct {
	unsaid uint64
	reason string
	next   time.Time
}

const summaryPeriod = time.Minute

// violated logs the first violation of a gateway and then sums up: guests must
// not write our log.
func (r *runner) violated(gateway string, v *shmproto.ViolationError) {
	s := r.violations[gateway]
	if s == nil {
		s = &summary{}
		r.violations[gateway] = s
	}
	s.unsaid++
	s.reason = v.Error()
	r.say(gateway, s, time.Now())
}

func (r *runner) summarise(now time.Time) {
	for _, gateway := range slices.Sorted(maps.Keys(r.violations)) {
		r.say(gateway, r.violations[gateway], now)
	}
}

func (r *runner) say(gateway string, s *summary, now time.Time) {
	if s.unsaid > 0 && now.After(s.next) {
		r.log.Warn("gateway breaks the protocol", "gateway", gateway, "times", s.unsaid, "last", s.reason)
		s.unsaid, s.next = 0, now.Add(summaryPeriod)
	}
}
