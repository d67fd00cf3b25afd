package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/urfave/cli/v2"

	"guardring/host-agent/journal"
	"guardring/host-agent/rundir"
	"guardring/internal/coordinator"
	"guardring/internal/hint"
	"guardring/internal/printable"
)

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

// head is the first line of a segment.
type head struct {
	At         time.Time              `json:"at"`
	Build      string                 `json:"build"`
	Term       uint64                 `json:"term"`
	Checkpoint coordinator.Checkpoint `json:"checkpoint"`
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
	h, p, err := begin(lines[0], before)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(c.App.Writer, "%s: begins %s\n", file, h.At.Format(time.DateTime))
	decisions := 0
	for i, line := range lines[1:] {
		ready, err := replayLine(c.App.Writer, p, line, fingerprints)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+2, err)
		}
		decisions += len(ready.Notices)
	}
	fmt.Fprintf(c.App.Writer, "%s: %s, %s, every one the same as then, and no promise broken\n", file, english.Plural(len(lines)-1, "event", ""), english.Plural(decisions, "decision", ""))
	return &segment{h.Term, p}, nil
}

// begin makes the coordinator that a segment begins with, and checks that it is the
// one that the segment before has ended with.
func begin(first []byte, before *segment) (h head, p *coordinator.Player, err error) {
	if err := json.Unmarshal(first, &h); err != nil {
		return h, nil, fmt.Errorf("line 1 is no checkpoint: %w", err)
	}
	if p, err = coordinator.NewPlayer(h.Checkpoint); err != nil {
		return h, nil, fmt.Errorf("written by build %s: %w", h.Build, err)
	}
	if before != nil && h.Term >= before.term { // else somebody wrote on who was deposed
		if err := p.Follows(before.player); err != nil {
			return h, nil, fmt.Errorf("line 1: %w", err)
		}
	}
	return h, p, nil
}

// replayLine replays one event, and prints it with what was decided, if anything was.
func replayLine(w io.Writer, p *coordinator.Player, line []byte, fingerprints bool) (coordinator.Ready, error) {
	e, ready, err := p.Play(line)
	var diff *coordinator.Difference
	switch {
	case errors.As(err, &diff) && !fingerprints:
		return ready, fmt.Errorf("%w (--show-fingerprints shows both)", err)
	case errors.As(err, &diff):
		return ready, fmt.Errorf("%w\nthen: %s\nnow:  %s", err, diff.Then, diff.Now)
	case err != nil:
		return ready, err
	}
	if len(ready.Notices) > 0 {
		fmt.Fprintf(w, "  %s\n", printable.Text(e.String()))
	}
	for _, n := range ready.Notices {
		text := n.String()
		if fingerprints {
			text = n.Detail()
		}
		fmt.Fprintf(w, "    %s %s\n", n.At.Format(time.TimeOnly), printable.Text(text))
	}
	return ready, nil
}
