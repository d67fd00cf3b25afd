//go:build e2e

package failover

import (
	"fmt"

	"guardring/e2e/rig"
	"guardring/shmproto"
)

// counts is what became of everything.
type counts struct {
	coordinators int // that were started
	elections    int // terms that were claimed
	recoveries   int // terms after the first whose orders gateways have accepted

	issued, obeyed, superseded, inStatus int // orders, counted anew with each term that they were written in

	late  int // written after a lease of a newer term was visible in that region, and ignored
	noted int // written in time, but the note in the ring came late
}

// String is one line of figures.
func (c counts) String() string {
	return fmt.Sprintf("%d coordinators started, %d elections, %d recoveries; %d orders written: %d obeyed, %d superseded, %d in status; %d late writes ignored, %d notes late",
		c.coordinators, c.elections, c.recoveries, c.issued, c.obeyed, c.superseded, c.inStatus, c.late, c.noted)
}

// account looks for what became of every order that was written: the gateway has obeyed it, or a newer one took its place, or status has it.
// Preconditions: what watches has ended, and the status is newer.
func (s *scene) account(w *watch, st rig.Status) counts {
	s.t.Helper()
	c := counts{coordinators: s.started, elections: int(st.Term)}
	worked := map[shmproto.Term]bool{}
	for n, p := range s.players {
		r := w.regions[n]
		if r.lost > 0 {
			s.t.Errorf("%s: %d records of the ring were not read in time", p.name, r.lost)
		}
		known := st.Member(p.name + "/default").Order
		accepted := map[[2]uint64]bool{}
		var last shmproto.Seq
		for _, o := range p.accepted {
			accepted[[2]uint64{uint64(o.Term), uint64(o.Seq)}] = true
			last = o.Seq
			if o.Term > 1 {
				worked[o.Term] = true
			}
		}
		if uint64(last) > known.Seq {
			s.t.Errorf("%s obeys order %d, but status has %d: it was forgotten", p.name, last, known.Seq)
		}
		for _, o := range r.issued {
			c.issued++
			obeyed := accepted[[2]uint64{uint64(o.Term), uint64(o.Seq)}]
			switch {
			case o.late && !obeyed:
				c.late++
			case o.late:
				c.noted++ // stopped between the order and its note; that it was accepted in time is orderModel's business
			}
			switch {
			case obeyed:
				c.obeyed++
			case uint64(o.Seq) < known.Seq, o.Seq == last && o.Term < p.accepted[len(p.accepted)-1].Term:
				c.superseded++
			case uint64(o.Seq) == known.Seq:
				c.inStatus++
			default:
				s.t.Errorf("%s: nobody knows what became of order %d of term %d: the last that it accepted is %d, status has %d", p.name, o.Seq, o.Term, last, known.Seq)
			}
		}
	}
	c.recoveries = len(worked)
	return c
}
