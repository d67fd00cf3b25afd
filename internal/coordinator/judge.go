package coordinator

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// Judge holds what a core does, step by step, against what is promised. It goes by
// the events, by what the core says, and by what the core's members have before and
// after; not by the rules that led there. Simulations and replayed journals share it.
//
// It sees only the steps that it is shown, so what it counts is what happened since
// its beginning.
type Judge struct {
	now   time.Time // of the present step
	back  bool      // it is before that of the last one: the host's clock was set back
	stamp uint64    // the highest before the present step
	files map[Member]*file
	// before is what the files said one step ago. Of a coordinator that was replaced the last
	// step may count for nobody.
	before map[Member]standing
}

// standing is what a member's order says.
type standing struct {
	seq        uint64
	exclusions []Exclusion
}

// file is what a Judge knows of one member.
type file struct {
	standing
	owing map[Key]owing // its claims
	shown showing       // its last publication
	spending
}

// owing is what is known of a claim before a step.
type owing struct{ due, allowed time.Time }

// showing is what a publication says of the member's sample.
type showing struct {
	sample []guardstate.Fingerprint
	whole  bool // a guard that is not in sample is not in the member's sample
	left   bool
	gated  bool // its streams wait: a used guard goes at once, for no stream has gone through it
}

// NewJudge begins with the core as it is.
func NewJudge(c *Coordinator) *Judge {
	j := &Judge{now: c.now, files: map[Member]*file{}}
	j.look(c)
	return j
}

// Step judges a Step of the core: e led to r, and to what c is now. The error names
// every promise that was broken.
func (j *Judge) Step(c *Coordinator, e Event, r Ready) error {
	j.begin(e)
	j.shows(c, e)
	errs := []error{c.Invariants(), decided(r.Notices), j.durable(c, r)}
	for _, name := range slices.SortedFunc(maps.Keys(j.files), Member.Compare) {
		f := j.files[name]
		now := standing{}
		if m := c.byName[name]; m != nil {
			now = standing{m.seq, m.exclusions}
		}
		errs = append(errs, j.numbers(c, name, f, now), j.lifted(c, name, f.standing, now.exclusions))
		if c.cfg.Policy == PolicyObserve && len(now.exclusions) != len(f.exclusions) && f.seq != 0 && c.byName[name] != nil && !c.byName[name].gone {
			errs = append(errs, fmt.Errorf("%s: its order was changed under the policy observe", name))
		}
	}
	return errors.Join(append(errs, j.Restored(c, e, r.Notices))...)
}

// Restored judges what a Step has cost whose core was thrown away: c has taken its
// place, with what was durable of the step.
func (j *Judge) Restored(c *Coordinator, e Event, notices []Notice) error {
	j.begin(e)
	err := j.spent(c, e, notices)
	j.look(c)
	return err
}

// Follows judges the first state of a coordinator that goes on with what this one
// left: the same one in a new segment of its journal, or its successor.
func (j *Judge) Follows(c *Coordinator) error {
	var errs []error
	for _, name := range slices.SortedFunc(maps.Keys(j.before), Member.Compare) {
		was := j.before[name]
		now := standing{seq: c.floorOf(name.Gateway)}
		if m := c.byName[name]; m != nil {
			now = standing{m.seq, m.exclusions}
		}
		if max(now.seq, c.floorOf(name.Gateway)) < was.seq {
			errs = append(errs, fmt.Errorf("%s: its orders begin again at %d, after %d", name, now.seq, was.seq))
		}
		// A higher number is an order that another coordinator gave, who may have seen what
		// this one has not: it is judged there.
		if now.seq == was.seq {
			errs = append(errs, j.lifted(c, name, was, now.exclusions))
		}
	}
	return errors.Join(errs...)
}

// begin notes the time of a step. It is done once, whatever is judged of it.
func (j *Judge) begin(e Event) {
	at := atOf(e).UTC().Truncate(time.Millisecond)
	j.back = j.back || at.Before(j.now)
	j.now = at
}

// look takes in what the core is like before the next step.
func (j *Judge) look(c *Coordinator) {
	j.stamp, j.back = c.stamp, false
	j.before = map[Member]standing{}
	for name, f := range j.files {
		if c.byName[name] == nil {
			delete(j.files, name) // forgotten: after the retention it may begin anew
		} else {
			j.before[name] = f.standing
		}
	}
	for _, m := range c.members {
		f := j.files[m.name]
		if f == nil {
			f = j.open(c, m)
		}
		f.standing = standing{m.seq, slices.Clone(m.exclusions)}
		clear(f.owing)
		for _, cl := range m.claims {
			f.owing[cl.key] = owing{cl.due, cl.allowed}
		}
	}
}

