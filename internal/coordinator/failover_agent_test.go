package coordinator

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"guardring/guest-agent/rotation"
	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// agent is a guest agent around the real rotation core: what guest-agent/runner does,
// one effect at a time. It can be killed or stopped between any two of them.
type agent struct {
	g   *gate
	tor *modelTor
	cfg rotation.Config

	m       *rotation.Machine
	up      bool              // the control port is connected
	todo    []rotation.Action // what the machine has asked for
	pending *shmproto.Publication
	shown   *shmproto.Publication
	wake    time.Time
	paused  int
	asks    rotation.CommandID // the changing command that is not answered; 0: none
	caught  map[rotation.What]said
	seen    []rotation.OrderSeen // of this start, in order

	leaving bool
	left    bool
	over    bool // it has left, and nobody runs
	wants   bool // `leave` is to be carried through
	unable  bool // to leave: Tor, the disk or the packet filter has refused something
}

// born is a new start: nothing is left of the one before but Tor, the file and the
// region.
func (a *agent) born() {
	a.cfg.Incarnation = a.g.tor.pub.Incarnation
	m, err := rotation.New(a.cfg)
	if err != nil {
		a.g.w.t.Fatal(err)
	}
	a.g.w.log("%s: a new agent", a.g.name)
	*a = agent{g: a.g, tor: a.tor, cfg: a.cfg, m: m, caught: map[rotation.What]said{}, wants: a.wants}
	a.tor.answers, a.tor.events = nil, nil
	a.tor.refused, a.tor.meddled = false, 0
}

// advance does one effect, or lets something happen.
func (a *agent) advance() {
	g, w := a.g, a.g.w
	switch {
	case len(g.ghost) > 0 && w.rng.IntN(4) == 0:
		g.ghost = g.commit(g.ghost, 1+w.rng.IntN(len(g.ghost)))
	case a.paused > 0:
		a.paused--
	case w.rng.IntN(80) == 0:
		a.paused = w.rng.IntN(40)
	case w.rng.IntN(60) == 0:
		w.agents.Killed++
		if a.over {
			a.wants = false // it joins again
		}
		g.restart()
	case w.rng.IntN(6) == 0:
		a.live()
	case !a.over:
		for n := 1 + w.rng.IntN(10); n > 0 && a.work(); n-- {
		}
	}
	a.rests()
}

// work does the next thing that is to be done; it reports false if there is none.
func (a *agent) work() bool {
	g, w, t := a.g, a.g.w, a.tor
	queues := len(t.answers) + len(t.events)
	switch {
	case len(g.late) > 0:
		if g.late = g.commit(g.late, 1+w.rng.IntN(len(g.late))); len(g.late) == 0 {
			g.ring()
		}
	case !a.up:
		a.up = true
		a.step(rotation.ControlUp{TorVersion: "0.4.9.11"})
	case a.wants && !a.leaving:
		a.leaving = true
		clear(g.kept)
		a.step(rotation.Leave{})
	case len(a.todo) > 0 && (queues == 0 || w.rng.IntN(2) == 0):
		next := a.todo[0]
		a.todo = a.todo[1:]
		if c, ok := next.(rotation.CloseCircuit); ok && !w.calm && w.rng.IntN(4) == 0 {
			t.occupy(c.Circuit) // just before
		}
		w.log("%s does %s", g.name, next)
		a.allowed(next)
		t.perform(next)
	case len(t.answers) > 0 && (len(t.events) == 0 || w.rng.IntN(2) == 0):
		a.hear(&t.answers)
	case len(t.events) > 0:
		a.hear(&t.events)
	case a.pending != nil && (w.calm || w.rng.IntN(2) == 0):
		a.flush()
	case g.bell:
		g.bell = false
		a.readOrder()
	case !a.wake.IsZero() && !w.now.Before(a.wake):
		a.wake = time.Time{}
		a.step(rotation.Tick{})
	case !w.calm && w.rng.IntN(8) == 0: // the slow tick
		a.slow()
	case a.left && a.pending == nil:
		a.over = true
		w.agents.Left++
		for start := range g.quit { // what an earlier one was told ends, too
			g.quit[start] = true
		}
		if !t.filterless { // the runner's part
			t.dropped = nil
		}
		a.gone()
		return false
	default:
		return false
	}
	return true
}

