package runner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"guardring/guest-agent/include"
	"guardring/shmproto"
)

// goneAfter is how many looks in a row must find nothing of a Tor before it is
// let go: a package upgrade or an editor may take a file away for a moment.
const goneAfter = 2

// scout knows what was found on this machine besides the members. It belongs to
// the loop's goroutine, but for run.
type scout struct {
	asks    chan struct{}    // a token: look
	leftOut map[string]error // Tors that are not served, and why
	// dismissed were told to leave by name. They are taken up again after join:
	// when the include line is there and had gone (then the value is true).
	dismissed map[string]bool
	err       error // why the last look failed
}

func (s *scout) init() {
	s.asks, s.leftOut, s.dismissed = make(chan struct{}, 1), map[string]error{}, map[string]bool{}
}

// ask has run look again.
func (s *scout) ask() {
	select {
	case s.asks <- struct{}{}:
	default:
	}
}

// run looks whenever it is asked to, until ctx ends.
func (s *scout) run(ctx context.Context, l *loop) {
	post := l.post(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.asks:
		}
		tors, err := l.cfg.Discover()
		post(func() { l.found(tors, err) })
	}
}

// errFull: the region has no more slots.
var errFull = fmt.Errorf("a gateway has room for %d Tors", shmproto.MaxMembers)

// full reports, and says, that there is no room for another Tor.
func (l *loop) full(t Tor) bool {
	if len(l.members) < shmproto.MaxMembers {
		return false
	}
	l.leaveOut(t.Name, errFull)
	return true
}

func (l *loop) leaveOut(name string, why error) {
	if old := l.scout.leftOut[name]; old == nil || old.Error() != why.Error() {
		l.cfg.Log.Warn("a Tor is not served", "instance", name, "error", why)
	}
	l.scout.leftOut[name] = why
}

// found takes up the Tors that are new, and lets those go that are no more.
func (l *loop) found(tors []Tor, err error) {
	s := &l.scout
	if err != nil && (s.err == nil || s.err.Error() != err.Error()) {
		l.cfg.Log.Warn("the machine's Tors cannot be looked for", "error", err)
	}
	if s.err = err; err != nil || l.leaving {
		return
	}
	there := map[string]bool{}
	for _, t := range tors {
		there[t.Name] = true
	}
	for _, m := range l.members {
		switch {
		case there[m.tor.Name] || m.up || !vanished(m.tor):
			m.missing = 0
		default:
			m.missing++
		}
		if m.missing >= goneAfter && !m.going {
			l.cfg.Log.Info("a Tor is gone: its member leaves", "member", m.tor.Name)
			m.retire()
		}
	}
	for name := range s.leftOut {
		if !there[name] {
			delete(s.leftOut, name)
		}
	}
	for _, t := range tors {
		l.takeUp(t)
	}
}

// takeUp makes a Tor a member, unless it is one or must not be.
func (l *loop) takeUp(t Tor) {
	if l.memberOf(t.Name) != nil {
		return
	}
	if restored, dismissed := l.scout.dismissed[t.Name]; dismissed {
		st, err := include.Inspect(t.Site)
		if err != nil || !st.Included || !restored {
			l.scout.dismissed[t.Name] = restored || err == nil && !st.Included
			return
		}
		delete(l.scout.dismissed, t.Name)
	}
	if l.full(t) {
		return
	}
	m, err := newMember(l, t)
	if err != nil {
		l.leaveOut(t.Name, err)
		return
	}
	delete(l.scout.leftOut, t.Name)
	l.cfg.Log.Info("a Tor was found", "member", t.Name, "role", t.Role)
	l.members = append(l.members, m)
	l.launch(m)
}

// vanished reports that nothing of a Tor is left: a Tor that is only stopped has
// its files. What we may not look at is there.
func vanished(t Tor) bool {
	for _, path := range []string{t.Site.Torrc, t.State, strings.TrimPrefix(t.Control.Address, "unix:")} {
		if path == "" {
			continue
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return false
		}
	}
	return true
}

func (l *loop) memberOf(name string) *member {
	for _, m := range l.members {
		if m.tor.Name == name {
			return m
		}
	}
	return nil
}

// dismiss makes one member leave because the user wants it to.
func (l *loop) dismiss(name string) {
	l.scout.dismissed[name] = false
	if m := l.memberOf(name); m != nil && !m.going {
		l.cfg.Log.Info("leaving: every exclusion is lifted", "member", name)
		m.retire()
	}
}

// retire makes the member leave and be let go, while the others stay.
func (m *member) retire() {
	m.going = true
	m.goneBy = time.Now().Add(leavePatience)
	m.leave()
}

// letGo ends the members that have left by themselves, once the region shows it
// or keeps it from being shown for too long.
func (l *loop) letGo() {
	for _, m := range append([]*member(nil), l.members...) {
		if !m.going || !m.left || m.pending != nil && l.shore.possible() && time.Now().Before(m.goneBy) {
			continue
		}
		m.cancel()
		for i, o := range l.members {
			if o == m {
				l.members = append(l.members[:i:i], l.members[i+1:]...)
				break
			}
		}
		l.dropRules(m)
		if m.missing >= goneAfter && m.tor.Site.Torrc != "" && m.tor.Site.Include != "" {
			if err := include.Forget(m.tor.Site); err != nil {
				l.cfg.Log.Warn("the include file of a Tor that is gone is left", "member", m.tor.Name, "error", err)
			}
		}
		l.cfg.Log.Info("a member has left", "member", m.tor.Name)
		l.scout.ask() // there is room for another one now
	}
}
