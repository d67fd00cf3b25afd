package main

import (
	"context"
	"io"
	"time"

	"guardring/guest-agent/config"
	"guardring/guest-agent/doctor"
	"guardring/internal/checkup"
)

// heartbeatLook is how long doctor waits for a heartbeat, which comes every
// second or so.
const heartbeatLook = 5 * time.Second

// examine is the command doctor.
func examine(ctx context.Context, w io.Writer, cfg config.Config, asJSON bool) error {
	o := deviceOptions(cfg)
	var err error
	if o.GID, err = agentGroup(cfg, ""); err != nil {
		return err
	}
	instances, err := cfg.Tors("/")
	if err != nil {
		return err
	}
	tors, err := runnerTors(cfg, instances)
	if err != nil {
		return err
	}
	c := doctor.Config{
		Device: o, Look: heartbeatLook, Now: time.Now,
		Status: func() ([]byte, error) { return ask(cfg) },
	}
	for i, t := range tors {
		c.Tors = append(c.Tors, doctor.Tor{Name: t.Name, Control: t.Control, State: t.State, Site: t.Site, Restart: unit(instances[i])})
	}
	lines := doctor.Examine(ctx, c)
	show := checkup.Print
	if asJSON {
		show = checkup.PrintJSON
	}
	if err := show(w, lines); err != nil {
		return err
	}
	return checkup.Conclude(lines)
}
