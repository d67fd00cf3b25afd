package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"guardring/host-agent/config"
	"guardring/host-agent/ledger"
	"guardring/internal/hint"
)

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
