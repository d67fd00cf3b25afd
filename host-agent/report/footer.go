package report

import (
	"fmt"
	"strings"

	"github.com/dustin/go-humanize/english"
)

// footer is what the matrix has no room for: each member's state, what its
// budgets forbid, which guards are alike, and who coordinates.
func (st Style) footer(s Status) string {
	var b strings.Builder
	for _, m := range s.Members {
		if notes := st.notes(m); len(notes) > 0 {
			fmt.Fprintf(&b, "%s: %s\n", m.Member, strings.Join(notes, ", "))
		}
		for _, x := range m.Budgets {
			if word := spent(x); word != "" {
				fmt.Fprintf(&b, "%s: %s\n", m.Member, word)
			}
		}
	}
	for _, c := range s.Conflicts {
		if c.Over != "" {
			fmt.Fprintf(&b, "%s of %s: same %s as %s of %s\n", st.name(c.Fingerprint), c.Newcomer, sameWhat(c.Level), st.name(c.Over), c.Incumbent)
		}
	}
	for _, c := range s.Contradictions {
		fmt.Fprintf(&b, "%s: its %s is in dispute\n", st.name(c.Fingerprint), sameWhat(c.Level))
	}
	for _, l := range s.Layers {
		fmt.Fprintf(&b, "%s: layer %d of %s\n", st.name(l.Fingerprint), l.Layer, strings.Join(l.Members, ", "))
	}
	for _, c := range s.Coordinators {
		fmt.Fprintf(&b, "coordinator %d: %s for %s, term %d, policy %s, %s rung\n", c.PID, c.Role, ago(st.Now, c.Since), c.Term, c.Policy, english.Plural(int(c.Doorbells), "doorbell", ""))
	}
	return b.String()
}

func (st Style) notes(m Member) []string {
	var notes []string
	if m.Role != "" {
		notes = append(notes, "for "+m.Role)
	}
	if m.State == "away" && !m.Since.IsZero() {
		notes = append(notes, "away for "+ago(st.Now, m.Since))
	} else if m.State != "present" {
		notes = append(notes, m.State)
	}
	notes = append(notes, m.Flags...)
	if m.Order.Seq != 0 && m.State != "left" { // who left is asked for nothing
		notes = append(notes, fmt.Sprintf("order %d %s", m.Order.Seq, m.Receipt.Status))
	}
	if m.Receipt.Reason != "" {
		notes = append(notes, m.Receipt.Reason)
	}
	return notes
}

func sameWhat(level string) string {
	if level == "subnet" {
		return "network"
	}
	return level
}

// spent says in plain words what a budget forbids, and until when; "" while it
// has some left, or has no limit.
func spent(x Budget) string {
	if x.Left > 0 || x.Burst < 0 {
		return ""
	}
	what, ok := map[string]string{
		"new-claims":     "no further new guard counts as held",
		"sample-changes": "no further new guard in its sample is looked at",
		"forced-unused":  "is told to give up no further unused guard",
		"forced-used":    "is told to give up no further used guard",
		"caused":         "gives up no further guard because of the same gateway",
		"exclusions":     "its order is full: no further guard can be excluded",
	}[x.Name]
	switch {
	case !ok:
		return x.Name + " is spent"
	case x.Next.IsZero():
		return what
	}
	return what + " before " + date(x.Next)
}
