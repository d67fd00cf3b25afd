package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"guardring/internal/guardstate"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// Style of the table.
type Style struct {
	Color        bool // the output is a terminal that shows colours
	Fingerprints bool // show whole fingerprints
	Now          time.Time
}

// Write shows a status to a person: the verdict, what is wrong and what to do,
// the matrix of members × guards, who coordinates.
func Write(w io.Writer, s Status, st Style) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", st.paint(verdictColors(s.Verdict), s.Verdict.String()), s.Summary)
	for _, p := range s.Problems {
		word := p.Verdict.String()
		if p.Verdict == OK {
			word = "note"
		}
		if p.Text != s.Summary {
			fmt.Fprintf(&b, "%s: %s\n", st.paint(verdictColors(p.Verdict), word), p.Text)
		}
		if p.Hint != "" {
			fmt.Fprintf(&b, "  hint: %s\n", p.Hint)
		}
	}
	if len(s.Members) > 0 {
		b.WriteString("\n" + st.matrix(s) + "\n")
	}
	b.WriteString(st.footer(s))
	_, err := io.WriteString(w, st.printable(b.String()))
	return err
}

func verdictColors(v Verdict) text.Colors {
	switch v {
	case OK:
		return text.Colors{text.FgGreen}
	case Warning:
		return text.Colors{text.FgYellow}
	}
	return text.Colors{text.FgRed, text.Bold}
}

func (st Style) paint(c text.Colors, s string) string {
	if !st.Color {
		return s
	}
	return text.Escape(s, c.EscapeSeq())
}

// matrix has a row for each guard and a column for each member. Guards follow
// the members' order of preference, so neighbours in the table belong together.
func (st Style) matrix(s Status) string {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	header := table.Row{"guard"}
	for _, m := range s.Members {
		header = append(header, m.Member)
	}
	header = append(header, "held for")
	if len(s.Conflicts) > 0 {
		header = append(header, "shared for")
	}
	t.AppendHeader(header)
	for _, fp := range rows(s.Members) {
		row := table.Row{st.name(fp)}
		var first time.Time
		for _, m := range s.Members {
			g, ok := guardOf(m, fp)
			if !ok {
				row = append(row, "")
				continue
			}
			row = append(row, st.cell(g, conflictOf(s.Conflicts, fp, m.Member)))
			if !g.Claimed.IsZero() && (first.IsZero() || g.Claimed.Before(first)) {
				first = g.Claimed
			}
		}
		row = append(row, ago(st.Now, first))
		if len(s.Conflicts) > 0 {
			row = append(row, st.shared(s.Conflicts, fp))
		}
		t.AppendRow(row)
	}
	return t.Render()
}

func (st Style) name(fp string) string {
	if st.Fingerprints {
		return fp
	}
	return guardstate.Shorten(fp)
}

// rows lists the guards that matter: claimed, in use, primary, or excluded.
func rows(members []Member) []string {
	var fps []string
	listed := map[string]bool{}
	for _, m := range members {
		for _, g := range m.Guards {
			if (g.InUse || g.Primary || g.Excluded || !g.Ordered.IsZero() || g.Stamp != 0) && !listed[g.Fingerprint] {
				listed[g.Fingerprint] = true
				fps = append(fps, g.Fingerprint)
			}
		}
	}
	return fps
}

func guardOf(m Member, fp string) (Guard, bool) {
	i := slices.IndexFunc(m.Guards, func(g Guard) bool { return g.Fingerprint == fp })
	if i < 0 {
		return Guard{}, false
	}
	return m.Guards[i], true
}

func conflictOf(conflicts []Conflict, fp, member string) bool {
	return slices.ContainsFunc(conflicts, func(c Conflict) bool {
		return c.Newcomer == member && c.Fingerprint == fp || c.Incumbent == member && c.held() == fp
	})
}

func (st Style) cell(g Guard, conflict bool) string {
	word, colors := "", text.Colors{}
	switch {
	case g.InUse && (g.Excluded || !g.Ordered.IsZero()):
		word, colors = "leaving", text.Colors{text.FgYellow}
	case g.InUse:
		word, colors = "in use", text.Colors{text.FgGreen, text.Bold}
	case g.Excluded:
		word, colors = "excluded", text.Colors{text.Faint}
	case !g.Ordered.IsZero():
		word, colors = "ordered off", text.Colors{text.FgYellow}
	case g.Primary:
		word, colors = "primary", text.Colors{text.FgGreen}
	case !g.Left.IsZero():
		word, colors = "left", text.Colors{text.Faint}
	case g.Possible:
		word, colors = "next", text.Colors{text.Faint}
	}
	if conflict {
		colors = text.Colors{text.FgRed, text.Bold}
	}
	return st.paint(colors, word)
}

// held is Incumbent's guard.
func (c Conflict) held() string { return cmp.Or(c.Over, c.Fingerprint) }

// shared says for how long a guard has been shared, and in what respect; what is
// done about it is said above the table, where there is room.
func (st Style) shared(conflicts []Conflict, fp string) string {
	best := Conflict{}
	for _, c := range conflicts { // sorted: the relay's own level comes first
		if (c.Fingerprint == fp || c.held() == fp) && (best.Level == "" || c.Level == "relay") {
			best = c
		}
	}
	switch best.Level {
	case "":
		return ""
	case "relay":
		return st.paint(text.Colors{text.FgRed}, ago(st.Now, best.Since))
	}
	return st.paint(text.Colors{text.FgYellow}, best.Level+" "+ago(st.Now, best.Since))
}

// ago is how long ago t was, to the precision that people need; "" if never.
func ago(now, t time.Time) string {
	if t.IsZero() {
		return ""
	}
	switch d := now.Sub(t); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(0, int(d.Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}
