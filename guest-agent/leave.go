package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"guardring/guest-agent/config"
	"guardring/guest-agent/enforce"
	"guardring/guest-agent/include"
	"guardring/guest-agent/report"
	"guardring/guest-agent/runner"
	"guardring/internal/hint"
)

// leaveTime is how long leaving may take: a control port may hang.
const leaveTime = 45 * time.Second

// leave lifts the exclusions in the running Tors, tells the host, and restores
// the files: of all instances, or of those named. A running agent is asked to do
// it; without one, this process takes its place for a moment.
func leave(ctx context.Context, w io.Writer, cfg config.Config, names []string) error {
	ctx, cancel := context.WithTimeout(ctx, leaveTime)
	defer cancel()
	picked, err := pick(cfg, names)
	if err != nil {
		return err
	}
	// A Tor that has gone needs nothing, and must not keep the agent's package from going.
	noTor := false
	if len(names) == 0 {
		_, err := instancesOf(cfg)
		noTor = errors.Is(err, errNoTor)
	}
	b, err := ask(cfg)
	switch {
	case err == nil:
		err = dismiss(ctx, w, b, cfg, names)
	case noTor:
		err = nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		err = leaveAlone(ctx, w, picked, len(names) > 0)
	}
	if err != nil {
		return err
	}
	if len(names) == 0 {
		// The agent has done it, unless it was not allowed to. We may be.
		if err := enforce.New(cfg.EnforceTable()).Remove(); err != nil && cfg.Enforce == config.EnforceNftables {
			return err
		}
	}
	if len(names) == 0 && b != nil {
		fmt.Fprintln(w, "next: its service starts it again with the machine, unless systemctl disable guardring-guest; to serve again: guardring-guest join, then systemctl start guardring-guest")
	}
	if noTor {
		fmt.Fprintf(w, "%v: nothing to restore\n", errNoTor)
	} else {
		err = eachSite(w, picked, include.Leave, "was not prepared; nothing to restore")
	}
	if len(names) == 0 {
		err = errors.Join(err, restore(ctx, w, cfg)) // the agent has let go of the device
	}
	if err != nil || len(names) == 0 {
		return err
	}
	for _, name := range names {
		if len(cfg.Instances) > 0 {
			fmt.Fprintf(w, "%s: next: take it out of instances: in the configuration, or the agent serves it again when it starts\n", name)
		} else if !slices.Contains(cfg.Except, name) {
			fmt.Fprintf(w, "%s: next: name it under except: in the configuration, or the agent serves it again when it starts\n", name)
		}
	}
	return nil
}

// dismiss makes the running agent, or some of its members, leave, and waits for
// the end.
func dismiss(ctx context.Context, w io.Writer, document []byte, cfg config.Config, names []string) error {
	d, err := report.Parse(document, false)
	if err != nil {
		return err
	}
	p, err := os.FindProcess(d.PID) // a handle: from here on the number is no other process's
	if err == nil {
		err = listens(cfg.StatusSocket(), d.PID)
	}
	if err != nil {
		return err
	}
	if err := writeRequest(cfg.LeaveFile(), names); err != nil {
		return hint.Wrap(fmt.Errorf("write down who must leave: %w", err), "run this command as root, or as the agent's user")
	}
	if err = p.Signal(syscall.SIGUSR1); err != nil {
		_ = os.Remove(cfg.LeaveFile()) // nobody must find it later
		return hint.Wrap(fmt.Errorf("tell the running agent (process %d) to leave: %w", d.PID, err), "run this command as root, or stop the agent first")
	}
	gone := func() bool { return p.Signal(syscall.Signal(0)) != nil }
	if len(names) == 0 {
		fmt.Fprintf(w, "the running agent (process %d) lifts every exclusion and ends\n", d.PID)
	} else {
		fmt.Fprintf(w, "the running agent (process %d) lifts every exclusion of %s\n", d.PID, strings.Join(names, ", "))
		agentGone := gone
		gone = func() bool { return agentGone() || !serves(cfg, names) }
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !gone() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return hint.Wrap(fmt.Errorf("the running agent (process %d) has not left within %s; nothing was restored", d.PID, leaveTime), "look at guardring-guest status, then stop the agent and run leave again")
		}
	}
	return nil
}

// listens reports why a process cannot be the one behind a socket. Which it is, the
// agent says itself: an agent that was taken over must not have root signal others.
func listens(socket string, pid int) error {
	var s, p syscall.Stat_t
	if err := syscall.Lstat(socket, &s); err != nil {
		return err
	}
	if err := syscall.Stat(fmt.Sprintf("/proc/%d", pid), &p); err != nil {
		return err
	}
	if s.Uid != p.Uid {
		return hint.Errorf("systemctl stop guardring-guest, then run leave again", "the agent at %s names process %d, which is user %d's, and the socket is user %d's", socket, pid, p.Uid, s.Uid)
	}
	return nil
}

// serves reports whether the running agent still has a member of one of the
// names, or cannot be asked.
func serves(cfg config.Config, names []string) bool {
	var d runner.Document
	b, err := ask(cfg)
	if err == nil {
		d, err = report.Parse(b, false)
	}
	return err != nil || slices.ContainsFunc(d.Members, func(m runner.Member) bool { return slices.Contains(names, m.Name) })
}

// leaveAlone leaves without a running agent.
func leaveAlone(ctx context.Context, w io.Writer, cfg config.Config, part bool) error {
	if err := os.MkdirAll(cfg.RunDir, 0o700); err != nil {
		return fmt.Errorf("runtime directory: %w", err)
	}
	now := make(chan string)
	close(now)
	agent, release, err := newAgent(cfg, newLog(slog.LevelWarn), part, now)
	if err != nil {
		return err
	}
	defer release()
	if err := agent.Run(ctx); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return hint.Wrap(fmt.Errorf("the exclusions could not be lifted within %s; nothing was restored", leaveTime), "stop Tor, then run leave again: without a running Tor only files are restored")
	}
	untold := agent.Untold()
	for _, name := range untold {
		fmt.Fprintf(w, "%s: its control port could not be used: if this Tor runs, restart it, or it keeps the exclusions, and a join gate that is closed\n", name)
	}
	if len(untold) == 0 {
		fmt.Fprintln(w, "every exclusion is lifted")
	}
	return nil
}
