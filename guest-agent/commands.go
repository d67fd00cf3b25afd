package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"syscall"
	"time"

	"guardring/guest-agent/config"
	"guardring/guest-agent/discovery"
	"guardring/guest-agent/include"
	"guardring/guest-agent/report"
	"guardring/guest-agent/rotation"
	"guardring/internal/hint"
	"guardring/internal/statussock"
)

// statusTime is how long the agent may take to answer.
const statusTime = 5 * time.Second

// leaveTime is how long leaving may take: a control port may hang.
const leaveTime = 45 * time.Second

const agentName = "the guest agent"

func status(w io.Writer, cfg config.Config, asJSON bool) error {
	b, err := statussock.Fetch(cfg.StatusSocket(), agentName, statusTime)
	if err != nil {
		return hint.Wrap(err, "start it with guardring-guest run, or set run-dir: to where it runs")
	}
	d, err := report.Parse(b, cfg.ShowFingerprints)
	if err != nil {
		return err
	}
	if !asJSON {
		return report.Text(w, d)
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(d)
}

func checkConfig(w io.Writer, cfg config.Config) error {
	instances, err := instancesOf(cfg)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "the configuration is good; policy %s, region %s\n", cfg.Policy, cfg.Region)
	for _, in := range instances {
		fmt.Fprintf(w, "%s: control %s, torrc %s, include %s\n", in.Name, in.Control, orNone(in.Torrc), orNone(in.Include))
	}
	return nil
}

func orNone(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

// site is where an instance's files lie, for join and leave.
func site(cfg config.Config, in config.Instance) (include.Site, error) {
	if in.Torrc == "" || in.Include == "" {
		return include.Site{}, hint.Wrap(fmt.Errorf("instance %s: neither torrc nor include file is known", in.Name), "set torrc: in the configuration")
	}
	s := include.Site{Torrc: in.Torrc, Include: in.Include, Folder: in.Folder, UID: -1, GID: -1}
	if os.Geteuid() != 0 {
		return s, nil // only root gives files away
	}
	var err error
	s.UID, s.GID, err = cfg.Owner(in)
	return s, err
}

// eachSite does something with every instance and collects the errors: one bad
// Tor does not keep the others from it.
func eachSite(w io.Writer, cfg config.Config, do func(include.Site) (include.Result, error), nothing string) error {
	instances, err := instancesOf(cfg)
	if err != nil {
		return err
	}
	var errs []error
	for _, in := range instances {
		s, err := site(cfg, in)
		var r include.Result
		if err == nil {
			r, err = do(s)
		}
		for _, c := range r.Changed {
			fmt.Fprintf(w, "%s: %s\n", in.Name, c)
		}
		for _, n := range r.Next {
			fmt.Fprintf(w, "%s: next: %s%s\n", in.Name, n, unit(in))
		}
		switch {
		case errors.Is(err, include.ErrRelay):
			errs = append(errs, hint.Wrap(fmt.Errorf("%s: %w", in.Name, err), "a relay cannot be a member: leave it out of instances: in the configuration"))
		case errors.Is(err, fs.ErrPermission):
			errs = append(errs, hint.Wrap(fmt.Errorf("%s: %w", in.Name, err), "run this command as root"))
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", in.Name, err))
		case len(r.Changed) == 0:
			fmt.Fprintf(w, "%s: %s\n", in.Name, nothing)
		}
	}
	return errors.Join(errs...)
}

// unit says how the instance's Tor is restarted, where that is known.
func unit(in config.Instance) string {
	for _, t := range []discovery.Tor{discovery.DefaultTor("/"), discovery.Instance("/", in.Name)} {
		if t.Torrc == in.Torrc {
			return " (systemctl restart " + t.Unit + ")"
		}
	}
	return ""
}

func join(w io.Writer, cfg config.Config) error {
	return eachSite(w, cfg, func(s include.Site) (include.Result, error) {
		return include.Join(s, rotation.EmptyInclude())
	}, "is prepared already")
}

// leave lifts the exclusions in the running Tors, tells the host, and restores
// the files. A running agent is asked to leave; without one, this process takes
// its place for a moment.
func leave(ctx context.Context, w io.Writer, cfg config.Config) error {
	ctx, cancel := context.WithTimeout(ctx, leaveTime)
	defer cancel()
	b, err := statussock.Fetch(cfg.StatusSocket(), agentName, statusTime)
	switch {
	case err == nil:
		err = dismiss(ctx, w, b, cfg)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		err = leaveAlone(ctx, w, cfg)
	}
	if err != nil {
		return err
	}
	return eachSite(w, cfg, include.Leave, "was not prepared; nothing to restore")
}

// dismiss makes the running agent leave and waits for its end.
func dismiss(ctx context.Context, w io.Writer, document []byte, cfg config.Config) error {
	d, err := report.Parse(document, false)
	if err != nil {
		return err
	}
	p, err := os.FindProcess(d.PID)
	if err == nil {
		err = p.Signal(syscall.SIGUSR1)
	}
	if err != nil {
		return hint.Wrap(fmt.Errorf("tell the running agent (process %d) to leave: %w", d.PID, err), "run this command as root, or stop the agent first")
	}
	fmt.Fprintf(w, "the running agent (process %d) lifts every exclusion and ends\n", d.PID)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := p.Signal(syscall.Signal(0)); err != nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return hint.Wrap(fmt.Errorf("the running agent (process %d) has not left within %s; nothing was restored", d.PID, leaveTime), "look at guardring-guest status, then stop the agent and run leave again")
		}
	}
}

// leaveAlone leaves without a running agent.
func leaveAlone(ctx context.Context, w io.Writer, cfg config.Config) error {
	if err := os.MkdirAll(cfg.RunDir, 0o700); err != nil {
		return fmt.Errorf("runtime directory: %w", err)
	}
	now := make(chan struct{})
	close(now)
	agent, release, err := newAgent(cfg, newLog(slog.LevelWarn), now)
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
	fmt.Fprintln(w, "every exclusion is lifted")
	return nil
}
