package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"guardring/host-agent/journal"
	"guardring/host-agent/report"
	"guardring/host-agent/rundir"
	"guardring/internal/coordinator"
	"guardring/internal/hint"
	"guardring/internal/statussock"
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
			fmt.Fprintf(c.App.Writer, "%s: nothing waits for a budget, so nothing was changed\n", a.Member)
		} else {
			fmt.Fprintf(c.App.Writer, "%s: what waits (%d) is done now; a used guard is moved after its delay\n", a.Member, a.Waiting)
		}
	}
	return nil
}

// command asks the coordinators until one acts.
func command(runDir string, q report.Request) (report.Answer, error) {
	fault := errors.New("no coordinator acts")
	for n := range shmproto.HostSeats {
		data, err := statussock.Ask(rundir.Dir(runDir).Command(n), "guardring coordinate", q, fetchTime)
		var a report.Answer
		if err == nil {
			err = json.Unmarshal(data, &a)
		}
		switch {
		case err != nil:
			if !errors.Is(err, fs.ErrNotExist) {
				fault = err
			}
		case a.Standby:
		case a.Error != "":
			return a, hint.Errorf("guardring status shows gateways and members", "%s", a.Error)
		default:
			return a, nil
		}
	}
	return report.Answer{}, hint.Wrap(fault, "guardring status tells who coordinates")
}

// replay does again what a journal holds, with this build's decisions.
func replay(c *cli.Context) error {
	cfg, err := load(c)
	if err != nil {
		return err
	}
	files := c.Args().Slice()
	if len(files) == 0 {
		segments, err := journal.Segments(rundir.Dir(cfg.RunDir).Journal())
		if err != nil {
			return err
		}
		for _, s := range segments {
			files = append(files, s.Path)
		}
	}
	if len(files) == 0 {
		return hint.Errorf("a coordinator writes it while it acts; or name files", "there is no journal in %s", rundir.Dir(cfg.RunDir).Journal())
	}
	var before *segment
	for _, file := range files {
		s, err := replayFile(c, file, cfg.ShowFingerprints, before)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		before = s
	}
	return nil
}

// segment is one that was replayed.
type segment struct {
	term   uint64
	player *coordinator.Player
}

// replayFile replays one segment, which follows the one before, if there is one.
func replayFile(c *cli.Context, file string, fingerprints bool, before *segment) (*segment, error) {
	lines, torn, err := journal.Lines(file)
	var path *fs.PathError
	if errors.As(err, &path) {
		return nil, path.Err // the caller names the file
	}
	if err != nil {
		return nil, err
	}
	if torn {
		fmt.Fprintf(os.Stderr, "%s: the last line is cut off and left out\n", file)
	}
	if len(lines) == 0 {
		return nil, errors.New("it is empty")
	}
	var head struct {
		At         time.Time              `json:"at"`
		Build      string                 `json:"build"`
		Term       uint64                 `json:"term"`
		Checkpoint coordinator.Checkpoint `json:"checkpoint"`
	}
	if err := json.Unmarshal(lines[0], &head); err != nil {
		return nil, fmt.Errorf("line 1 is no checkpoint: %w", err)
	}
	p, err := coordinator.NewPlayer(head.Checkpoint)
	if err != nil {
		return nil, fmt.Errorf("written by build %s: %w", head.Build, err)
	}
	if before != nil && head.Term >= before.term { // else somebody wrote on who was deposed
		if err := p.Follows(before.player); err != nil {
			return nil, fmt.Errorf("line 1: %w", err)
		}
	}
	fmt.Fprintf(c.App.Writer, "%s: begins %s\n", file, head.At.Format(time.DateTime))
	decisions := 0
	for i, line := range lines[1:] {
		e, ready, err := p.Play(line)
		var diff *coordinator.Difference
		if errors.As(err, &diff) && !fingerprints {
			return nil, fmt.Errorf("line %d: %w (--show-fingerprints shows both)", i+2, err)
		}
		if errors.As(err, &diff) {
			return nil, fmt.Errorf("line %d: %w\nthen: %s\nnow:  %s", i+2, err, diff.Then, diff.Now)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+2, err)
		}
		decisions += len(ready.Notices)
		if len(ready.Notices) > 0 {
			fmt.Fprintf(c.App.Writer, "  %s\n", e)
		}
		for _, n := range ready.Notices {
			text := n.String()
			if fingerprints {
				text = n.Detail()
			}
			fmt.Fprintf(c.App.Writer, "    %s %s\n", n.At.Format(time.TimeOnly), text)
		}
	}
	fmt.Fprintf(c.App.Writer, "%s: %s, %s, every one the same as then, and no promise broken\n", file, plural(len(lines)-1, "event"), plural(decisions, "decision"))
	return &segment{head.Term, p}, nil
}

func plural(n int, what string) string {
	return strings.TrimSuffix(fmt.Sprintf("%d %ss", n, what), map[bool]string{true: "s"}[n == 1])
}
