package runner

import (
	"context"
	"errors"
	"sync"
	"time"

	"guardring/guest-agent/rotation"
	"guardring/shmproto"
)

// loop owns the machines and the region. Everything in it is used by one
// goroutine only.
type loop struct {
	cfg     Config
	members []*member
	scout   scout
	shore   shore // the region and what is shown in it
	host    hostWatch
	started time.Time
	launch  func(*member) // sets a member to work; known while Run runs

	work       chan func() // what happened, to be called here
	asks       chan chan Document
	nextAll    time.Time // of the slow tick
	enforceErr error     // why the packet filter could not be checked
	wakeups    uint64    // by our own timer
	leaving    bool
	leaveBy    time.Time // until when the region may keep us from leaving
	stopping   bool
	stopBy     time.Time // until when join gates may keep us from stopping
}

// stopPatience is how long a stopped agent takes to open join gates.
const stopPatience = 5 * time.Second

// leavePatience is how long leaving waits for the region to take the last
// publications.
const leavePatience = 5 * time.Second

// Agent is a guest agent that can be asked for its status.
type Agent struct{ l *loop }

// New checks cfg and makes an agent, which does nothing before Run.
func New(cfg Config) (*Agent, error) {
	cfg.fill()
	if len(cfg.Tors) == 0 && cfg.Discover == nil {
		return nil, errors.New("no Tor to serve")
	}
	l := &loop{cfg: cfg, work: make(chan func(), 64), asks: make(chan chan Document)}
	l.shore.loop = l
	l.scout.init()
	for _, t := range cfg.Tors {
		if l.full(t) {
			continue
		}
		m, err := newMember(l, t)
		switch {
		case err == nil:
			l.members = append(l.members, m)
		case cfg.Discover != nil && !shmproto.ValidName(t.Name):
			l.leaveOut(t.Name, err) // what lies among the instances must not keep the others from being served
		default:
			return nil, err
		}
	}
	return &Agent{l}, nil
}

// Run serves until ctx ends, or until all members have left after Config.Leave.
// It returns nil in both cases.
func (a *Agent) Run(ctx context.Context) error {
	// What works for the members outlives ctx: a closed join gate is opened first.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	l := a.l
	l.started = time.Now()
	l.keepRules()
	l.launch = func(m *member) { m.launch(work, &wg) }
	for _, m := range l.members {
		l.launch(m)
	}
	if l.cfg.Discover != nil {
		wg.Go(func() { l.scout.run(work, l) })
	}
	wg.Go(func() { l.shore.dial(work, l.post(work)) })
	err := l.run(ctx)
	ctxErr := ctx.Err() // stopped before all had left
	cancel()
	wg.Wait()
	if l.leaving && err == nil && ctxErr == nil {
		err = l.endRules()
	}
	for len(l.work) > 0 { // a device may be among it, which must be closed
		(<-l.work)()
	}
	l.shore.close()
	return err
}

// Untold are the Tors that could not be told of the end of Run: their control ports
// were away. Call it after Run.
func (a *Agent) Untold() (names []string) {
	for _, m := range a.l.members {
		if !m.up {
			names = append(names, m.tor.Name)
		}
	}
	return names
}

// Status asks the running loop for its status. It may be called from any
// goroutine.
func (a *Agent) Status() any {
	answer := make(chan Document, 1)
	t := time.NewTimer(2 * time.Second)
	defer t.Stop()
	select {
	case a.l.asks <- answer:
		return <-answer
	case <-t.C:
		return map[string]string{"error": "the agent's loop does not answer"}
	}
}

// post returns a function that hands work to the loop, in order. When ctx has
// ended it may drop the work, and then returns false.
func (l *loop) post(ctx context.Context) func(func()) bool {
	return func(f func()) bool {
		select {
		case l.work <- f:
			return true
		case <-ctx.Done():
			return false
		}
	}
}

func (l *loop) run(ctx context.Context) error {
	l.nextAll = time.Now().Add(l.cfg.SlowTick)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	leave, stop := l.cfg.Leave, ctx.Done()
	for {
		now := time.Now()
		l.tick(now)
		l.shore.flush(now)
		l.letGo()
		if l.gone(now) || l.stopped(now) {
			return nil
		}
		timer.Reset(l.next().Sub(now))
		select {
		case <-stop:
			stop = nil
			l.stopping, l.stopBy = true, time.Now().Add(stopPatience)
			for _, m := range l.members {
				m.step(rotation.Stop{}, time.Now())
			}
		case f := <-l.work:
			f()
			for range len(l.work) { // what waits already, before anything is shown
				(<-l.work)()
			}
		case <-l.shore.rung:
			now := time.Now()
			l.host.look(l, now)
			l.shore.readOrders(now)
		case answer := <-l.asks:
			answer <- l.document(time.Now())
		case name, one := <-leave:
			if one {
				l.dismiss(name)
				continue
			}
			leave, l.leaving = nil, true
			l.leaveBy = time.Now().Add(leavePatience)
			l.cfg.Log.Info("leaving: every exclusion is lifted")
			for _, m := range l.members {
				m.leave()
			}
		case <-timer.C:
			l.wakeups++
		}
	}
}

// next is when the loop must look again although nothing happened.
func (l *loop) next() time.Time {
	next := l.nextAll
	for _, m := range l.members {
		if !m.wake.IsZero() && m.wake.Before(next) {
			next = m.wake
		}
		if m.going && m.left && m.goneBy.Before(next) {
			next = m.goneBy
		}
	}
	if t := l.shore.retryAt; !t.IsZero() && t.Before(next) {
		next = t
	}
	if l.leaving && l.leaveBy.Before(next) && time.Now().Before(l.leaveBy) { // past it only Tor is waited for
		next = l.leaveBy
	}
	if l.stopping && l.stopBy.Before(next) {
		next = l.stopBy
	}
	return next
}

// tick does what is due. Machines that want to be woken before the next slow
// tick are woken by the one that comes with it, so that an idle agent has one
// timer.
func (l *loop) tick(now time.Time) {
	all := !now.Before(l.nextAll)
	if all {
		l.nextAll = now.Add(l.cfg.SlowTick)
		l.host.look(l, now)
		l.shore.check(now)
		l.shore.readOrders(now)
		l.scout.ask()
		l.checkRules()
		for _, m := range l.members {
			m.nudge()
		}
	}
	for _, m := range l.members {
		if !m.wake.IsZero() && !now.Before(m.wake) {
			m.step(rotation.Tick{}, now)
		}
	}
}

// stopped reports whether we were stopped and no join gate is closed any more by our
// doing, or has not become so in time.
func (l *loop) stopped(now time.Time) bool {
	if !l.stopping {
		return false
	}
	for _, m := range l.members {
		if !m.machine.Ending() {
			continue
		}
		if now.Before(l.stopBy) {
			return false
		}
		l.cfg.Log.Warn("the join gate could not be opened before the end: streams wait until the agent runs again; start it, or restart Tor", "member", m.tor.Name)
	}
	return true
}

// gone reports whether every member has left and the region shows it.
func (l *loop) gone(now time.Time) bool {
	if !l.leaving {
		return false
	}
	for _, m := range l.members {
		if !m.left {
			return false
		}
		if m.pending != nil && l.shore.possible() && now.Before(l.leaveBy) {
			return false
		}
	}
	return true
}