// slow is what the agent does now and then although nothing rang.
func (a *agent) slow() {
	if a.shown != nil && a.pending == nil && a.g.guest.Verify(0) != nil {
		a.pending = a.shown
	}
	a.readOrder()
	if n := len(a.seen); n > 0 { // an order that is seen late, or once more, changes nothing
		a.step(a.seen[a.g.w.rng.IntN(n)])
	}
}

func (a *agent) readOrder() {
	if a.shown == nil {
		return
	}
	g := a.g
	before := g.order
	if g.read(); g.order == before {
		return
	}
	g.applied = true // for the played ones alone
	o := rotation.OrderSeen{Order: *g.order, Digest: g.order.Digest()}
	a.seen = append(a.seen, o)
	a.step(o)
}

// hear gives the machine what the control port said next.
func (a *agent) hear(queue *[]said) {
	s := (*queue)[0]
	*queue = (*queue)[1:]
	switch e := s.event.(type) {
	case rotation.ConfigRead:
		a.caught[rotation.QueryConfig] = s
	case rotation.Relays:
		a.caught[rotation.QueryRelays] = s
	case rotation.Circuits:
		a.caught[rotation.QueryCircuits] = s
	case rotation.CommandDone:
		if e.ID == a.asks {
			a.asks = 0
		}
	}
	a.step(s.event)
}

// disconnect is the end of the control connection.
func (a *agent) disconnect() {
	a.todo, a.asks, a.tor.answers, a.tor.events = nil, 0, nil, nil
	clear(a.caught)
	if a.up && !a.over {
		a.step(rotation.ControlDown{Reason: "restart"})
		a.todo = nil // the way out without a control port is guest-agent/rotation's own test
		a.asks = 0
	}
	a.up = false
	a.tor.refused, a.tor.meddled = false, 0
}

// step gives the machine an event, and takes what it asks for.
func (a *agent) step(e rotation.Event) {
	w := a.g.w
	r := a.m.Step(w.now, e)
	if d, ok := e.(rotation.CommandDone); ok && d.Err != nil && a.leaving {
		a.unable = true
	}
	a.wake, a.left = r.Wake, r.Left
	w.log("%s: %s -> %v", a.g.name, e, r.Actions)
	for _, x := range r.Actions {
		switch x := x.(type) {
		case rotation.Publish:
			a.pending = x.Publication
			a.truthful(x.Publication)
			continue
		case rotation.Notice:
			continue
		case rotation.SetConf:
			a.changes(x.ID, x)
		case rotation.ResetConf:
			a.changes(x.ID, x)
		case rotation.WriteInclude:
			a.changes(x.ID, x)
		case rotation.Enforce:
			a.enforces(x.Rejects)
		}
		a.todo = append(a.todo, x)
	}
}

func (a *agent) changes(id rotation.CommandID, x rotation.Action) {
	a.g.w.agents.Changes++
	if a.asks != 0 {
		a.g.w.fail("%s asks for %s while another change is not answered", a.g.name, x)
	}
	a.asks = id
}

// latest is the highest order that this start has seen; nil: none.
func (a *agent) latest() *shmproto.Order { return a.g.order }

func (a *agent) ordered(f guardstate.Fingerprint) bool {
	o := a.latest()
	return o != nil && slices.Contains(o.Exclusions, f)
}

// excludes are the relays that an include file names.
func excludes(text string) (fs []guardstate.Fingerprint) {
	for line := range strings.SplitSeq(text, "\n") {
		if rest, ok := strings.CutPrefix(line, "# guardring exclusion "); ok {
			name, _, _ := strings.Cut(rest, " ")
			f, err := guardstate.ParseFingerprint(name)
			if err != nil {
				panic(err)
			}
			fs = append(fs, f)
		}
	}
	return fs
}

