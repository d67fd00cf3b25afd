package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"guardring/e2e/outcome"
	"guardring/e2e/tornet"
)

// printMatrix shows gateways × guards: U for in use, P for primary, both where both. Guards held by two gateways are
// highlighted when colour is on, and starred in any case.
func printMatrix(w io.Writer, title string, s outcome.Snapshot, net *tornet.Network, colour bool) {
	names := s.Names()
	t := table.NewWriter()
	t.SetOutputMirror(w)
	style := table.StyleLight
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	t.SuppressEmptyColumns()
	t.SetTitle(title)
	header := table.Row{"guard"}
	for _, n := range names {
		header = append(header, n)
	}
	t.AppendHeader(append(header, ""))
	for _, g := range net.Guards {
		row, holders := table.Row{g.Name + " " + g.Fingerprint[:8]}, 0
		for _, n := range names {
			v := s[n]
			var marks []string
			if slices.Contains(v.InUse, g.Fingerprint) {
				marks = append(marks, "in use")
			}
			if i := slices.Index(v.Primary, g.Fingerprint); i >= 0 {
				marks = append(marks, fmt.Sprintf("primary %d", i+1))
			}
			if len(marks) > 0 {
				holders++
			}
			row = append(row, strings.Join(marks, ", "))
		}
		switch {
		case holders == 0:
			continue
		case holders > 1:
			row = append(row, "* duplicate")
			if colour {
				for i, cell := range row {
					row[i] = text.Colors{text.Bold, text.FgRed}.Sprint(cell)
				}
			}
		default:
			row = append(row, "")
		}
		t.AppendRow(row)
	}
	t.Render()
}