func (j *Judge) open(c *Coordinator, m *member) *file {
	f := &file{owing: map[Key]owing{}, spending: j.purse(c, m)}
	if m.shown() { // known from a checkpoint
		f.shown = showing{m.pub.ids, m.pub.wholeSample(), false, m.pub.has(shmproto.MemberGated)}
	}
	j.files[m.name] = f
	return f
}

// shows takes in what the event says of a member's sample.
func (j *Judge) shows(c *Coordinator, e Event) {
	p, ok := e.(Published)
	if !ok {
		return
	}
	m := c.byName[Member{p.Gateway, p.Publication.Member}]
	if m == nil || m.shown() && m.pub.seq != p.Publication.Seq {
		return // refused, or not believed
	}
	f := j.files[m.name]
	if f == nil {
		f = j.open(c, m)
	}
	q := p.Publication
	f.shown = showing{left: q.State == shmproto.MemberLeft, gated: q.Flags&shmproto.MemberGated != 0}
	const partly = shmproto.MemberTruncated | shmproto.MemberUnreachable | shmproto.MemberNoConsensus
	f.shown.whole = q.State == shmproto.MemberPresent && q.Selection == shmproto.SelectionDefault && len(q.Guards) > 0 && q.Flags&partly == 0
	for i := range q.Guards {
		f.shown.sample = append(f.shown.sample, q.Guards[i].Fingerprint)
	}
}

// decided: the incumbent stays, the newcomer moves.
func decided(notices []Notice) error {
	var errs []error
	for _, n := range notices {
		if n.Kind == NoticeExcluded && n.Why == WhyConflict && n.Stamp.Counter <= n.Others.Counter {
			errs = append(errs, fmt.Errorf("the incumbent was moved: %s", n))
		}
	}
	return errors.Join(errs...)
}

// durable: an order says what its member's record says, and a new order has a record
// in the same step.
func (j *Judge) durable(c *Coordinator, r Ready) error {
	var errs []error
	for _, o := range r.Orders {
		name := Member{o.Gateway, o.Order.Member}
		m := c.byName[name]
		if m == nil || m.seq != uint64(o.Order.Seq) || !slices.Equal(m.fingerprints(), o.Order.Exclusions) {
			errs = append(errs, fmt.Errorf("%s: order %d is not the member's", name, o.Order.Seq))
			continue
		}
		if f := j.files[name]; f != nil && f.seq == m.seq && same(f.exclusions, m.exclusions) {
			continue // written again
		}
		i := len(r.Save) - 1
		for i >= 0 && (r.Save[i].Kind != RecordOrder || r.Save[i].member() != name) {
			i--
		}
		if i < 0 || r.Save[i].Seq != m.seq || !same(r.Save[i].Exclusions, m.exclusions) {
			errs = append(errs, fmt.Errorf("%s: order %d is not what the ledger is told", name, o.Order.Seq))
		}
	}
	return errors.Join(errs...)
}

func same(a, b []Exclusion) bool {
	return slices.EqualFunc(a, b, func(x, y Exclusion) bool { return x.Key == y.Key })
}

// numbers: no order has a number that was given out, and another set another number.
func (j *Judge) numbers(c *Coordinator, name Member, f *file, now standing) error {
	switch {
	case max(now.seq, c.floorOf(name.Gateway)) < f.seq:
		return fmt.Errorf("%s: order %d comes after order %d", name, now.seq, f.seq)
	case now.seq == f.seq && now.seq != 0 && !same(now.exclusions, f.exclusions):
		return fmt.Errorf("%s: order %d says now what it did not say before", name, now.seq)
	}
	return nil
}

// lifted: no guard is given back within its hold, unless it has left the member's
// sample or the member has left.
func (j *Judge) lifted(c *Coordinator, name Member, was standing, now []Exclusion) error {
	var errs []error
	shown := j.files[name].shown
	m := c.byName[name]
	for _, x := range was.exclusions {
		kept := slices.ContainsFunc(now, func(y Exclusion) bool { return y.Key == x.Key })
		f, _ := x.Key.Relay()
		switch {
		case kept, !j.now.Before(x.Since.Add(c.cfg.Hold)), shown.left, m != nil && m.gone:
		case shown.whole && !slices.Contains(shown.sample, f):
		case x.Why == WhyAdopted && was.seq == 0: // never ordered: it goes when the member drops it
		default:
			errs = append(errs, fmt.Errorf("%s: an exclusion was lifted within its hold", name))
		}
	}
	return errors.Join(errs...)
}
