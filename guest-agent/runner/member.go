package runner

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"guardring/guest-agent/rotation"
	"guardring/guest-agent/statewatch"
	"guardring/internal/guardstate"
	"guardring/internal/killpoint"
	"guardring/shmproto"
)

// maxNotices is how many of a member's last notices its status shows.
const maxNotices = 8

// member is one Tor with its machine. It is used by the loop's goroutine only,
// but for link.run and the watcher.
type member struct {
	l       *loop
	tor     Tor
	machine *rotation.Machine
	link    link
	wake    time.Time
	left    bool
	going   bool               // must leave, and is let go then
	goneBy  time.Time          // until when the region may keep it
	cancel  context.CancelFunc // ends what works for it
	missing int                // looks in a row that did not find it
	socket  time.Time          // of the control socket's file when it was last looked at

	heard   bool   // the link has reported once
	session uint64 // the link's, as far as the machine knows it
	up      bool
	why     error // why the control port is away
	version string

	slot    int                   // member slot in the region, -1: none yet
	pending *shmproto.Publication // to be shown
	shown   *shmproto.Publication // shown last
	fault   error                 // why it could not be shown
	cause   time.Time             // when the event came that made pending

	order    shmproto.Order // read last
	hasOrder bool
	scratch  shmproto.Order
	orderErr error
	timing   timing
	closing  map[guardstate.CircuitID]bool // closed by us, not seen gone
	notices  []Note
	stateErr error
}

// timing is how long the last order took. Zero values: not yet.
type timing struct {
	seen    time.Time     // the order
	waited  time.Duration // what the link had waited for Tor in all at seen
	setconf time.Duration // until SETCONF was sent
	own     time.Duration // of this, not spent waiting for Tor
	gone    time.Duration // until the last circuit that we closed was gone
	closed  int           // circuits that we closed
	receipt time.Duration // from the last event to the receipt "applied" in memory
	applied time.Duration // until that receipt
}

func newMember(l *loop, t Tor) (*member, error) {
	cfg := l.cfg.Rotation
	cfg.Member, cfg.Role, cfg.Incarnation = t.Name, t.Role, l.cfg.Incarnation
	machine, err := rotation.New(cfg)
	if err != nil {
		return nil, err
	}
	m := &member{l: l, tor: t, machine: machine, slot: -1, closing: map[guardstate.CircuitID]bool{}}
	m.link.tor, m.link.enforcer = t, l.cfg.Enforcer
	m.link.box.ready, m.link.retry = make(chan struct{}, 1), make(chan struct{}, 1)
	m.link.wait = backoff{least: l.cfg.BackoffMin, most: l.cfg.BackoffMax}
	return m, nil
}

// launch sets the member to work until ctx ends, or its own end.
func (m *member) launch(ctx context.Context, wg *sync.WaitGroup) {
	ctx, m.cancel = context.WithCancel(ctx)
	m.connect(m.l.post(ctx))
	wg.Go(func() { m.link.run(ctx) })
	m.watchState(ctx, wg)
}

// nudge has the link try again without waiting for the end of its pause when the
// control socket is a new one.
func (m *member) nudge() {
	path := strings.TrimPrefix(m.tor.Control.Address, "unix:")
	if m.up || !strings.HasPrefix(path, "/") {
		return
	}
	if st, err := os.Stat(path); err == nil && !st.ModTime().Equal(m.socket) {
		m.socket = st.ModTime()
		m.link.again()
	}
}

// connect ties the link to the loop. It is called before the link runs.
func (m *member) connect(post func(func()) bool) {
	m.link.report = func(e rotation.Event, at time.Time) { post(func() { m.step(e, at) }) }
	m.link.changed = func(session uint64, version string, why error) {
		post(func() { m.controlChanged(session, version, why) })
	}
	m.link.sent = func(at time.Time, waited time.Duration) { post(func() { m.setconfSent(at, waited) }) }
	m.link.closed = func(id guardstate.CircuitID) { post(func() { m.timing.closed++; m.closing[id] = true }) }
}

// stateGap is the least time between two readings of a state file: Tor writes it every
// half minute at most, but its folder is Tor's, and what else changes it may not stop.
const stateGap = 200 * time.Millisecond

// watchState reads the state file now and after each change. It is a second
// source only: without it the control port still tells everything.
func (m *member) watchState(ctx context.Context, wg *sync.WaitGroup) {
	if m.tor.State == "" {
		return
	}
	post := m.l.post(ctx)
	read := func() {
		var state guardstate.State
		text, err := statewatch.Read(m.tor.State)
		if err == nil {
			state, err = guardstate.ParseState(text)
		}
		at := time.Now()
		post(func() {
			m.stateErr = err
			m.nudge() // Tor writes it when it starts
			m.step(rotation.StateFile{State: state, Err: err}, at)
		})
		sleep(ctx, stateGap)
	}
	wg.Go(func() {
		wait, err := statewatch.Watch(ctx, m.tor.State, read)
		if err != nil {
			post(func() { m.stateErr = err })
			return
		}
		read()
		wait()
	})
}

