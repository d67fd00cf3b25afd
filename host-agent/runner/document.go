package runner

import (
	"slices"
	"time"

	"guardring/host-agent/report"
	"guardring/internal/coordinator"
	"guardring/shmproto"
)

// document translates the core's state into what the status socket hands out.
func document(self report.Self, s coordinator.State) report.Document {
	d := report.Document{
		At:        s.At,
		Self:      self,
		Gateways:  make([]report.Gateway, 0, len(s.Gateways)),
		Members:   make([]report.Member, 0, len(s.Members)),
		Conflicts: make([]report.Conflict, 0, len(s.Conflicts)),
	}
	for _, g := range s.Gateways {
		d.Gateways = append(d.Gateways, report.Gateway{
			Name: g.Gateway, Present: g.Present,
			Violations: g.Violations, Quarantine: g.Quarantine, Reason: g.Reason,
		})
	}
	for _, m := range s.Members {
		d.Members = append(d.Members, member(m))
	}
	movers := make(map[coordinator.Member]coordinator.MemberStatus)
	for _, m := range s.Members {
		movers[m.Member] = m
	}
	for _, c := range s.Conflicts {
		d.Conflicts = append(d.Conflicts, conflict(c, s.Policy, movers[c.Mover]))
	}
	for _, x := range s.Contradictions {
		d.Contradictions = append(d.Contradictions, report.Contradiction{
			Fingerprint: x.Relay.String(), Level: x.Level.String(), One: x.One.String(), Other: memberName(x.Other),
		})
	}
	for _, x := range s.Layers {
		l := report.Layer{Fingerprint: x.Relay.String(), Layer: x.Layer}
		for _, m := range x.Members {
			l.Members = append(l.Members, m.String())
		}
		d.Layers = append(d.Layers, l)
	}
	return d
}

// memberName is "" for nobody.
func memberName(m coordinator.Member) string {
	if m.IsZero() {
		return ""
	}
	return m.String()
}

func member(m coordinator.MemberStatus) report.Member {
	out := report.Member{
		Member:     m.Member.String(),
		State:      memberState(m),
		Since:      m.Away,
		Selection:  selectionNames[m.Selection],
		Flags:      flagNames(m.Flags),
		TorVersion: m.TorVersion,
		NumPrimary: m.NumPrimary,
		Publication: report.Publication{
			Attachment: uint64(m.Attachment), Incarnation: uint64(m.Incarnation), Seq: uint64(m.Seq), Seen: m.Seen,
		},
		Guards:  make([]report.Guard, 0, len(m.Guards)),
		Order:   report.Order{Seq: uint64(m.Order.Seq), Exclusions: []string{}, Tries: m.Order.Tries},
		Receipt: report.Receipt{Status: receiptNames[m.Order.Answer], Reason: reasonNames[m.Order.Reason]},
		Excess:  m.Excess,
		Stuck:   m.Stuck,
		Role:    m.Role, Allowed: m.Allowed, CloneOf: memberName(m.CloneOf), RolledBack: m.RolledBack,
	}
	for _, b := range m.Budgets {
		out.Budgets = append(out.Budgets, report.Budget{Name: string(b.Name), Left: b.Left, Burst: b.Burst, Next: b.Next, Waiting: b.Waiting})
	}
	for _, g := range m.Guards {
		out.Guards = append(out.Guards, guard(g))
	}
	for _, x := range m.Order.Exclusions {
		out.Order.Exclusions = append(out.Order.Exclusions, name(x.Key))
	}
	return out
}

func guard(g coordinator.GuardStatus) report.Guard {
	has := func(f shmproto.GuardFlags) bool { return g.Flags&f != 0 }
	return report.Guard{
		Fingerprint: g.Fingerprint.String(),
		InUse:       has(shmproto.GuardInUse),
		Primary:     has(shmproto.GuardPrimary),
		Possible:    has(shmproto.GuardPossiblePrimary),
		Confirmed:   has(shmproto.GuardConfirmed),
		Excluded:    has(shmproto.GuardExcluded),
		Ordered:     g.Excluded,
		Claimed:     g.Claim.At,
		Stamp:       g.Claim.Counter,
		Left:        g.Left,
	}
}

