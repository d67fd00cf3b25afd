// Package doctor looks at everything that the guest agent needs and says what is
// missing and what to do: the way to the region, the region itself, the host's
// heartbeat, and each Tor with its control port, files and circumstances. It
// changes nothing. Where an agent runs, the agent is asked: the device can be
// had by one process only.
//
// Trust: as in the packages that it looks through. Texts may quote Tor; package
// checkup prints no control characters.
package doctor

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"syscall"
	"time"

	"guardring/guest-agent/device"
	"guardring/guest-agent/include"
	"guardring/guest-agent/runner"
	"guardring/guest-agent/torctl"
	"guardring/internal/checkup"
	"guardring/internal/hint"
)

// Config is what is to be looked at.
type Config struct {
	Device device.Options
	Tors   []Tor
	// Status fetches the running agent's status document. An error that is
	// fs.ErrNotExist or ECONNREFUSED: no agent runs.
	Status func() ([]byte, error)
	// Look is how long a heartbeat of the host is waited for, where no agent runs.
	Look time.Duration
	// Now is the clock of the machine.
	Now func() time.Time
}

// Tor is one Tor to look at.
type Tor struct {
	Name    string
	Control torctl.Config
	State   string // "" if unknown
	Site    include.Site
	Restart string // how it is restarted, in brackets behind a blank, for remedies; "" if unknown
}

// doctor is one visit.
type doctor struct {
	cfg   Config
	lines checkup.Lines
	agent *runner.Document // nil: none runs
}

// Examine looks at everything once. It takes some seconds at most, and less where
// an agent runs.
func Examine(ctx context.Context, cfg Config) checkup.Lines {
	d := &doctor{cfg: cfg}
	d.askAgent()
	d.lookAtDevice()
	d.lookAtRegion(ctx)
	if len(cfg.Tors) == 0 {
		d.lines.Fail("tor", "install and start Tor, or name its control socket under instances: in the configuration", "no Tor was found on this machine")
	}
	for _, t := range cfg.Tors {
		d.lookAtTor(ctx, t)
	}
	return d.lines
}

// askAgent finds out whether an agent runs, and what it complains of.
func (d *doctor) askAgent() {
	const name = "agent"
	text, err := d.cfg.Status()
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		d.lines.Warn(name, "systemctl start guardring-guest (by hand: guardring-guest run)", "it does not run")
		return
	}
	var doc struct {
		runner.Document
		Error string `json:"error"` // in place of a status
	}
	if err == nil {
		if err = json.Unmarshal(text, &doc); err == nil && doc.PID == 0 {
			err = errors.New(cmp.Or(doc.Error, "its status is none"))
		}
	}
	if err != nil {
		remedy := hint.Of(err)
		if errors.Is(err, fs.ErrPermission) {
			remedy = "run this command as root, or as the agent's user"
		} else if remedy == "" {
			remedy = "restart the agent"
		}
		d.lines.Fail(name, remedy, "it cannot be asked: %v", err)
		return
	}
	d.agent = &doc.Document
	d.lines.Pass(name, "it runs (process %d, since %s)", doc.PID, time.Duration(doc.Uptime*float64(time.Second)).Round(time.Second))
	for _, f := range doc.Faults {
		text := f.Text
		if f.Member != "" {
			text = f.Member + ": " + text
		}
		d.lines.Fail("agent's complaint", f.Hint, "%s", text)
	}
}
