package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/user"
	"strconv"

	"guardring/guest-agent/rotation"
	"guardring/guest-agent/torctl"
	"guardring/internal/hint"
)

// errNoUser: nobody has said which user the rules are for.
var errNoUser = hint.Wrap(errors.New("it is not known which user this Tor runs as"), "start Tor, or name its user in the configuration (instances: user:)")

// enforce has the packet filter changed for this Tor. conn is nil while the
// control port is away.
func (l *link) enforce(ctx context.Context, conn *torctl.Conn, a rotation.Enforce) error {
	if !l.uidKnown {
		uid, err := l.findUser(ctx, conn)
		if err != nil {
			return err
		}
		l.uid, l.uidKnown = uid, true
	}
	return l.enforcer.Set(l.tor.Name, l.uid, a.Rejects)
}

// findUser asks Tor for its user, and where it does not say, the configuration.
// Where both say, they must agree: whoever listens in the place of one Tor could
// else name another Tor's user, and two Tors of one user get no rules. The peer of
// the control socket would not tell: Tor listens before it becomes that user.
func (l *link) findUser(ctx context.Context, conn *torctl.Conn) (uint32, error) {
	var said string
	if conn != nil {
		var err error
		if said, err = l.info(ctx, conn, "process/uid"); err != nil {
			return 0, err
		}
	}
	silent := said == "" || said == "-1"
	if silent && l.tor.User == "" {
		return 0, errNoUser
	}
	if l.tor.User != "" {
		u, err := user.Lookup(l.tor.User)
		switch {
		case err != nil && silent:
			return 0, hint.Wrap(fmt.Errorf("the user of this Tor: %w", err), "correct user: of this instance in the configuration")
		case err == nil && !silent && said != u.Uid:
			return 0, hint.Wrap(fmt.Errorf("this Tor says that it runs as user %.20q, and it should be %s (%s)", said, l.tor.User, u.Uid),
				"name its user in the configuration (instances: user:), if that is right")
		case err == nil:
			said = u.Uid
		}
	}
	uid, err := strconv.ParseUint(said, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("the user ID %q of this Tor is no number", said)
	}
	return uint32(uid), nil
}

// EnforceDoc says what the packet filter does.
type EnforceDoc struct {
	Table string `json:"table"` // as nft(8) names it
	Error string `json:"error,omitempty"`
}

// Rules are what the packet filter has for one Tor.
type Rules struct {
	UID       uint32 `json:"uid"`
	Addresses int    `json:"addresses"`
	Dropped   uint64 `json:"dropped_packets"`
	Error     string `json:"error,omitempty"`
}

// enforcement adds to the document what the packet filter has.
func (l *loop) enforcement(d *Document, complain func(member, text, remedy string)) {
	if l.cfg.Enforcer == nil {
		return
	}
	d.Enforce = &EnforceDoc{Table: l.cfg.Enforcer.Name()}
	state, err := l.cfg.Enforcer.State()
	if err = cmp.Or(err, l.enforceErr); err != nil {
		d.Enforce.Error = err.Error()
		complain("", "exclusions are not enforced: "+err.Error(), hint.Of(err))
	}
	for i, m := range l.members {
		s, ok := state[m.tor.Name]
		r := Rules{UID: s.UID, Addresses: s.Addresses, Dropped: s.Dropped}
		switch {
		case s.Err != nil:
			r.Error = s.Err.Error()
			complain(m.tor.Name, "exclusions are not enforced: "+r.Error, hint.Of(s.Err))
		case !ok:
			r.Error = "nothing was asked for yet"
		}
		d.Members[i].Rules = &r
	}
}

// checkRules puts right what others did to our rules.
func (l *loop) checkRules() {
	if l.cfg.Enforcer == nil {
		return
	}
	err := l.cfg.Enforcer.Check()
	if err != nil && (l.enforceErr == nil || l.enforceErr.Error() != err.Error()) {
		l.cfg.Log.Error("the packet filter cannot be checked", "error", err)
	}
	l.enforceErr = err
}

// keepRules takes away the rules of Tors that are not served any more: of those
// that were removed, or taken out of the configuration, while no agent ran.
func (l *loop) keepRules() {
	if l.cfg.Enforcer == nil || l.cfg.Part {
		return
	}
	var names []string
	for _, m := range l.members {
		names = append(names, m.tor.Name)
	}
	if err := l.cfg.Enforcer.Keep(names); err != nil {
		l.enforceErr = err
		l.cfg.Log.Error("the packet filter cannot be changed", "error", err)
	}
}

// endRules ends the enforcement when all have left.
func (l *loop) endRules() error {
	if l.cfg.Enforcer == nil {
		return nil
	}
	if !l.cfg.Part {
		return l.cfg.Enforcer.Remove()
	}
	var errs []error
	for _, m := range l.members {
		errs = append(errs, l.cfg.Enforcer.Drop(m.tor.Name))
	}
	return errors.Join(errs...)
}

// dropRules ends the enforcement of a member that has left.
func (l *loop) dropRules(m *member) {
	if l.cfg.Enforcer == nil {
		return
	}
	if err := l.cfg.Enforcer.Drop(m.tor.Name); err != nil {
		l.cfg.Log.Error("the packet filter's rules of a member that has left are still there", "member", m.tor.Name, "error", err)
	}
}
