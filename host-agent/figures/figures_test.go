package figures

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"guardring/internal/simulation"
)

func figure(x float64) simulation.Figure { return simulation.Figure{Mean: x, Low: x / 2, High: 2 * x} }

func result() *simulation.Result {
	pair := simulation.Pair{Without: figure(.2), With: figure(.1)}
	return &simulation.Result{
		Network: "built-in <weights>", Gateways: 3, Months: 12, Trials: 7, Share: .05, Policy: "disjoint", Levels: "relay,family", Gate: true,
		Sight: []simulation.Sight{
			{Observer: "relay", Pair: simulation.Pair{Without: figure(100), With: figure(0)}, Ratio: figure(1e9)},
			{Observer: "family", Pair: simulation.Pair{Without: figure(200), With: figure(.5)}, Ratio: figure(400)},
			{Observer: "/16", Pair: simulation.Pair{Without: figure(4000), With: figure(2000)}, Ratio: figure(2)},
		},
		UsedChanges: figure(.25), UnusedChanges: figure(1.5), GuardsWithout: figure(10), GuardsWith: figure(11),
		Any: pair, Common: pair, Two: pair, Each: pair,
		Hostile: &simulation.Hostile{Members: 2, Lies: true, Barred: .16, Gain: figure(1.04), Draws: figure(1.06), Each: figure(.3), Asked: figure(365), Told: figure(9), Bits: figure(77)},
	}
}

func TestTable(t *testing.T) {
	var b strings.Builder
	if err := Write(&b, result()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"3 gateways, 12 months, policy disjoint, levels relay, family, join gate\n", "7 trials",
		"never seen", "400.0 [least 200.0]", "4000 [2000, 8000]", "0.5000 [0.2500, 1.0000]", "0.25 [0.12, 0.50]",
		"adversary with 5 %", "20.0 % [10.0, 40.0]", "2 Tors, lies about addresses and families; aims at 16 %", "1.040 [0.520, 2.080]", "365 / 9.0",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	for line := range strings.Lines(b.String()) {
		if utf8.RuneCountInString(line) > 105 {
			t.Errorf("a line of %d columns: %s", len(line), line)
		}
	}
	if strings.Contains(b.String(), " \n") {
		t.Error("blanks at the end of a line")
	}
}

// TestOne: a single trial, month or Tor is named as one.
func TestOne(t *testing.T) {
	r := result()
	r.Trials, r.Months, r.Hostile.Members = 1, 1, 1
	var b strings.Builder
	if err := Write(&b, r); err != nil {
		t.Fatal(err)
	}
	Chart(&b, r)
	for _, wrong := range []string{"1 months", "1 trials", "1 simulated trials", "1 Tors"} {
		if strings.Contains(b.String(), wrong) {
			t.Errorf("%q in\n%s", wrong, b.String())
		}
	}
}

func TestWriteFails(t *testing.T) {
	if err := Write(closed{}, result()); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("a write that fails gave %v", err)
	}
}

type closed struct{}

func (closed) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestChart reads the chart back: it is well formed, everything lies within it,
// and the longer bar is the larger figure.
func TestChart(t *testing.T) {
	var b bytes.Buffer
	Chart(&b, result())
	var doc struct {
		XMLName xml.Name `xml:"svg"`
		Rects   []struct {
			X     int    `xml:"x,attr"`
			Y     int    `xml:"y,attr"`
			Width int    `xml:"width,attr"`
			Style string `xml:"style,attr"`
		} `xml:"rect"`
		Texts []struct {
			X    int    `xml:"x,attr"`
			Y    int    `xml:"y,attr"`
			Text string `xml:",chardata"`
		} `xml:"text"`
	}
	if err := xml.Unmarshal(b.Bytes(), &doc); err != nil {
		t.Fatalf("%v in\n%s", err, b.Bytes())
	}
	var widths []int
	for _, r := range doc.Rects {
		if r.X+r.Width > chartWidth {
			t.Errorf("a bar ends at %d", r.X+r.Width)
		}
		if r.X == barLeft {
			widths = append(widths, r.Width)
		}
	}
	// relay without; family without, with; /16 without, with; three pairs of chances.
	if len(widths) != 11 || !(widths[0] < widths[1] && widths[2] < widths[1] && widths[4] < widths[3] && widths[1] < widths[3]) || widths[5] != 2*widths[6] {
		t.Errorf("bars of %v", widths)
	}
	texts := ""
	for _, x := range doc.Texts {
		texts += x.Text + "\n"
		if x.X < 0 || x.X > chartWidth || x.Y > chartHeight {
			t.Errorf("%q at %d,%d", x.Text, x.X, x.Y)
		}
	}
	for _, want := range []string{"never in 7 trials", "0.5 h (400 times fewer)", "built-in <weights>", "20.0 %", "1,000 h"} {
		if !strings.Contains(texts, want) {
			t.Errorf("no %q in\n%s", want, texts)
		}
	}
}
