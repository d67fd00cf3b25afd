package figures

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize/english"

	"guardring/internal/simulation"
)

// Write writes r as a table. Every figure is a mean over the trials with its
// 95 % interval.
func Write(w io.Writer, r *simulation.Result) error {
	var table strings.Builder
	t := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, setting(r))
	fmt.Fprintf(w, "%s; %s; [95 %% interval]\n\n", r.Network, english.Plural(r.Trials, "trial", ""))

	fmt.Fprintln(t, "hours a year: one observer sees two\twithout\twith guardring\ttimes fewer")
	for _, s := range r.Sight {
		fmt.Fprintf(t, "  by one %s\t%s\t%s\t%s\n", s.Observer, hours(s.Without), hours(s.With), times(s))
	}
	fmt.Fprintln(t, "\t\t\t")
	fmt.Fprintln(t, "forced changes per gateway and year\t\t\t")
	fmt.Fprintf(t, "  of guards that carried traffic\t\t%s\t\n", number(r.UsedChanges))
	fmt.Fprintf(t, "  of guards in line, not yet used\t\t%s\t\n", number(r.UnusedChanges))
	fmt.Fprintf(t, "  guards used altogether\t%s\t%s\t\n", number(r.GuardsWithout), number(r.GuardsWith))
	fmt.Fprintln(t, "\t\t\t")
	fmt.Fprintf(t, "chance: adversary with %s of guards\t\t\t\n", percent(r.Share))
	for _, p := range []struct {
		what string
		simulation.Pair
	}{
		{"one given gateway uses a bad guard", r.Each}, {"at least one gateway does", r.Any},
		{"two do (each its own, or the same)", r.Two}, {"two use the same bad relay", r.Common},
	} {
		fmt.Fprintf(t, "  %s\t%s\t%s\t\n", p.what, chance(p.Without), chance(p.With))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(table.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return writeHostile(w, r.Hostile)
}

// writeHostile writes what a gateway of the adversary's does and learns: a list of
// its own, for its names are longer than the table's.
func writeHostile(w io.Writer, h *simulation.Hostile) error {
	if h == nil {
		return nil
	}
	tactic := "claims the heaviest"
	if h.Lies {
		tactic = "lies about addresses and families"
	}
	_, err := fmt.Fprintf(w, `
one gateway is the adversary's (%s, %s; aims at %s of the weight)
  gain: chance that another gateway uses a bad guard,
    by that with an honest one in its place         %.3f [%.3f, %.3f]
  gain in the number of bad guards used             %.3f [%.3f, %.3f]
  changes a year and other gateway, used / unused   %.2f / %.2f
  questions a year / answered by an order           %.0f / %.1f
  bits that orders and silence told it, a year      %.0f
`, english.Plural(h.Members, "Tor", ""), tactic, percent(h.Barred), h.Gain.Mean, h.Gain.Low, h.Gain.High, h.Draws.Mean, h.Draws.Low, h.Draws.High,
		h.Forced.Mean, h.Unused.Mean, h.Asked.Mean, h.Told.Mean, h.Bits.Mean)
	return err
}

// setting says what was simulated.
func setting(r *simulation.Result) string {
	gate := "no join gate"
	if r.Gate {
		gate = "join gate"
	}
	return fmt.Sprintf("%d gateways, %s, policy %s, levels %s, %s", r.Gateways, english.Plural(r.Months, "month", ""), r.Policy, strings.ReplaceAll(r.Levels, ",", ", "), gate)
}

func number(f simulation.Figure) string {
	return fmt.Sprintf("%.2f [%.2f, %.2f]", f.Mean, f.Low, f.High)
}

func hours(f simulation.Figure) string {
	if f.Mean == 0 {
		return "0"
	}
	digits := 1
	switch {
	case f.Mean < 1:
		digits = 4
	case f.Mean >= 100:
		digits = 0
	}
	return fmt.Sprintf("%.*f [%.*f, %.*f]", digits, f.Mean, digits, f.Low, digits, f.High)
}

func percent(x float64) string { return fmt.Sprintf("%.3g %%", 100*x) }

func chance(f simulation.Figure) string {
	return fmt.Sprintf("%.1f %% [%.1f, %.1f]", 100*f.Mean, 100*f.Low, 100*f.High)
}

// times says how many times fewer the hours are, and what can be relied on.
func times(s simulation.Sight) string {
	switch {
	case s.With.Mean == 0 && s.Without.Mean == 0:
		return "-"
	case s.With.Mean == 0:
		return "never seen"
	case s.Ratio.Mean >= 1e6:
		return fmt.Sprintf("over 1,000,000 [least %.0f]", min(s.Ratio.Low, 1e6))
	}
	return fmt.Sprintf("%.1f [least %.1f]", s.Ratio.Mean, s.Ratio.Low)
}
