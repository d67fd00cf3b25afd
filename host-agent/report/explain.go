package report

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"guardring/internal/printable"

	"github.com/dustin/go-humanize/english"
	"github.com/jedib0t/go-pretty/v6/text"
)

// explainWidth is where lines are broken: a terminal's usual width.
const explainWidth = 80

// WriteExplanation shows an explanation to a person: for each step its time
// and a sentence for each decision, the oldest first, and how things stand now.
func WriteExplanation(w io.Writer, e Explanation, st Style) error {
	x := explainer{Style: st, subject: e.Subject, members: e.Members}
	var b strings.Builder
	wrap := func(s, first, rest string) {
		for line := range strings.Lines(text.WrapSoft(s, explainWidth-len(rest))) {
			b.WriteString(first + strings.TrimRight(line, " \n") + "\n")
			first = rest
		}
	}
	paragraph := func(s string) {
		wrap(s, "", "")
		b.WriteByte('\n')
	}
	if len(e.Decisions) == 0 {
		paragraph(fmt.Sprintf("Nothing was ever decided about %s since this host was started.", e.Subject))
	}
	for rest := e.Decisions; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].At.Equal(rest[0].At) && rest[n].Member == rest[0].Member {
			n++
		}
		fmt.Fprintf(&b, "%s:\n", date(rest[0].At))
		for _, s := range x.together(rest[:n]) {
			wrap(s, "  ", "    ")
		}
		b.WriteByte('\n')
		rest = rest[n:]
	}
	if e.Damaged > 0 {
		paragraph(fmt.Sprintf("%s of the history cannot be read; left out.", english.Plural(e.Damaged, "line", "")))
	}
	for _, s := range x.now(e) {
		paragraph(s)
	}
	_, err := io.WriteString(w, printable.Text(strings.TrimSuffix(b.String(), "\n")))
	return err
}

type explainer struct {
	Style
	subject string
	members []Member
}

// together words what was decided about one member in one step.
func (x explainer) together(all []Decision) []string {
	var sentences []string
	var budgets []Budget
	for _, d := range all {
		sentences = append(sentences, x.sentence(d)+".")
		if d.Budgets != nil {
			budgets = d.Budgets
		}
	}
	if s := x.budgets(all[0].Member.String(), budgets); s != "" {
		sentences = append(sentences, s)
	}
	return sentences
}

// held says who holds a guard since when; "" if that is not known.
func held(who string, s Stamp) string {
	if s.Counter == 0 {
		return ""
	}
	return fmt.Sprintf("%s has held it since %s (claim %d)", who, date(s.At), s.Counter)
}

