package coordinator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// entry is one line of a journal: an event and what came out of it. Guards of a
// publication are told only where they differ from the last ones that the same
// slot showed in this journal, because most publications change one or two.
type entry struct {
	Kind    string                  `json:"kind"`
	Event   json.RawMessage         `json:"event"`
	Guards  []json.RawMessage       `json:"guards,omitempty"`  // published: all of them, unless Kept
	Kept    bool                    `json:"kept,omitempty"`    // published: as before, but for Changed
	Changed map[int]json.RawMessage `json:"changed,omitempty"` // by place
	Save    json.RawMessage         `json:"save,omitempty"`
	Orders  json.RawMessage         `json:"orders,omitempty"`
	Notices json.RawMessage         `json:"notices,omitempty"`
}

type slotKey struct {
	gateway string
	slot    int
}

// Recorder writes what a core does as lines of a journal. A journal is a
// Checkpoint, then the line of each event after it, in order and without a gap
// but for ticks that are not Due. The zero value is for a new journal.
type Recorder struct{ shown map[slotKey][]json.RawMessage }

// Line returns the line of an event and what Step returned for it, without a
// newline.
func (r *Recorder) Line(e Event, ready Ready) ([]byte, error) {
	x := entry{Kind: kindOf(e)}
	var err error
	put := func(to *json.RawMessage, v any, any bool) {
		if any && err == nil {
			*to, err = json.Marshal(v)
		}
	}
	if p, ok := e.(Published); ok {
		if err := r.guards(&x, p); err != nil {
			return nil, err
		}
		short := *p.Publication
		short.Guards = nil
		p.Publication = &short
		e = p
	}
	put(&x.Event, e, true)
	put(&x.Save, ready.Save, len(ready.Save) > 0)
	put(&x.Orders, ready.Orders, len(ready.Orders) > 0)
	put(&x.Notices, ready.Notices, len(ready.Notices) > 0)
	if err != nil {
		return nil, err
	}
	return json.Marshal(x)
}

func (r *Recorder) guards(x *entry, p Published) error {
	var all []json.RawMessage
	for i := range p.Publication.Guards {
		g, err := json.Marshal(&p.Publication.Guards[i])
		if err != nil {
			return err
		}
		all = append(all, g)
	}
	k := slotKey{p.Gateway, p.Slot}
	before, known := r.shown[k]
	if r.shown == nil {
		r.shown = map[slotKey][]json.RawMessage{}
	}
	r.shown[k] = all
	if !known || len(before) != len(all) {
		x.Guards = all
		return nil
	}
	x.Kept = true
	for i, g := range all {
		if !bytes.Equal(g, before[i]) {
			if x.Changed == nil {
				x.Changed = map[int]json.RawMessage{}
			}
			x.Changed[i] = g
		}
	}
	return nil
}

func kindOf(e Event) string {
	switch e.(type) {
	case Published:
		return "published"
	case Tick:
		return "tick"
	case GatewaySeen:
		return "gateway"
	case Violated:
		return "violated"
	case Allowed:
		return "allowed"
	case ConsensusRead:
		return "consensus"
	}
	panic(fmt.Sprintf("coordinator: unknown event %T", e))
}

// Player does again what a journal says, and judges it.
type Player struct {
	core  *Coordinator
	judge *Judge
	shown map[slotKey][]json.RawMessage
}

// NewPlayer begins where the journal began. Its errors are Resume's, or a *Broken.
func NewPlayer(p Checkpoint) (*Player, error) {
	c, err := Resume(p)
	if err != nil {
		return nil, err
	}
	return newPlayer(c)
}

func newPlayer(c *Coordinator) (*Player, error) {
	if err := c.Invariants(); err != nil {
		return nil, &Broken{"the checkpoint", err}
	}
	return &Player{core: c, judge: NewJudge(c), shown: map[slotKey][]json.RawMessage{}}, nil
}

// Follows judges the state in which p begins as one that follows what before has
// played. Its error is a *Broken. Another epoch follows nothing.
func (p *Player) Follows(before *Player) error {
	if p.core.cfg.Epoch != before.core.cfg.Epoch {
		return nil
	}
	if err := before.judge.Follows(p.core); err != nil {
		return &Broken{"the checkpoint", err}
	}
	return nil
}

