package figures

import (
	"fmt"
	"io"
	"math"
	"strings"

	svg "github.com/ajstarks/svgo"
	"github.com/dustin/go-humanize/english"

	"guardring/internal/simulation"
)

// Sizes of the chart, in pixels.
const (
	chartWidth  = 960
	chartHeight = 610
	labelRight  = 270 // names of bars end here
	barLeft     = 282
	barWidth    = 480 // of the longest bar
	barHeight   = 18
	barStep     = 22
	groupStep   = 62
)

// Colours: told apart also by people who see few colours, and in print.
const (
	withoutFill = "fill:#b8b8b8"
	withFill    = "fill:#20639b"
	textStyle   = "font-family:sans-serif;font-size:14px;fill:#222"
	smallStyle  = "font-family:sans-serif;font-size:12px;fill:#555"
	titleStyle  = "font-family:sans-serif;font-size:17px;font-weight:bold;fill:#111"
	gridStyle   = "stroke:#ddd;stroke-width:1"
)

// leastHours and mostHours are the ends of the scale of hours. What is less is
// drawn as nothing.
const (
	leastHours = .001
	mostHours  = 8760
)

// Chart draws r: on top the hours in which one observer sees two gateways, on a
// logarithmic scale; below, the chances to meet a bad guard.
func Chart(w io.Writer, r *simulation.Result) {
	c := svg.New(w)
	c.Startview(chartWidth, chartHeight, 0, 0, chartWidth, chartHeight)
	defer c.End()
	c.Title("What guardring buys and costs")
	c.Rect(0, 0, chartWidth, chartHeight, "fill:white")
	c.Text(24, 34, "Hours a year in which one observer sees two gateways", titleStyle)
	c.Text(24, 56, setting(r), textStyle)
	legend(c, 640, 34)

	y := 84
	scale := func(h float64) int {
		h = math.Min(math.Max(h, leastHours), mostHours)
		return int(math.Round(barWidth * math.Log(h/leastHours) / math.Log(mostHours/leastHours)))
	}
	bottom := y + len(r.Sight)*groupStep
	for _, tick := range []float64{.001, .01, .1, 1, 10, 100, 1000} {
		x := barLeft + scale(tick)
		c.Line(x, y-6, x, bottom-10, gridStyle)
		c.Text(x, bottom+6, tickText(tick), smallStyle+";text-anchor:middle")
	}
	for _, s := range r.Sight {
		c.Text(labelRight, y+26, "by one "+s.Observer, textStyle+";text-anchor:end")
		bar(c, y, scale(s.Without.Mean), withoutFill, without(s, r.Trials))
		bar(c, y+barStep, scale(s.With.Mean), withFill, seen(s, r.Trials))
		y += groupStep
	}

	y = bottom + 56
	c.Text(24, y-14, fmt.Sprintf("Chance to meet an adversary with %s of the guard weight", percent(r.Share)), titleStyle)
	y += 8
	top := y
	groups := []struct {
		what string
		simulation.Pair
	}{
		{"one gateway uses a bad guard", r.Each}, {"at least one of all does", r.Any},
		{"two use the same bad relay", r.Common},
	}
	bottom = y + len(groups)*groupStep
	for tick := 0; tick <= 100; tick += 25 {
		x := barLeft + barWidth*tick/100
		c.Line(x, top-6, x, bottom-10, gridStyle)
		c.Text(x, bottom+6, fmt.Sprintf("%d %%", tick), smallStyle+";text-anchor:middle")
	}
	for _, g := range groups {
		c.Text(labelRight, y+26, g.what, textStyle+";text-anchor:end")
		bar(c, y, int(barWidth*g.Without.Mean), withoutFill, fmt.Sprintf("%.1f %%", 100*g.Without.Mean))
		bar(c, y+barStep, int(barWidth*g.With.Mean), withFill, fmt.Sprintf("%.1f %%", 100*g.With.Mean))
		y += groupStep
	}
	c.Text(24, chartHeight-44, fmt.Sprintf("Changes that guardring forces, per gateway and year: %.2f of used guards, %.2f of unused ones.", r.UsedChanges.Mean, r.UnusedChanges.Mean), textStyle)
	c.Text(24, chartHeight-20, fmt.Sprintf("Means over %s. Network: %s.", english.Plural(r.Trials, "simulated trial", ""), r.Network), smallStyle)
}

func legend(c *svg.SVG, x, y int) {
	c.Rect(x, y-11, 14, 14, withoutFill)
	c.Text(x+20, y+1, "without guardring", textStyle)
	c.Rect(x+160, y-11, 14, 14, withFill)
	c.Text(x+180, y+1, "with guardring", textStyle)
}

func bar(c *svg.SVG, y, width int, fill, label string) {
	if width > 0 {
		c.Rect(barLeft, y, width, barHeight, fill)
	}
	c.Text(barLeft+max(width, 0)+6, y+14, label, textStyle)
}

func without(s simulation.Sight, trials int) string {
	if s.Without.Mean == 0 {
		return fmt.Sprintf("never in %s", english.Plural(trials, "trial", ""))
	}
	return short(s.Without.Mean)
}

func seen(s simulation.Sight, trials int) string {
	if s.With.Mean == 0 {
		return fmt.Sprintf("never in %s", english.Plural(trials, "trial", ""))
	}
	if s.Ratio.Mean < 1.5 {
		return short(s.With.Mean)
	}
	fewer := "over 1,000,000"
	if s.Ratio.Mean < 1e6 {
		fewer = strings.TrimSuffix(short(s.Ratio.Mean), " h")
	}
	return fmt.Sprintf("%s (%s times fewer)", short(s.With.Mean), fewer)
}

func tickText(h float64) string {
	if h == 1000 {
		return "1,000 h"
	}
	return fmt.Sprintf("%g h", h)
}

// short is a number of hours that a person reads at a glance.
func short(x float64) string {
	if x < leastHours {
		return fmt.Sprintf("under %g h", leastHours)
	}
	if x < 10 {
		return fmt.Sprintf("%.2g h", x)
	}
	return fmt.Sprintf("%.0f h", x)
}
