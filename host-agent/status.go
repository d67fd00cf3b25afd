package main

import (
	"bytes"
	"fmt"
	"os"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"guardring/host-agent/config"
	"guardring/host-agent/report"
	"guardring/internal/hint"
	"guardring/internal/printable"
)

// watchPeriod is how often status --watch looks.
const watchPeriod = 2 * time.Second

// status shows how things stand. Its exit code is a verdict only with --check.
func status(c *cli.Context) error {
	cfg, err := load(c)
	if err != nil {
		if c.Bool("check") {
			hint.Print(os.Stderr, program, err)
			return hint.Exit{Code: int(report.Unknown)}
		}
		return err
	}
	out, isFile := c.App.Writer.(*os.File)
	terminal := isFile && term.IsTerminal(int(out.Fd()))
	style := report.Style{Color: terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb", Fingerprints: cfg.ShowFingerprints}
	if !c.Bool("watch") {
		return showOnce(c, cfg, style)
	}
	for {
		var page bytes.Buffer
		style.Now = time.Now()
		if err := report.Write(&page, judge(cfg), style); err != nil {
			return err
		}
		clear := ""
		if terminal {
			clear = "\x1b[H\x1b[2J"
		}
		if _, err := fmt.Fprintf(c.App.Writer, "%s%s\n", clear, page.Bytes()); err != nil {
			return err
		}
		select {
		case <-c.Context.Done():
			return nil
		case <-time.After(watchPeriod):
		}
	}
}

func showOnce(c *cli.Context, cfg config.Config, style report.Style) error {
	s := judge(cfg)
	style.Now = time.Now()
	switch {
	case c.Bool("json"):
		if err := writeJSON(c.App.Writer, s); err != nil {
			return err
		}
	case c.Bool("check"):
		fmt.Fprintf(c.App.Writer, "%s: %s\n", s.Verdict, printable.Text(s.Summary))
	default:
		if err := report.Write(c.App.Writer, s, style); err != nil {
			return err
		}
	}
	if c.Bool("check") && s.Verdict != report.OK {
		return hint.Exit{Code: int(s.Verdict)}
	}
	return nil
}