// Broken is a promise that was not kept.
type Broken struct {
	At  string // the event, or the checkpoint
	Err error  // every one
}

// Error says what is broken and by what, with fingerprints cut short.
func (b *Broken) Error() string {
	words := strings.Fields(fmt.Sprintf("%s: broken: %v", b.At, b.Err))
	for i, w := range words {
		if _, id, ok := strings.Cut(w, "relay/"); ok && len(id) >= 2*len(guardstate.Fingerprint{}) {
			words[i] = strings.Replace(w, id[:2*len(guardstate.Fingerprint{})], id[:8], 1)
		}
	}
	return strings.Join(words, " ")
}

// Unwrap returns Err.
func (b *Broken) Unwrap() error { return b.Err }

// Difference is an event that now leads to something else than the journal says.
type Difference struct {
	Event     Event
	What      string // save, orders or notices
	Then, Now string // JSON; Then is the journal's
}

// Error names the event and what differs, without fingerprints.
func (d *Difference) Error() string {
	return fmt.Sprintf("%s: the %s differ from what the journal holds", d.Event, d.What)
}

// Play does the event of one line and returns what came out. An error is a
// *Difference, a *Broken, or says what is wrong with the line.
func (p *Player) Play(line []byte) (Event, Ready, error) {
	var x entry
	if err := json.Unmarshal(line, &x); err != nil {
		return nil, Ready{}, err
	}
	e, err := p.event(&x)
	if err != nil {
		return nil, Ready{}, err
	}
	r := p.core.Step(e)
	for _, part := range []struct {
		what string
		then json.RawMessage
		now  any
		any  bool
	}{{"records", x.Save, r.Save, len(r.Save) > 0}, {"orders", x.Orders, r.Orders, len(r.Orders) > 0}, {"notices", x.Notices, r.Notices, len(r.Notices) > 0}} {
		var now []byte
		if part.any {
			if now, err = json.Marshal(part.now); err != nil {
				return e, r, err
			}
		}
		if !bytes.Equal(now, part.then) {
			return e, r, &Difference{e, part.what, string(part.then), string(now)}
		}
	}
	if err := p.judge.Step(p.core, e, r); err != nil {
		return e, r, &Broken{e.String(), err}
	}
	return e, r, nil
}

func (p *Player) event(x *entry) (Event, error) {
	switch x.Kind {
	case "published":
		return p.published(x)
	case "tick":
		return decodeEvent[Tick](x)
	case "gateway":
		return decodeEvent[GatewaySeen](x)
	case "violated":
		return decodeEvent[Violated](x)
	case "allowed":
		return decodeEvent[Allowed](x)
	case "consensus":
		return decodeEvent[ConsensusRead](x)
	}
	return nil, fmt.Errorf("unknown kind of event %.20q", x.Kind)
}

func decodeEvent[E Event](x *entry) (Event, error) {
	var e E
	err := json.Unmarshal(x.Event, &e)
	return e, err
}

func (p *Player) published(x *entry) (Event, error) {
	var e Published
	if err := json.Unmarshal(x.Event, &e); err != nil {
		return nil, err
	}
	if e.Publication == nil || e.Slot < 0 || e.Slot >= shmproto.MaxMembers {
		return nil, errors.New("published: no publication, or no such slot")
	}
	k := slotKey{e.Gateway, e.Slot}
	all := x.Guards
	if x.Kept {
		all = slices.Clone(p.shown[k])
	}
	for i, g := range x.Changed {
		if i < 0 || i >= len(all) {
			return nil, fmt.Errorf("published: guard %d of %d", i, len(all))
		}
		all[i] = g
	}
	p.shown[k] = all
	for _, text := range all {
		var g shmproto.Guard
		if err := json.Unmarshal(text, &g); err != nil {
			return nil, err
		}
		e.Publication.Guards = append(e.Publication.Guards, g)
	}
	return e, nil
}