// sentence words one decision.
func (x explainer) sentence(d Decision) string {
	m, o, g := d.Member.String(), d.Other.String(), "guard "+x.short(d.Key)
	switch d.Kind {
	case "joined":
		return m + " was seen for the first time"
	case "back":
		return m + " is shown again"
	case "away":
		return m + " is not shown any more; its claims stay for the retention"
	case "left":
		return m + " left on purpose: its claims and exclusions are gone"
	case "forgotten":
		return m + " is known no more"
	case "relay":
		return m + " is a relay, which cannot be a member"
	case "conflict":
		return x.conflict(d)
	case "resolved":
		return fmt.Sprintf("%s is no longer in conflict with %s over %s%s", m, o, g, because(d.Reason))
	case "excluded", "would":
		return x.excluded(d)
	case "lifted":
		return fmt.Sprintf("%s may use %s again%s", m, g, because(d.Reason))
	case "stuck":
		return fmt.Sprintf("%s stays in conflict and is not told to move%s", m, because(d.Reason))
	case "delayed":
		return fmt.Sprintf("%s has used %s, so it is told to give it up only after a random delay, on %s: the network provider sees the change", m, g, date(d.Due))
	case "applied":
		return fmt.Sprintf("%s obeyed its order %d", m, d.Seq)
	case "not-applied":
		return fmt.Sprintf("%s did not obey its order %d%s; everyone stays as they are", m, d.Seq, because(d.Reason))
	case "unanswered":
		return fmt.Sprintf("%s has not answered its order %d after %d tries", m, d.Seq, d.Count)
	case "capped":
		return fmt.Sprintf("%s of %s are beyond what it may claim and are not protected", english.Plural(d.Count, "guard", ""), m)
	case "exhausted":
		return x.exhausted(d)
	case "allowed":
		if d.Count == 0 {
			return fmt.Sprintf("you let %s do once what waits, but nothing waited", m)
		}
		return fmt.Sprintf("you let %s do once what waited then (%s)", m, english.Plural(d.Count, "thing", ""))
	case "contradiction":
		if o == "" {
			o = "the consensus file"
		}
		return fmt.Sprintf("%s and %s do not agree on the %s of %s; only the relay itself counts there", m, o, sameWhat(d.Level), g)
	case "clone":
		return fmt.Sprintf("%s shows the same guards as %s, which was there before: it is a clone", m, o)
	case "rollback":
		return fmt.Sprintf("%s came back in a state that it had left%s", m, because(d.Reason))
	case "fresh":
		if d.Reason != "" { // only then is it charged
			return fmt.Sprintf("%s has a new sample after it was a clone (%s)", m, d.Reason)
		}
		return m + " has a new sample after it was a clone; that is not charged"
	case "cleared":
		return m + " waited at its join gate and was answered"
	case "quarantined":
		return fmt.Sprintf("gateway %s broke the protocol %d times and gets no orders%s", m, d.Count, because(d.Reason))
	case "released":
		return fmt.Sprintf("gateway %s publishes correctly again", m)
	case "evicted":
		if d.Key == "" {
			return fmt.Sprintf("%s was forgotten to make room%s", m, because(d.Reason))
		}
		return fmt.Sprintf("the claim of %s on %s, which it had left, made room for a newer one", m, g)
	case "layer":
		return fmt.Sprintf("%s and %s pin %s in layer %d (vanguards); nothing is done about that", m, o, g, d.Count)
	}
	return fmt.Sprintf("%s: %s%s", m, d.Kind, because(d.Reason))
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ", because " + reason
}

func (x explainer) short(key string) string { return x.name(guard(key)) }

func (x explainer) same(d Decision) string {
	if d.Over == "" {
		return "the same guard"
	}
	return fmt.Sprintf("guard %s of the same %s", x.short(d.Over), sameWhat(d.Level))
}

func (x explainer) conflict(d Decision) string {
	m, o := d.Member.String(), d.Other.String()
	parts := []string{fmt.Sprintf("%s and %s are in conflict over guard %s: %s holds %s", m, o, x.short(d.Key), o, x.same(d))}
	for _, s := range []string{held(m, d.Stamp), held(o, d.Others)} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	if d.Reason != "" {
		return strings.Join(parts, "; ") + ". Nobody is told to move" + because(d.Reason)
	}
	return strings.Join(parts, "; ") + ". Rule: the incumbent stays, the newcomer moves"
}

var rules = map[string]string{
	"conflict":  "%[1]s had %[2]s first",
	"successor": "it would have come next, and %[1]s holds %[2]s",
	"reserved":  "it would have come next, and %[1]s is on its way to %[2]s",
	"possible":  "it would have come next, and %[2]s may be %[1]s's next one",
	"adopted":   "that was in force already when this ledger began",
}

