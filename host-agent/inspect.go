package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"guardring/host-agent/config"
	"guardring/host-agent/ledger"
	"guardring/host-agent/report"
	"guardring/host-agent/rundir"
	"guardring/host-agent/server"
	"guardring/internal/hint"
	"guardring/internal/statussock"
	"guardring/shmproto"
)

const (
	fetchTime   = 3 * time.Second
	watchPeriod = 2 * time.Second
)

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
		fmt.Fprintf(c.App.Writer, "%s: %s\n", s.Verdict, s.Summary)
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

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// judge asks server and coordinators, and shortens fingerprints unless asked not
// to.
func judge(cfg config.Config) report.Status {
	s := report.Judge(answers(cfg))
	if !cfg.ShowFingerprints {
		s = s.Shorten()
	}
	return s
}

func answers(cfg config.Config) report.Answers {
	var a report.Answers
	run := rundir.Dir(cfg.RunDir)
	a.Server, a.ServerErr = statussock.Fetch(run.Server(), "guardring serve", fetchTime)
	for n := range shmproto.HostSeats {
		data, err := statussock.Fetch(run.Coordinator(n), "guardring coordinate", fetchTime)
		var d report.Document
		if err == nil {
			err = json.Unmarshal(data, &d)
		}
		if err == nil && d.Self.PID == 0 {
			err = errors.New("the coordinator is busy")
		}
		if err != nil {
			// The reason that is not just "nobody is there" says more.
			if a.CoordinatorErr == nil || errors.Is(a.CoordinatorErr, fs.ErrNotExist) {
				a.CoordinatorErr = err
			}
			continue
		}
		a.Coordinators = append(a.Coordinators, d)
	}
	return a
}

// serverStatus is the server's document.
func serverStatus(cfg config.Config) (st server.Status, err error) {
	data, err := statussock.Fetch(rundir.Dir(cfg.RunDir).Server(), "guardring serve", fetchTime)
	if err == nil {
		err = json.Unmarshal(data, &st)
	}
	return st, err
}

func ledgerShow(c *cli.Context) error {
	cfg, err := load(c)
	if err != nil {
		return err
	}
	if err := ledgerThere(cfg); err != nil {
		return err
	}
	d, err := ledger.Open(cfg.LedgerDir, time.Now())
	if err != nil {
		return err
	}
	defer d.Close()
	high, err := d.Highest()
	if err != nil {
		return err
	}
	h, err := d.Read(high + 1)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "epoch %s, highest term %d, newest ledger of term %d, %d steps\n", ledger.FormatEpoch(d.Epoch()), high, h.Term, len(h.Lines))
	for _, line := range h.Lines {
		if _, err := fmt.Fprintf(c.App.Writer, "%s\n", line); err != nil {
			return err
		}
	}
	return nil
}

// ledgerThere is for commands about a ledger that exists: opening would make one in
// a directory that was only misspelt.
func ledgerThere(cfg config.Config) error {
	if _, err := os.Stat(cfg.LedgerDir); err != nil {
		return hint.Wrap(fmt.Errorf("ledger directory: %w", err), "a coordinator makes it when it starts; or give --ledger-dir")
	}
	return nil
}

func ledgerRebuild(c *cli.Context) error {
	cfg, err := load(c)
	if err != nil {
		return err
	}
	if err := ledgerThere(cfg); err != nil {
		return err
	}
	epoch, kept, err := ledger.Rebuild(cfg.LedgerDir, time.Now())
	if errors.Is(err, ledger.ErrInUse) {
		return hint.Wrap(err, "stop every coordinator first: systemctl stop guardring-coordinator guardring-standby (or what you have started by hand)")
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "new epoch %s; the next coordinator starts from the guests' publications\n", ledger.FormatEpoch(epoch))
	if kept != "" {
		fmt.Fprintf(c.App.Writer, "the old ledgers are in %s; remove them when nobody needs them\n", kept)
	}
	return nil
}
