package coordinator

import (
	"cmp"
	"slices"

	"guardring/shmproto"
)

// State returns a copy of everything that status shows.
func (c *Coordinator) State() State {
	s := State{
		At:        c.now,
		Policy:    c.cfg.Policy,
		Gateways:  make([]GatewayStatus, 0, len(c.gateways)),
		Members:   make([]MemberStatus, 0, len(c.members)),
		Conflicts: []ConflictStatus{},
	}
	for _, g := range c.gateways {
		s.Gateways = append(s.Gateways, GatewayStatus{
			Gateway: g.name, Present: g.present, Violations: g.violations, Stale: g.stale,
			Quarantine: g.quarantined, Reason: g.reason,
		})
	}
	for _, m := range c.members {
		s.Members = append(s.Members, c.memberStatus(m))
		s.Conflicts = c.appendConflicts(s.Conflicts, m)
	}
	s.Contradictions = slices.Clone(c.contradictions)
	s.Layers = c.layerStatus()
	slices.SortFunc(s.Conflicts, func(a, b ConflictStatus) int {
		return cmp.Or(a.Key.Compare(b.Key), a.Holder.Compare(b.Holder), a.Mover.Compare(b.Mover))
	})
	return s
}

// memberStatus is status with what the core knows besides.
func (c *Coordinator) memberStatus(m *member) MemberStatus {
	s := m.status()
	s.Budgets = c.budgetStatus(m)
	s.Gated = m.shown() && m.pub.has(shmproto.MemberGated)
	for _, cl := range m.claims {
		if cl.allowed.After(s.Allowed) {
			s.Allowed = cl.allowed
		}
	}
	return s
}

// budgetStatus shows the budgets that have a limit.
func (c *Coordinator) budgetStatus(m *member) (all []BudgetStatus) {
	for _, n := range budgetNames {
		if m.account == nil {
			break
		}
		s := BudgetStatus{Name: n, Waiting: m.short(n).waiting}
		if n == BudgetCaused {
			s.Burst = c.cfg.Budgets.CausedMost
			s.Left, s.Next = c.leastCauses(m)
		} else {
			_, b := c.budget(m, n)
			s.Burst = b.Burst
			s.Left, s.Next = c.left(m, n)
		}
		if s.Left != unlimited {
			all = append(all, s)
		}
	}
	x := BudgetStatus{Name: BudgetExclusions, Left: c.cfg.MaxExclusions - len(m.exclusions), Burst: c.cfg.MaxExclusions}
	if m.stuck == ReasonTooMany {
		for _, cl := range m.claims {
			if cl.noted != (rival{}) && m.exclusion(cl.key) == nil {
				x.Waiting++
			}
		}
	}
	return append(all, x)
}

func (m *member) status() MemberStatus {
	p := &m.pub
	s := MemberStatus{
		Member: m.name, Slot: m.slot, Away: m.away, Gone: m.gone,
		State: p.state, Selection: p.selection, Flags: p.flags,
		NumPrimary: p.numPrimary, Attachment: p.attachment, Incarnation: p.incarnation, Seq: p.seq, Seen: p.seen, TorVersion: p.torVersion, Role: p.role,
		Guards: make([]GuardStatus, 0, len(p.guards)+len(m.claims)),
		Order: OrderStatus{
			Seq: shmproto.Seq(m.seq), Exclusions: slices.Clone(m.exclusions),
			Answer: m.answer, Reason: m.reason, Tries: m.tries, Unanswered: m.unanswered,
		},
		Excess: m.excess, Stuck: m.stuck,
		CloneOf: m.cloneOf, RolledBack: m.rolledBack,
	}
	shown := make(map[Key]bool, len(p.guards))
	for _, g := range p.guards {
		k := RelayKey(g.id)
		shown[k] = true
		s.Guards = append(s.Guards, m.guardStatus(k, GuardStatus{Fingerprint: g.id, Flags: g.flags, Shown: true}))
	}
	var rest []Key
	for _, cl := range m.claims {
		rest = append(rest, cl.key)
	}
	for _, x := range m.exclusions {
		rest = append(rest, x.Key)
	}
	slices.SortFunc(rest, Key.Compare)
	for _, k := range slices.Compact(rest) {
		if f, ok := k.Relay(); ok && !shown[k] {
			s.Guards = append(s.Guards, m.guardStatus(k, GuardStatus{Fingerprint: f}))
		}
	}
	return s
}

func (m *member) guardStatus(k Key, s GuardStatus) GuardStatus {
	if cl := m.claim(k); cl != nil {
		s.Claim, s.Used, s.Left = cl.stamp, cl.used, cl.left
	}
	if x := m.exclusion(k); x != nil {
		s.Excluded = x.Since
	}
	return s
}

// appendConflicts appends the conflicts in which m is the one that came later.
func (c *Coordinator) appendConflicts(all []ConflictStatus, m *member) []ConflictStatus {
	for _, cl := range m.claims {
		if !cl.live() {
			continue
		}
		o := c.obstacle(m, cl.key, cl)
		if o.other == nil {
			continue
		}
		s := ConflictStatus{Key: cl.key, Level: o.level, Over: o.over, Holder: o.other.name, Since: o.stamp, Mover: m.name, Later: cl.stamp}
		switch x := m.exclusion(cl.key); {
		case x != nil:
			s.Told, s.Answer = x.Since, m.answer
		case o.tolerance() != "":
			s.Reason = o.tolerance()
		case c.cfg.Policy == PolicyObserve && m.stuck == "":
			s.Reason = ReasonPolicy
		case cl.blocked != "":
			s.Reason, s.Due = cl.blocked, cl.due
		default:
			s.Reason = m.stuck
		}
		all = append(all, s)
	}
	return all
}

// receiptReason puts a guest's number into our words.
func receiptReason(r shmproto.ReceiptReason) string {
	if int(r) < len(receiptReasons) {
		return receiptReasons[r]
	}
	return "reason unknown to this version"
}

var receiptReasons = [...]string{
	shmproto.ReasonNone:                "no reason given",
	shmproto.ReasonTooFewGuards:        "too few guards would be left",
	shmproto.ReasonRestrictedSelection: "its Tor uses the restricted guard selection",
	shmproto.ReasonBridges:             "its Tor uses bridges",
	shmproto.ReasonRelay:               "its Tor is a relay",
	shmproto.ReasonControlPort:         "the control port is away, refuses or hangs",
	shmproto.ReasonSetconf:             "Tor refused the option",
	shmproto.ReasonIncludeFile:         "the include file cannot be written, or is not read first",
	shmproto.ReasonUnknownAddress:      "an address is not known",
	shmproto.ReasonOverridden:          "something else changes the option",
	shmproto.ReasonObserve:             "the agent is configured to observe only",
	shmproto.ReasonStillInUse:          "streams still use the guard",
}
