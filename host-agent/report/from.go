package report

import (
	"guardring/internal/coordinator"
	"guardring/shmproto"
)

// FromState puts a core's state into a document. Pure.
func FromState(self Self, s coordinator.State) Document {
	d := Document{At: s.At, Self: self, Gateways: []Gateway{}, Members: []Member{}, Conflicts: []Conflict{}}
	for _, g := range s.Gateways {
		d.Gateways = append(d.Gateways, Gateway{
			Name: g.Gateway, Present: g.Present, Violations: g.Violations, Quarantine: g.Quarantine, Reason: g.Reason,
		})
	}
	for _, m := range s.Members {
		d.Members = append(d.Members, fromMember(m))
	}
	for _, c := range s.Conflicts {
		d.Conflicts = append(d.Conflicts, fromConflict(s, c))
	}
	return d
}

func fromMember(m coordinator.MemberStatus) Member {
	out := Member{
		Member: m.Member.String(), State: stateName(m), Since: m.Away,
		Selection: name(m.Selection, "unknown", "default", "restricted", "bridges"), Flags: flagNames(m.Flags),
		TorVersion: m.TorVersion, NumPrimary: m.NumPrimary,
		Publication: Publication{Seq: uint64(m.Seq), Seen: m.Seen},
		Guards:      []Guard{}, Order: Order{Seq: uint64(m.Order.Seq), Exclusions: []string{}, Tries: m.Order.Tries},
		Receipt: Receipt{Status: name(m.Order.Answer, "none", "pending", "applied", "refused", "failed"), Reason: reasonName(m.Order.Reason)},
		Excess:  m.Excess, Stuck: m.Stuck,
	}
	for _, g := range m.Guards {
		has := func(f shmproto.GuardFlags) bool { return g.Flags&f != 0 }
		out.Guards = append(out.Guards, Guard{
			Fingerprint: g.Fingerprint.String(), InUse: has(shmproto.GuardInUse), Primary: has(shmproto.GuardPrimary),
			Possible: has(shmproto.GuardPossiblePrimary), Confirmed: has(shmproto.GuardConfirmed), Excluded: has(shmproto.GuardExcluded),
			Ordered: g.Excluded, Claimed: g.Claim.At, Stamp: g.Claim.Counter, Left: g.Left,
		})
	}
	for _, x := range m.Order.Exclusions {
		out.Order.Exclusions = append(out.Order.Exclusions, keyName(x.Key))
	}
	return out
}

func fromConflict(s coordinator.State, c coordinator.ConflictStatus) Conflict {
	out := Conflict{
		Level: c.Key.Level.String(), Fingerprint: keyName(c.Key), Incumbent: c.Holder.String(), Held: c.Since.At,
		Newcomer: c.Mover.String(), Since: c.Later.At, Reason: c.Reason,
	}
	unanswered := false
	for _, m := range s.Members {
		unanswered = unanswered || m.Member == c.Mover && m.Order.Unanswered
	}
	switch {
	case c.Told.IsZero() && s.Policy == coordinator.PolicyObserve:
		out.State = ConflictObserved
	case c.Reason != "":
		out.State = ConflictStuck
	case c.Answer == shmproto.ReceiptRefused || c.Answer == shmproto.ReceiptFailed:
		out.State = ConflictRefused
	case unanswered:
		out.State = ConflictUnanswered
	default:
		out.State = ConflictOrdered
	}
	return out
}

func keyName(k coordinator.Key) string {
	if fp, ok := k.Relay(); ok {
		return fp.String()
	}
	return k.String()
}

func stateName(m coordinator.MemberStatus) string {
	switch {
	case m.Gone:
		return "left"
	case !m.Away.IsZero() || m.Slot < 0:
		return "away"
	}
	return name(m.State, "absent", "present", "observe-only", "refused", "left")
}

// name returns the word for a small number, or the number for a newer peer's.
func name[T ~uint8 | ~uint16](n T, words ...string) string {
	if int(n) < len(words) {
		return words[n]
	}
	return "unknown"
}

func flagNames(f shmproto.MemberFlags) []string {
	var all []string
	for i, word := range []string{"dormant", "ambiguous", "no-consensus", "unreachable", "few-guards", "onion-service", "truncated"} {
		if f&(1<<i) != 0 {
			all = append(all, word)
		}
	}
	return all
}

func reasonName(r shmproto.ReceiptReason) string {
	return name(r, "", "too few guards would be left", "the guard selection is restricted", "it uses bridges", "it is a relay",
		"the control port does not answer", "Tor refused the option", "the include file cannot be written or is not read first",
		"an excluded guard's address is not known", "the option is overridden by another controller or the user's configuration",
		"the agent only observes", "circuits with streams still use the guard")
}