// allowed fails the test if a command does what the agent must not do.
func (a *agent) allowed(x rotation.Action) {
	g, t := a.g, a.tor
	inFile := excludes(t.include.Text)
	switch x := x.(type) {
	case rotation.SetConf:
		if x.Settings[0].Key != "ReachableORAddresses" {
			return
		}
		var lines []string
		for _, s := range x.Settings {
			lines = append(lines, s.Value)
		}
		a.option(policyOf(lines), inFile)
	case rotation.ResetConf:
		if x.Keys[0] == "ReachableORAddresses" {
			a.option(policyOf(nil), inFile)
		}
	case rotation.WriteInclude:
		for line := range strings.SplitSeq(x.Text, "\n") {
			if v, ok := strings.CutPrefix(line, "ReachableORAddresses "); ok && !t.told[v] {
				g.w.fail("%s writes %q, which Tor was never told", g.name, v)
			}
		}
		for _, f := range inFile {
			if !a.leaving && !slices.Contains(excludes(x.Text), f) && (a.latest() == nil || a.ordered(f)) {
				g.w.fail("%s takes an exclusion out of the file that nobody has lifted", g.name)
			}
		}
	case rotation.CloseCircuit:
		i := slices.IndexFunc(t.circ, func(c guardstate.Circuit) bool { return c.ID == x.Circuit })
		if i < 0 {
			return
		}
		c := t.circ[i]
		if t.carries[c.ID] != "" && !x.IfUnused && !a.cfg.Cut {
			g.w.fail("%s cuts a stream", g.name)
		}
		if f := c.Path[0]; !slices.Contains(inFile, f) && !a.ordered(f) && !slices.ContainsFunc(a.seen, func(o rotation.OrderSeen) bool { return slices.Contains(o.Order.Exclusions, f) }) {
			g.w.fail("%s closes a circuit through a guard that nobody excluded", g.name)
		}
	}
}

// option judges a new value of ReachableORAddresses.
func (a *agent) option(now guardstate.Policy, inFile []guardstate.Fingerprint) {
	g, t := a.g, a.tor
	user := policyOf(t.user)
	for _, f := range t.net.order {
		r := t.net.relays[f]
		if !r.Listed || !accepts(user, r) {
			continue
		}
		switch before, after := accepts(t.policy, r), accepts(now, r); {
		case before && !after && !a.ordered(f) && !slices.Contains(inFile, f) && !a.late(f):
			g.w.fail("%s gives up a guard that nobody excluded", g.name)
		case !before && after && !a.leaving && slices.Contains(inFile, f) && (a.latest() == nil || a.ordered(f)) && !a.unknowing():
			g.w.fail("%s takes back a guard that nobody has lifted", g.name)
		case !before && after && t.drops(r) && !a.excused() && !a.unknowing():
			g.w.fail("%s tells Tor to use a guard that the packet filter drops: to Tor it is dead\n%s", g.name, a)
		}
	}
}

// late: an order that is not the latest any more excluded f; the command was asked for
// before the latest came.
func (a *agent) late(f guardstate.Fingerprint) bool {
	n := len(a.seen)
	return n > 1 && slices.Contains(a.seen[n-2].Order.Exclusions, f)
}

// unknowing: a relay has moved, and the agent was not told yet.
func (a *agent) unknowing() bool { return a.caught[rotation.QueryRelays].moved < a.tor.moved }

// truthful fails the test if a publication says "applied" and it is not so, as far as
// the agent can know.
func (a *agent) truthful(p *shmproto.Publication) {
	g, t, o := a.g, a.tor, a.latest()
	if r := p.Receipt; r.Status != shmproto.ReceiptNone {
		if i := slices.IndexFunc(a.seen, func(s rotation.OrderSeen) bool {
			return s.Order.Seq == r.Seq && s.Order.Term == r.Term && s.Digest == r.Digest
		}); i < 0 {
			g.w.fail("%s answers an order that it never saw", g.name)
		}
	}
	if o != nil && p.Receipt.Status == shmproto.ReceiptApplied {
		g.w.agents.Applied++
	}
	if o == nil || p.Receipt.Status != shmproto.ReceiptApplied || p.Receipt.Seq != o.Seq || p.Receipt.Term != o.Term || p.State != shmproto.MemberPresent {
		return
	}
	if a.caught[rotation.QueryConfig].disturbed < t.disturbed || a.unknowing() || a.caught[rotation.QueryCircuits].disturbed < t.disturbed {
		return
	}
	inFile := excludes(t.include.Text)
	for _, f := range o.Exclusions {
		if !slices.Contains(inFile, f) {
			g.w.fail("%s says applied, and the file does not", g.name)
		}
		if t.filtered(f) {
			g.w.fail("%s says applied, and the guard %s may be used: %v %v", g.name, f, t.net.relays[f], t.values())
		}
		for _, c := range t.circ {
			if c.Path[0] == f {
				g.w.fail("%s says applied, and a circuit goes through the guard", g.name)
			}
		}
	}
}

