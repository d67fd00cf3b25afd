package rig

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// judge has what the coordinators of this run have decided held against the promises, by `guardring replay`: it decides every event of their journal
// again, and checks after each of them what the simulations check. What a scenario leaves to look at is the end of the journal, its last two segments.
func (r *Rig) judge() error {
	if r.Unjudged {
		return nil
	}
	segments, err := filepath.Glob(filepath.Join(r.RunDir(), "host", "journal", "journal.*.jsonl"))
	if err != nil || len(segments) == 0 {
		return err // no coordinator has acted
	}
	if _, err := os.Stat(r.Host); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err = r.Guardring(ctx, "replay")
	if err != nil && strings.Contains(err.Error(), "was written by another build") {
		return nil // scenarios that upgrade end with a build that only they know
	}
	return err
}
