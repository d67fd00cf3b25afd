package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"guardring/guest-agent/config"
	"guardring/guest-agent/discovery"
	"guardring/guest-agent/include"
	"guardring/guest-agent/report"
	"guardring/guest-agent/rotation"
	"guardring/internal/hint"
)

func status(w io.Writer, cfg config.Config, asJSON bool) error {
	b, err := ask(cfg)
	if err != nil {
		return hint.Wrap(err, "systemctl start guardring-guest (by hand: guardring-guest run), or set run-dir: to where it runs")
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

func join(w io.Writer, cfg config.Config, names []string) error {
	cfg, err := pick(cfg, names)
	if err != nil {
		return err
	}
	madeFolder := false
	err = eachSite(w, cfg, func(s include.Site) (include.Result, error) {
		r, err := include.Join(s, rotation.EmptyInclude())
		madeFolder = madeFolder || r.Folder
		return r, err
	}, "is prepared already")
	if _, absent := ask(cfg); madeFolder && absent == nil {
		fmt.Fprintln(w, "next: restart the agent (systemctl restart guardring-guest); its unit lets it write only where a folder was when it started")
	}
	return err
}