// flush shows what is pending, as shore.flush does.
func (a *agent) flush() {
	g := a.g
	p := *a.pending
	p.Attachment, p.Incarnation = g.tor.pub.Attachment, g.tor.pub.Incarnation
	g.tor.pub = p
	if err := g.show(func(*shmproto.Publication) {}); errors.Is(err, errNotNow) {
		return
	}
	a.shown, a.pending = a.pending, nil
	a.g.w.agents.Shown++
}

// live lets something happen to the gateway that its agent does not do.
func (a *agent) live() {
	g, w, t := a.g, a.g.w, a.tor
	switch w.rng.IntN(16) {
	case 0, 1, 2:
		t.build()
	case 3:
		t.open()
	case 4, 5, 6:
		if len(t.circ) > 0 {
			t.end(w.rng.IntN(len(t.circ)))
		}
	case 7:
		t.hup()
	case 8:
		if w.rng.IntN(3) == 0 {
			t.restart()
			a.disconnect()
		}
	case 9:
		a.disconnect()
	case 10: // another controller
		if w.rng.IntN(3) == 0 {
			t.meddle()
			t.stubborn = w.rng.IntN(8) == 0
		}
	case 11:
		t.failWrite = w.rng.IntN(3) == 0
	case 12:
		t.refuses, t.stubborn, t.filterless = w.rng.IntN(4) == 0, false, w.rng.IntN(4) == 0
	case 13:
		w.churn()
	case 14: // the consensus has another guard in the place of one
		i := w.rng.IntN(len(t.sample))
		gone := t.sample[i].id
		t.sample = append(slices.Delete(t.sample, i, i+1), sampled{id: w.net.add(w.freshGuard().Fingerprint)})
		delete(g.kept, gone)
		t.lose(gone)
		w.consensus()
	case 15:
		switch w.rng.IntN(12) {
		case 0:
			if !a.over {
				a.wants = true
			}
		case 1, 2:
			a.clone(w.gates[w.rng.IntN(len(w.gates))])
		}
	}
}

// clone makes the gateway's VM another's copy.
func (a *agent) clone(of *gate) {
	if of.agent == nil || of == a.g || a.over || a.wants {
		return
	}
	a.tor.become(of.agent.tor)
	a.g.w.agents.Cloned++
	a.g.copied = true
	clear(a.g.kept)
	a.g.reboot()
}

// become copies the state that is on the other one's disk, and starts with it.
func (t *modelTor) become(o *modelTor) {
	t.user, t.include.Text = o.user, o.include.Text
	t.sample = slices.Clone(o.sample)
	t.told = map[string]bool{}
	t.restart()
}

// drain has the agent do all that is to be done.
func (a *agent) drain() {
	for n := 0; !a.over && a.work(); n++ {
		if n > 3000 {
			a.g.w.fail("the agent of %s does not come to rest: %v", a.g.name, a.todo)
		}
	}
}

func (a *agent) String() string {
	if a == nil {
		return "played"
	}
	return fmt.Sprintf("up=%t todo=%v leaving=%t wants=%t over=%t file=%d waiting=%d pub=%+v primary=%v", a.up, a.todo, a.leaving, a.wants, a.over, len(excludes(a.tor.include.Text)), len(a.tor.waiting), a.g.tor.pub, a.tor.primary)
}
