package main

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/urfave/cli/v2"

	"guardring/host-agent/journal"
	"guardring/host-agent/report"
	"guardring/host-agent/rundir"
	"guardring/internal/hint"
	"guardring/internal/printable"
	"guardring/shmproto"
)

// subject is the one argument of a command that is about a gateway or member.
func subject(c *cli.Context) (string, error) {
	usage := fmt.Sprintf("%s %s %s", program, c.Command.Name, c.Command.ArgsUsage)
	if c.NArg() != 1 {
		return "", hint.Errorf(usage, "%s: want one gateway or member, got %d arguments", c.Command.Name, c.NArg())
	}
	name := c.Args().First()
	if err := report.Subject(name, shmproto.ValidName); err != nil {
		return "", hint.Wrap(err, usage)
	}
	return name, nil
}

// explain tells what was decided about a gateway or member, and why.
func explain(c *cli.Context) error {
	name, err := subject(c)
	if err != nil {
		return err
	}
	cfg, err := load(c)
	if err != nil {
		return err
	}
	lines, err := journal.History(rundir.Dir(cfg.RunDir).History())
	if errors.Is(err, fs.ErrPermission) {
		return hint.Wrap(err, "run it as root, or as the user that the coordinator runs as")
	}
	if err != nil {
		return err
	}
	s := judge(cfg)
	e := report.Explain(name, lines, s)
	if e.Nobody(s) {
		return hint.Wrap(fmt.Errorf("explain: no gateway is served for %s, and nothing was ever decided about it", name), "guardring status --json lists the gateways")
	}
	if !cfg.ShowFingerprints {
		e = e.Shorten()
	}
	if c.Bool("json") {
		return writeJSON(c.App.Writer, e)
	}
	return report.WriteExplanation(c.App.Writer, e, report.Style{Fingerprints: cfg.ShowFingerprints, Now: time.Now()})
}

// allow lets a gateway or member do once what its budgets keep waiting.
func allow(c *cli.Context) error {
	name, err := subject(c)
	if err != nil {
		return err
	}
	if !c.Bool("once") {
		return hint.Errorf(fmt.Sprintf("%s allow %s --once", program, name), "allow: --once is missing: it is for what waits now, and lasts for nothing that comes later")
	}
	cfg, err := load(c)
	if err != nil {
		return err
	}
	answer, err := command(cfg.RunDir, report.Request{Allow: name})
	if err != nil {
		return err
	}
	for _, a := range answer.Allowed {
		if a.Waiting == 0 {
			fmt.Fprintf(c.App.Writer, "%s: nothing waits for a budget, so nothing was changed\n", printable.Text(a.Member))
		} else {
			fmt.Fprintf(c.App.Writer, "%s: what waits (%d) is done now; a used guard is moved after its delay\n", printable.Text(a.Member), a.Waiting)
		}
	}
	return nil
}
