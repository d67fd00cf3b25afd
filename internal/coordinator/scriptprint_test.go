package coordinator

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"guardring/internal/guardstate"
)

// print shows a Ready in the order in which it is to be done.
func (s *script) print(r Ready) {
	for _, x := range r.Save {
		fmt.Fprintf(&s.out, "  save %s\n", describeRecord(x))
	}
	for _, o := range r.Orders {
		fmt.Fprintf(&s.out, "  order %s\n", describeOrder(o))
	}
	for _, n := range r.Notices {
		fmt.Fprintf(&s.out, "  notice %s\n", guardNames(n.Detail()))
	}
}

// guardWord tells a guard with "fam=" from a setting.
var guardWord = regexp.MustCompile(`^G[0-9]`)

var relayName = regexp.MustCompile(`relay/[0-9A-F]{40}`)

// guardNames puts the scripts' names in the place of fingerprints.
func guardNames(text string) string {
	return relayName.ReplaceAllStringFunc(text, func(k string) string {
		f, err := guardstate.ParseFingerprint(strings.TrimPrefix(k, "relay/"))
		if err != nil {
			return k
		}
		return fmt.Sprintf("G%d", number(f))
	})
}

func keyName(k Key) string { return guardNames(k.String()) }

func describeClaim(k Key, st Stamp, used bool, left time.Time) string {
	text := fmt.Sprintf("%s stamp=%d", keyName(k), st.Counter)
	if used {
		text += " used"
	}
	if !left.IsZero() {
		text += " left"
	}
	return text
}

func describeFacts(f *Facts) (text string) {
	if f == nil {
		return ""
	}
	for _, k := range f.Subnets {
		text += " " + strings.TrimPrefix(k.String(), "subnet/")
	}
	for _, k := range f.FamilyIDs {
		text += " id=" + strings.TrimSpace(string(k.ID[:]))
	}
	if len(f.Family) > 0 {
		text += " fam="
	}
	for i, id := range f.Family {
		if i > 0 {
			text += "+"
		}
		text += fmt.Sprintf("G%d", number(id))
	}
	return text
}

func describeRecord(r Record) string {
	text := string(r.Kind)
	if m := r.member(); !m.IsZero() {
		text += " " + m.String()
	}
	switch r.Kind {
	case RecordMember:
		if !r.Away.IsZero() {
			text += " away"
		}
		if r.Gone {
			text += " gone"
		}
		text += describeOrigin(r)
	case RecordClaim:
		text += " " + describeClaim(r.Key, r.Stamp, r.Used, r.Left) + describeFacts(r.Facts)
		if !r.Due.IsZero() {
			text += " due=" + r.Due.Format(time.RFC3339)
		}
		if !r.Allowed.IsZero() {
			text += " allowed"
		}
	case RecordBudget:
		a := r.Account
		text += fmt.Sprintf(" claims=%d sample=%d unused=%d used=%d", a.NewClaims.Left, a.SampleChanges.Left, a.ForcedUnused.Left, a.ForcedUsed.Left)
		if len(a.Used) > 0 {
			text += fmt.Sprintf(" this-year=%d", len(a.Used))
		}
		for _, x := range a.Caused {
			text += " caused-by=" + x.Gateway
		}
		if a.Owed > 0 {
			text += fmt.Sprintf(" owed=%d", a.Owed)
		}
	case RecordRelease:
		text += " " + keyName(r.Key)
	case RecordOrder:
		text += fmt.Sprintf(" seq=%d", r.Seq)
		for _, x := range r.Exclusions {
			text += fmt.Sprintf(" %s(%s", keyName(x.Key), x.Why)
			if x.Level > LevelRelay {
				text += fmt.Sprintf(", %s of %s", x.Level, keyName(x.Over))
			}
			if !x.For.IsZero() {
				text += " for " + x.For.String()
			}
			text += ")"
		}
	}
	return text
}

func describeOrder(o SlotOrder) string {
	text := fmt.Sprintf("%s/%s@%d seq=%d", o.Gateway, o.Order.Member, o.Slot, o.Order.Seq)
	for _, f := range o.Order.Exclusions {
		text += fmt.Sprintf(" G%d", number(f))
	}
	return text
}

// state prints what status would show, in short.
func (s *script) state() {
	st := s.h.core.State()
	for _, g := range st.Gateways {
		if !g.Present || g.Stale > 0 || g.Violations > 0 {
			fmt.Fprintf(&s.out, "  gateway %s present=%t stale=%d violations=%d quarantined=%t\n", g.Gateway, g.Present, g.Stale, g.Violations, !g.Quarantine.IsZero())
		}
	}
	for _, m := range st.Members {
		fmt.Fprintf(&s.out, "  member %s slot=%d", m.Member, m.Slot)
		for _, g := range m.Guards {
			if g.Claim.Counter == 0 && g.Excluded.IsZero() {
				continue
			}
			fmt.Fprintf(&s.out, " G%d", number(g.Fingerprint))
			if g.Claim.Counter != 0 {
				fmt.Fprintf(&s.out, "(%d)", g.Claim.Counter)
			}
			if !g.Left.IsZero() {
				s.out.WriteString("-left")
			}
			if !g.Excluded.IsZero() {
				s.out.WriteString("-excluded")
			}
		}
		if m.Excess > 0 {
			fmt.Fprintf(&s.out, " excess=%d", m.Excess)
		}
		if m.Gated {
			s.out.WriteString(" gated")
		}
		if !m.Allowed.IsZero() {
			s.out.WriteString(" allowed")
		}
		if !m.CloneOf.IsZero() {
			fmt.Fprintf(&s.out, " clone-of=%s", m.CloneOf)
		}
		if !m.RolledBack.IsZero() {
			s.out.WriteString(" rolled-back")
		}
		if m.Order.Seq > 0 {
			fmt.Fprintf(&s.out, " order=%d answer=%d tries=%d", m.Order.Seq, m.Order.Answer, m.Order.Tries)
		}
		s.out.WriteString("\n")
	}
	for _, x := range st.Contradictions {
		other := "the consensus file"
		if !x.Other.IsZero() {
			other = x.Other.String()
		}
		fmt.Fprintf(&s.out, "  contradiction G%d %s: %s and %s\n", number(x.Relay), x.Level, x.One, other)
	}
	for _, x := range st.Layers {
		fmt.Fprintf(&s.out, "  layer %d G%d %v\n", x.Layer, number(x.Relay), x.Members)
	}
	for _, x := range st.Conflicts {
		fmt.Fprintf(&s.out, "  conflict %s", keyName(x.Key))
		if x.Level > LevelRelay {
			fmt.Fprintf(&s.out, ", %s of %s,", x.Level, keyName(x.Over))
		}
		fmt.Fprintf(&s.out, " %s(%d) before %s(%d)", x.Holder, x.Since.Counter, x.Mover, x.Later.Counter)
		if !x.Told.IsZero() {
			fmt.Fprintf(&s.out, " told answer=%d", x.Answer)
		}
		if !x.Due.IsZero() {
			fmt.Fprintf(&s.out, " due=%s", x.Due.Format(time.RFC3339))
		}
		if x.Reason != "" {
			fmt.Fprintf(&s.out, " (%s)", x.Reason)
		}
		s.out.WriteString("\n")
	}
}