func (x explainer) excluded(d Decision) string {
	verb := fmt.Sprintf("was told not to use guard %s (order %d)", x.short(d.Key), d.Seq)
	if d.Kind == "would" {
		verb = fmt.Sprintf("would be told not to use guard %s, but the policy is observe", x.short(d.Key))
	}
	s := d.Member.String() + " " + verb
	if rule, ok := rules[d.Why]; ok {
		if strings.Contains(rule, "%") {
			rule = fmt.Sprintf(rule, d.Other, x.same(d))
		}
		s += ": " + rule
	}
	if d.Others.Counter != 0 {
		s += fmt.Sprintf(", since %s", date(d.Others.At))
	}
	switch {
	case d.Cost.InUse:
		s += ". Cost: a guard in use"
	case d.Cost.Primary:
		s += ". Cost: a primary guard that was not in use"
	default:
		s += ". Cost: none, it was not a primary guard"
	}
	return s
}

// budgetWords names budgets in sentences.
var budgetWords = map[string]string{
	"new-claims": "new guards to hold", "sample-changes": "new guards in its sample", "forced-unused": "unused guards to give up",
	"forced-used": "used guards to give up", "caused": "changes because of one other gateway", "exclusions": "guards in an order",
}

func budgetWord(name string) string {
	if w, ok := budgetWords[name]; ok {
		return w
	}
	return name
}

func (x explainer) exhausted(d Decision) string {
	s := fmt.Sprintf("%s has spent its budget of %s: %s wait", d.Member, budgetWord(d.Budget), english.Plural(d.Count, "guard or conflict", ""))
	if d.Count == 1 {
		s += "s"
	}
	if !d.Due.IsZero() {
		s += ", it has more on " + date(d.Due)
	}
	return s + fmt.Sprintf(". To let it be done now: %s", hintAllow(d.Member.String()))
}

// budgets says what a decision left, and what is left now.
func (x explainer) budgets(member string, then []Budget) string {
	var parts []string
	i := slices.IndexFunc(x.members, func(m Member) bool { return m.Member == member })
	for _, b := range then {
		if b.Name != "forced-used" && b.Name != "forced-unused" {
			continue
		}
		part := fmt.Sprintf("%s: %d left then", budgetWord(b.Name), b.Left)
		if i >= 0 {
			if k := slices.IndexFunc(x.members[i].Budgets, func(c Budget) bool { return c.Name == b.Name }); k >= 0 {
				part += fmt.Sprintf(", %d now", x.members[i].Budgets[k].Left)
			}
		}
		parts = append(parts, part)
	}
	if len(parts) == 0 {
		return ""
	}
	return "Budgets of " + member + ": " + strings.Join(parts, "; ") + "."
}

// now says what is being waited for.
func (x explainer) now(e Explanation) []string {
	if e.Unknown != "" {
		return []string{"Now: not known: " + e.Unknown + "."}
	}
	var all []string
	// What the verdict says of the subject, so that both use the same words.
	say := func(_ Verdict, hint, format string, args ...any) {
		s := "Now: " + fmt.Sprintf(format, args...) + "."
		if hint != "" {
			s += " What to do: " + hint + "."
		}
		all = append(all, s)
	}
	for _, c := range e.Conflicts {
		judgeConflict(c, say)
	}
	for _, m := range e.Members {
		judgeMember(m, say)
		judgeOrigin(m, x.Now, say)
		judgeBudgets(m, say)
		if m.Order.Seq != 0 && (m.Receipt.Status == "none" || m.Receipt.Status == "pending") && m.State == "present" {
			all = append(all, fmt.Sprintf("Now: %s has its order %d and has not finished it (%s).", m.Member, m.Order.Seq, m.Receipt.Status))
		}
	}
	if len(e.Members) == 0 {
		all = append(all, fmt.Sprintf("Now: no member %s is known.", e.Subject))
	} else if len(all) == 0 {
		all = append(all, fmt.Sprintf("Now: %s is in no conflict, and nothing is waited for.", e.Subject))
	}
	return all
}

// Subject checks the name of a gateway or member that a person gave.
func Subject(name string, valid func(string) bool) error {
	gateway, instance, whole := strings.Cut(name, "/")
	if !valid(gateway) || whole && !valid(instance) {
		return fmt.Errorf("%q is no GATEWAY or GATEWAY/INSTANCE", name)
	}
	return nil
}
