package domains

import (
	"errors"
	"fmt"
	"slices"

	"guardring/internal/hint"
)

// ErrNoServer: no `guardring serve` runs.
var ErrNoServer = errors.New("no guardring server runs")

// served is the step that has the server make the gateway's socket. must: without
// a server the command cannot go on.
func (d *Desk) served(name string, must bool) step {
	return step{at: "served", always: true, text: "tell the server", do: func() error {
		names, err := d.Reload()
		switch {
		case errors.Is(err, ErrNoServer) && must:
			return hint.Wrap(err, "systemctl start guardring-server (by hand: guardring run), then run the command again: QEMU needs the socket when the domain starts")
		case errors.Is(err, ErrNoServer):
			fmt.Fprintf(d.Out, "%s: it will serve the gateway when it starts; the domain cannot start before\n", ErrNoServer)
		case err != nil:
			return err
		case !slices.Contains(names, name):
			return hint.Errorf("guardring check-config, and the server's log", "the server was told, and does not serve the gateway %q: does it run with this configuration?", name)
		}
		return nil
	}}
}

// unserved is the step that has the server give the gateway's socket up.
func (d *Desk) unserved() step {
	return step{at: "unserved", always: true, text: "tell the server", do: func() error {
		_, err := d.Reload()
		if errors.Is(err, ErrNoServer) {
			return nil // it will read the configuration when it starts
		}
		return err
	}}
}
