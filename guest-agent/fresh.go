package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"guardring/guest-agent/config"
	"guardring/guest-agent/discovery"
	"guardring/guest-agent/fresh"
	"guardring/guest-agent/rotation"
	"guardring/internal/hint"
)

// freshly is the command fresh, for one Tor.
func freshly(w io.Writer, cfg config.Config, names []string, dryRun, again bool) error {
	cfg, err := pick(cfg, names)
	if err != nil {
		return err
	}
	instances, err := instancesOf(cfg)
	if err != nil {
		return err
	}
	if len(instances) != 1 {
		var known []string
		for _, in := range instances {
			known = append(known, in.Name)
		}
		return hint.Wrap(fmt.Errorf("%d Tors are named or found: a new sample is for one at a time", len(instances)), "name one of "+strings.Join(known, ", "))
	}
	in := instances[0]
	if in.State == "" {
		return hint.Wrap(fmt.Errorf("%s: its state file is not known", in.Name), "set state: in the configuration")
	}
	s := fresh.Site{State: in.State, Control: in.Control, Include: in.Include, Empty: rotation.EmptyInclude()}
	r, err := fresh.Run(s, fresh.Options{DryRun: dryRun, Again: again, Now: time.Now()})
	would := ""
	if dryRun {
		would = "would have: "
	}
	for _, c := range r.Changed {
		fmt.Fprintf(w, "%s: %s%s\n", in.Name, would, c)
	}
	switch {
	case errors.Is(err, fresh.ErrRunning):
		return hint.Wrap(fmt.Errorf("%s: %w", in.Name, err), systemctl(in, "stop", "stop this Tor")+", then run this command again")
	case errors.Is(err, fresh.ErrDone):
		return hint.Wrap(fmt.Errorf("%s: %w", in.Name, err), "each new sample is another draw of guards; if this is a new copy of that Tor, use --again")
	case errors.Is(err, fs.ErrPermission):
		return hint.Wrap(fmt.Errorf("%s: %w", in.Name, err), "run this command as root")
	case errors.Is(err, fs.ErrNotExist):
		return hint.Wrap(fmt.Errorf("%s: %w", in.Name, err), "nothing has to be done; or set state: in the configuration")
	case err != nil:
		return fmt.Errorf("%s: %w", in.Name, err)
	}
	if len(r.Changed) == 0 {
		fmt.Fprintf(w, "%s: it has no sample; it draws one when it starts\n", in.Name)
	}
	if !dryRun {
		fmt.Fprintf(w, "%s: next: %s; it draws a new sample, and guardring status on the host must no longer call it a clone\n", in.Name, systemctl(in, "start", "start this Tor"))
	}
	return nil
}

// systemctl is the command that does verb to the instance's Tor, or words for it
// where its unit is not known.
func systemctl(in config.Instance, verb, words string) string {
	for _, t := range []discovery.Tor{discovery.DefaultTor("/"), discovery.Instance("/", in.Name)} {
		if t.State == in.State {
			return "systemctl " + verb + " " + strings.TrimSuffix(t.Unit, ".service")
		}
	}
	return words
}
