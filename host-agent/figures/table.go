package figures

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"guardring/internal/simulation"
)

// Write writes r as a table. Every figure is a mean over the trials with its
// 95 % interval.
func Write(w io.Writer, r *simulation.Result) error {
	var table strings.Builder
	t := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, setting(r))
	fmt.Fprintf(w, "%s; %d trials; [95 %% interval]\n\n", r.Network, r.Trials)

	fmt.Fprintln(t, "hours a year in which one observer sees two gateways\twithout\twith guardring\ttimes fewer")
	for _, s := range r.Sight {
		fmt.Fprintf(t, "  by one %s\t%s\t%s\t%s\n", s.Observer, hours(s.Without), hours(s.With), times(s))
	}
	fmt.Fprintln(t, "\t\t\t")
	fmt.Fprintln(t, "changes that guardring forces, per gateway and year\t\t\t")
	fmt.Fprintf(t, "  of guards that carried traffic\t\t%s\t\n", number(r.UsedChanges))
	fmt.Fprintf(t, "  of guards in line, not yet used\t\t%s\t\n", number(r.UnusedChanges))
	fmt.Fprintf(t, "  guards used altogether\t%s\t%s\t\n", number(r.GuardsWithout), number(r.GuardsWith))
	fmt.Fprintln(t, "\t\t\t")
	fmt.Fprintf(t, "chance to meet an adversary with %s of the guard weight\t\t\t\n", percent(r.Share))
	for _, p := range []struct {
		what string
		simulation.Pair
	}{
		{"one given gateway uses a bad guard", r.Each}, {"at least one gateway does", r.Any},
		{"two gateways do (each its own, or one)", r.Two}, {"two gateways use the same bad relay", r.Common},
	} {
		fmt.Fprintf(t, "  %s\t%s\t%s\t\n", p.what, chance(p.Without), chance(p.With))
	}
	if h := r.Hostile; h != nil {
		tactic := "claims the heaviest"
		if h.Lies {
			tactic = "lies about addresses and families"
		}
		fmt.Fprintln(t, "\t\t\t")
		fmt.Fprintf(t, "one gateway is the adversary's (%d Tors, %s; aims at %s of the weight)\t\t\t\n", h.Members, tactic, percent(h.Barred))
		fmt.Fprintf(t, "  gain: chance that another gateway uses a bad guard, by that with an honest one here\t\t%.3f [%.3f, %.3f]\t\n", h.Gain.Mean, h.Gain.Low, h.Gain.High)
		fmt.Fprintf(t, "  gain in the number of bad guards used\t\t%.3f [%.3f, %.3f]\t\n", h.Draws.Mean, h.Draws.Low, h.Draws.High)
		fmt.Fprintf(t, "  changes of used / unused guards, per other gateway and year\t\t%.2f / %.2f\t\n", h.Forced.Mean, h.Unused.Mean)
		fmt.Fprintf(t, "  questions a year / answered by an order\t\t%.0f / %.1f\t\n", h.Asked.Mean, h.Told.Mean)
		fmt.Fprintf(t, "  bits that orders and silence told it, a year\t\t%.0f\t\n", h.Bits.Mean)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(table.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// setting says what was simulated.
func setting(r *simulation.Result) string {
	gate := "no join gate"
	if r.Gate {
		gate = "join gate"
	}
	return fmt.Sprintf("%d gateways, %d months, policy %s, levels %s, %s", r.Gateways, r.Months, r.Policy, r.Levels, gate)
}

func number(f simulation.Figure) string {
	return fmt.Sprintf("%.2f [%.2f, %.2f]", f.Mean, f.Low, f.High)
}

func hours(f simulation.Figure) string {
	digits := 1
	if f.Mean < 1 {
		digits = 4
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
		return fmt.Sprintf("over 1,000,000 [%.0f at least]", min(s.Ratio.Low, 1e6))
	}
	return fmt.Sprintf("%.1f [%.1f at least]", s.Ratio.Mean, s.Ratio.Low)
}