func conflict(c coordinator.ConflictStatus, p coordinator.Policy, mover coordinator.MemberStatus) report.Conflict {
	level := c.Level
	if level == 0 {
		level = coordinator.LevelRelay
	}
	over := ""
	if !c.Over.IsZero() && c.Over != c.Key {
		over = name(c.Over)
	}
	state, due := conflictState(c, p, mover), c.Due
	if state == report.ConflictBudget {
		due = more(mover)
	}
	return report.Conflict{
		Level: level.String(), Fingerprint: name(c.Key), Over: over, Due: due,
		Incumbent: c.Holder.String(), Held: c.Since.At,
		Newcomer: c.Mover.String(), Since: c.Later.At,
		State: state, Reason: c.Reason,
	}
}

// more is when a member may be told to give up more: the first date of a budget
// that keeps conflicts waiting.
func more(m coordinator.MemberStatus) (first time.Time) {
	for _, b := range m.Budgets {
		forced := b.Name == coordinator.BudgetForcedUsed || b.Name == coordinator.BudgetForcedUnused || b.Name == coordinator.BudgetCaused
		if forced && b.Waiting > 0 && (first.IsZero() || b.Next.Before(first)) {
			first = b.Next
		}
	}
	return first
}

func conflictState(c coordinator.ConflictStatus, p coordinator.Policy, mover coordinator.MemberStatus) string {
	switch {
	case !mover.Away.IsZero():
		return report.ConflictAway
	case c.Answer == shmproto.ReceiptRefused || c.Answer == shmproto.ReceiptFailed:
		return report.ConflictRefused
	case mover.Order.Unanswered && !c.Told.IsZero():
		return report.ConflictUnanswered
	case !c.Told.IsZero():
		return report.ConflictOrdered
	case slices.Contains([]string{coordinator.ReasonUsedBoth, coordinator.ReasonUsed, coordinator.ReasonAlreadyUsed, coordinator.ReasonUndecided}, c.Reason):
		return report.ConflictTolerated
	case c.Reason == coordinator.ReasonClone:
		return report.ConflictClone
	case p == coordinator.PolicyObserve:
		return report.ConflictObserved
	case c.Reason == coordinator.ReasonBudget || c.Reason == coordinator.ReasonCaused:
		return report.ConflictBudget
	case c.Reason == coordinator.ReasonDelayed:
		return report.ConflictDelayed
	default:
		return report.ConflictStuck
	}
}

// name is a relay's fingerprint, or the whole key of another level.
func name(k coordinator.Key) string {
	if f, ok := k.Relay(); ok {
		return f.String()
	}
	return k.String()
}

func memberState(m coordinator.MemberStatus) string {
	switch {
	case m.Gone:
		return "left"
	case !m.Away.IsZero():
		return "away"
	case m.State == shmproto.MemberObserveOnly:
		return "observe-only"
	case m.State == shmproto.MemberRefused:
		return "refused"
	case m.State == shmproto.MemberLeft:
		return "left"
	}
	return "present"
}

// The words of status documents. They are part of the JSON's contract.
var (
	selectionNames = map[shmproto.Selection]string{
		shmproto.SelectionUnknown: "unknown", shmproto.SelectionDefault: "default",
		shmproto.SelectionRestricted: "restricted", shmproto.SelectionBridges: "bridges",
	}
	receiptNames = map[shmproto.ReceiptStatus]string{
		shmproto.ReceiptNone: "none", shmproto.ReceiptPending: "pending", shmproto.ReceiptApplied: "applied",
		shmproto.ReceiptRefused: "refused", shmproto.ReceiptFailed: "failed",
	}
	reasonNames = map[shmproto.ReceiptReason]string{
		shmproto.ReasonTooFewGuards:        "too few guards would be left",
		shmproto.ReasonRestrictedSelection: "its guard selection is restricted",
		shmproto.ReasonBridges:             "it uses bridges",
		shmproto.ReasonRelay:               "it is a relay",
		shmproto.ReasonControlPort:         "its control port does not answer",
		shmproto.ReasonSetconf:             "its Tor refused the option",
		shmproto.ReasonIncludeFile:         "its include file cannot be used",
		shmproto.ReasonUnknownAddress:      "an address is not known",
		shmproto.ReasonOverridden:          "something else keeps changing the option",
		shmproto.ReasonObserve:             "its agent only observes",
		shmproto.ReasonStillInUse:          "open streams still use the guard",
	}
)

// memberFlagNames is in the order of the bits.
var memberFlagNames = []string{"dormant", "ambiguous", "no-consensus", "unreachable", "few-guards", "onion-service", "truncated", "gated", "families-left-out"}

func flagNames(f shmproto.MemberFlags) []string {
	var out []string
	for bit, word := range memberFlagNames {
		if f&(1<<bit) != 0 {
			out = append(out, word)
		}
	}
	return out
}
