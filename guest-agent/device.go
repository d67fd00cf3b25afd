package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/user"
	"strconv"
	"syscall"
	"time"

	"guardring/guest-agent/config"
	"guardring/guest-agent/device"
	"guardring/guest-agent/report"
	"guardring/internal/hint"
)

// defaultGroup is whose members may use Tor's control port on Debian and Whonix.
const defaultGroup = "debian-tor"

// prepare gives the PCI device to the agent's group.
func prepare(w io.Writer, cfg config.Config, group string, dry bool) error {
	o := deviceOptions(cfg)
	var err error
	if o.GID, err = agentGroup(cfg, group); err != nil {
		return err
	}
	if plan, err := device.Prepare(o, true); err == nil && len(plan.Changed) > 0 && !dry {
		if err := notInUse(cfg); err != nil {
			return err
		}
	}
	p, err := device.Prepare(o, dry)
	tell(w, p.Changed, dry)
	if err != nil {
		return err
	}
	if len(p.Changed) == 0 && p.Choice.Kind != device.BySocket {
		fmt.Fprintln(w, "the device is prepared already")
	}
	fmt.Fprintf(w, "the agent will use %s (%s), because %s\n", p.Choice.Kind, p.Choice.Address, p.Choice.Reason)
	return nil
}

// notInUse refuses to change a device under the agent that has it.
func notInUse(cfg config.Config) error {
	b, err := ask(cfg)
	if err != nil {
		return nil // none runs
	}
	d, err := report.Parse(b, false)
	if err == nil && d.Region.Attached && d.Region.Device != string(device.BySocket) {
		return hint.Errorf("stop the agent (systemctl stop guardring-guest), then prepare again", "the running agent (process %d) has the device, which would have to change", d.PID)
	}
	return nil
}

// letGoTime is how long the kernel may take to close what an ended agent had.
const letGoTime = 5 * time.Second

// restore gives the device back as prepare found it.
func restore(ctx context.Context, w io.Writer, cfg config.Config) error {
	ctx, cancel := context.WithTimeout(ctx, letGoTime)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		p, err := device.Restore(deviceOptions(cfg), false)
		tell(w, p.Changed, false)
		if !errors.Is(err, syscall.EBUSY) {
			return err
		}
		// The agent has ended, but its last thread may not. There is no event for that.
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

func tell(w io.Writer, changed []string, dry bool) {
	for _, c := range changed {
		if dry {
			c = "would have " + c
		}
		fmt.Fprintln(w, c)
	}
}

// agentGroup finds the group that the agent runs with: the named one, that of the
// configured user, or Debian's; -1 where none of these is.
func agentGroup(cfg config.Config, name string) (int, error) {
	if name == "" && cfg.User != "" {
		u, err := user.Lookup(cfg.User)
		if err != nil {
			return -1, fmt.Errorf("user %s of the configuration: %w", cfg.User, err)
		}
		return strconv.Atoi(u.Gid)
	}
	if gid, err := strconv.Atoi(name); err == nil && gid >= 0 {
		return gid, nil
	}
	asked := name != ""
	if !asked {
		name = defaultGroup
	}
	g, err := user.LookupGroup(name)
	var unknown user.UnknownGroupError
	switch {
	case err == nil:
		return strconv.Atoi(g.Gid)
	case !asked:
		return -1, nil // no Debian: root alone
	case errors.As(err, &unknown):
		return -1, hint.Errorf("name the group that the agent runs with, by --group", "there is no group %q", name)
	}
	return -1, fmt.Errorf("group %s: %w", name, err)
}