// controlChanged takes the link's new session.
func (m *member) controlChanged(session uint64, version string, why error) {
	m.heard, m.session, m.up, m.why = true, session, why == nil, why
	if m.up {
		m.version = version
		m.l.cfg.Log.Info("control port is up", "member", m.tor.Name, "tor", version)
		m.step(rotation.ControlUp{TorVersion: version}, time.Now())
	} else {
		m.step(rotation.ControlDown{Reason: why.Error()}, time.Now())
	}
	if m.l.leaving || m.going {
		m.leave()
	}
}

// leave makes the machine leave, once it is known whether Tor can be told.
func (m *member) leave() {
	if m.heard && !m.left {
		m.step(rotation.Leave{}, time.Now())
	}
}

// step gives the machine an event that came at a time, and does what it asks for.
func (m *member) step(e rotation.Event, at time.Time) {
	if c, ok := e.(rotation.CircuitChanged); ok && c.Circuit.Gone() && m.closing[c.Circuit.ID] {
		delete(m.closing, c.Circuit.ID)
		m.timing.gone = at.Sub(m.timing.seen)
	}
	m.l.cfg.Log.Debug("step", "member", m.tor.Name, "event", e)
	r := m.machine.Step(time.Now(), e)
	m.wake = r.Wake
	m.left = m.left || r.Left
	for _, a := range r.Actions {
		m.l.cfg.Log.Debug("action", "member", m.tor.Name, "action", a)
		switch a := a.(type) {
		case rotation.Publish:
			m.pending, m.cause = a.Publication, at
		case rotation.Notice:
			m.notice(a)
		default:
			m.link.box.put(command{m.session, a})
		}
	}
}

func (m *member) notice(n rotation.Notice) {
	level := slog.LevelInfo
	if n.Level == rotation.NoticeWarn {
		level = slog.LevelWarn
	}
	args := []any{"member", m.tor.Name}
	var names []string
	for _, f := range n.Guards {
		name := f.Short()
		if m.l.cfg.ShowFingerprints {
			name = f.String()
		}
		names = append(names, name)
	}
	if names != nil {
		args = append(args, "guards", names)
	}
	m.l.cfg.Log.Log(context.Background(), level, n.Text, args...)
	if len(m.notices) == maxNotices {
		m.notices = append(m.notices[:0], m.notices[1:]...)
	}
	m.notices = append(m.notices, Note{Warn: level == slog.LevelWarn, Text: n.Text, Guards: names, At: time.Now()})
}

// orderSeen hands an order that is new to the machine.
func (m *member) orderSeen(o *shmproto.Order, at time.Time) {
	m.order = *o
	m.order.Exclusions = append([]guardstate.Fingerprint(nil), o.Exclusions...)
	m.hasOrder = true
	m.timing = timing{seen: at, waited: m.link.waits.until(at)}
	clear(m.closing)
	killpoint.Here("order-seen")
	m.l.cfg.Log.Info("order seen", "member", m.tor.Name, "term", o.Term, "seq", o.Seq, "exclusions", len(o.Exclusions))
	m.step(rotation.OrderSeen{Order: m.order, Digest: o.Digest()}, at)
}

// setconfSent notes the first SETCONF after an order: when it was sent, and what the
// link had waited for Tor in all by then.
func (m *member) setconfSent(at time.Time, waited time.Duration) {
	t := &m.timing
	if t.seen.IsZero() || t.setconf != 0 {
		return
	}
	t.setconf = at.Sub(t.seen)
	t.own = t.setconf - (waited - t.waited)
}

// published is called when pending stands in the region.
func (m *member) published(now time.Time) {
	p := m.pending
	before := shmproto.Receipt{}
	if m.shown != nil {
		before = m.shown.Receipt
	}
	if p.Receipt != before && p.Receipt.Status == shmproto.ReceiptApplied {
		killpoint.Here("receipt-written")
		t := &m.timing
		t.receipt = now.Sub(m.cause)
		if !t.seen.IsZero() {
			t.applied = now.Sub(t.seen)
		}
		m.l.cfg.Log.Info("order applied", "member", m.tor.Name, "seq", p.Receipt.Seq, "exclusions", len(m.order.Exclusions),
			"circuits_closed", t.closed, "ms_to_setconf", millis(t.setconf), "ms_to_last_circuit_gone", millis(t.gone), "ms_to_receipt", millis(t.applied))
	}
	m.shown, m.pending, m.fault = p, nil, nil
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
