package runner

import (
	"context"
	"errors"
	"strings"
	"time"

	"guardring/guest-agent/include"
	"guardring/guest-agent/rotation"
	"guardring/guest-agent/torctl"
	"guardring/internal/guardstate"
	"guardring/internal/killpoint"
)

// eventNames are what a link subscribes to, as rotation.ControlUp promises, and
// CIRC_MINOR: a circuit that Tor was asked to close may get another purpose instead.
var eventNames = []string{"CIRC", "CIRC_MINOR", "STREAM", "GUARD", "NEWCONSENSUS", "CONF_CHANGED"}

// link keeps one Tor's control connection, for ever, and does what the machine
// asks, one after another.
type link struct {
	tor  Tor
	box  mailbox
	wait backoff
	// retry holds a token when there is reason to believe that Tor is there again.
	retry chan struct{}
	// report hands an event to the loop: the machine steps it, in order.
	report func(e rotation.Event, at time.Time)
	// changed tells the loop what session this is now; why is nil when the
	// control port is up.
	changed func(session uint64, version string, why error)
	// sent and closed tell the loop what was done, for the status.
	sent   func(at time.Time, waited time.Duration)
	closed func(id guardstate.CircuitID)

	enforcer Enforcer // nil: none
	uid      uint32
	uidKnown bool

	session uint64
	waits   waits // for Tor's answers
}

// run ends with ctx.
func (l *link) run(ctx context.Context) {
	for ctx.Err() == nil {
		conn, err := torctl.Dial(ctx, l.tor.Control)
		if err == nil {
			err = l.serve(ctx, conn)
			_ = conn.Close()
		}
		if ctx.Err() != nil {
			return
		}
		l.session++
		l.changed(l.session, "", err)
		l.idle(ctx, l.wait.next())
	}
}

// again ends a pause between two attempts.
func (l *link) again() {
	select {
	case l.retry <- struct{}{}:
	default:
	}
}

// idle waits. Files are still written: a member may leave while Tor is away.
func (l *link) idle(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			return
		case <-l.retry:
			l.wait.reset()
			return
		case <-l.box.ready:
			for _, c := range l.box.take() {
				if c.session != l.session {
					continue
				}
				switch a := c.action.(type) {
				case rotation.WriteInclude:
					l.done(a.ID, l.write(a))
				case rotation.Enforce:
					l.done(a.ID, l.enforce(ctx, nil, a))
				}
			}
		}
	}
}

// serve works with a connection until it ends, and says why it did.
func (l *link) serve(ctx context.Context, conn *torctl.Conn) error {
	if err := conn.Subscribe(ctx, eventNames...); err != nil {
		return err
	}
	r, err := conn.Do(ctx, "GETINFO version")
	if err != nil {
		return err
	}
	var version string
	if v := r.Values("version"); len(v) > 0 {
		version, _, _ = strings.Cut(v[0], " ")
	}
	l.uidKnown = false // it may have been started anew, as somebody else
	l.session++
	l.changed(l.session, version, nil)
	l.wait.reset()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-conn.Failed():
			return conn.Err()
		case <-conn.Ready():
			l.events(ctx, conn, conn.Take(), time.Now())
		case <-l.box.ready:
			for _, c := range l.box.take() {
				if c.session == l.session {
					l.perform(ctx, conn, c.action)
				}
			}
		}
	}
}

// events passes on what Tor told, in order. Where an event was lost or cannot be
// parsed, Tor is asked for the whole truth. A CIRC_MINOR event does not say
// whether the circuit is built, so the circuits are asked for, once for all.
func (l *link) events(ctx context.Context, conn *torctl.Conn, events []torctl.Event, at time.Time) {
	lost, minor := false, false
	for _, e := range events {
		parsed, err := translate(e)
		switch {
		case err != nil, e.Name == torctl.Resync:
			lost = true
		case e.Name == "CIRC_MINOR":
			minor = true
		case parsed != nil:
			l.report(parsed, at)
		}
	}
	var ask []rotation.What
	if lost {
		ask = append(ask, rotation.QueryEntryGuards)
	}
	if lost || minor {
		ask = append(ask, rotation.QueryCircuits)
	}
	for _, what := range ask {
		if answer, err := l.query(ctx, conn, rotation.Query{What: what}); err == nil {
			l.report(answer, at)
		}
	}
	if lost {
		l.report(rotation.ConfChanged{Keys: rotation.ConfigKeys()}, at)
		l.report(rotation.ConsensusArrived{}, at)
	}
}

// perform does one action and reports its end.
func (l *link) perform(ctx context.Context, conn *torctl.Conn, a rotation.Action) {
	switch a := a.(type) {
	case rotation.SetConf:
		at := time.Now()
		waited := l.waits.until(at)
		_, err := l.do(ctx, conn, setConf(a.Settings))
		l.sent(at, waited)
		killpoint.Here("setconf-sent")
		l.done(a.ID, err)
	case rotation.ResetConf:
		_, err := l.do(ctx, conn, "RESETCONF "+strings.Join(a.Keys, " "))
		killpoint.Here("resetconf-sent")
		l.done(a.ID, err)
	case rotation.WriteInclude:
		l.done(a.ID, l.write(a))
	case rotation.Enforce:
		l.done(a.ID, l.enforce(ctx, conn, a))
	case rotation.CloseCircuit:
		request := "CLOSECIRCUIT " + string(a.Circuit)
		if a.IfUnused {
			request += " IfUnused"
		}
		_, err := l.do(ctx, conn, request)
		if err == nil {
			l.closed(a.Circuit)
			killpoint.Here("circuits-closed")
		}
		l.done(a.ID, err)
	case rotation.AttachStream:
		_, err := l.do(ctx, conn, "ATTACHSTREAM "+a.Stream+" 0")
		killpoint.Here("stream-attached")
		l.done(a.ID, err)
	case rotation.Query:
		answer, err := l.query(ctx, conn, a)
		if err == nil {
			l.report(answer, time.Now())
		}
		l.done(a.ID, err)
	}
}

func (l *link) write(a rotation.WriteInclude) error {
	if l.tor.Site.Include == "" {
		return errors.New("no include file is configured")
	}
	err := include.Write(l.tor.Site.Include, a.Text)
	if err == nil {
		killpoint.Here("include-written")
	}
	return err
}

// done reports the end of a command, with Tor's refusals in the core's form.
func (l *link) done(id rotation.CommandID, err error) {
	var refusal *torctl.Error
	if errors.As(err, &refusal) {
		err = &rotation.TorError{Code: refusal.Code, Text: refusal.Text}
	}
	l.report(rotation.CommandDone{ID: id, Err: err}, time.Now())
}

// do sends a request and counts the time that Tor takes.
func (l *link) do(ctx context.Context, conn *torctl.Conn, request string) (torctl.Reply, error) {
	l.waits.begin(time.Now())
	defer func() { l.waits.end(time.Now()) }()
	return conn.Do(ctx, request)
}

// setConf writes one SETCONF. Several settings of one key are its lines.
func setConf(settings []rotation.Setting) string {
	var b strings.Builder
	b.WriteString("SETCONF")
	for _, s := range settings {
		b.WriteString(" " + s.Key + "=" + quote(s.Value))
	}
	return b.String()
}

// quote writes a QuotedString (control-spec).
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
