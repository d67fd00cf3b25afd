package tornet

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// ClientLines are the torrc lines that make any Tor of this machine a client of the network.
func (n *Network) ClientLines() string { return n.common + "ClientOnly 1\n" }

// PlantedState is a state file whose sample begins with these guards. See ClientConfig.Plant.
func (n *Network) PlantedState(plant []*Relay) string {
	return plantedState(plant, n.Guards, time.Now())
}

// RunForeign starts a Tor whose files the caller has made, and connects to it. dir holds its control socket, cookie, SOCKS socket
// and guard log, under the names that all clients use. The network stops it with everything else.
func (n *Network) RunForeign(ctx context.Context, name, dir string, cmd *exec.Cmd) (*Client, error) {
	c := &Client{Tor: Tor{Name: name, Dir: dir}, net: n}
	out, err := os.Create(filepath.Join(dir, "stdout.log"))
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if c.proc, err = Spawn(cmd); err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.clients = append(n.clients, c)
	n.mu.Unlock()
	if c.ctl, err = c.dial(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := c.Control().AwaitBootstrap(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", name, err, c.lastWords())
	}
	return c, nil
}

// Remote adds a Tor that runs in a machine of its own. dir holds sockets that lead to its control and SOCKS ports, its cookie and
// its guard log, under the names that all clients use; state reads its state file. The network neither starts nor stops it; the caller
// calls Connect whenever it has been started.
func (n *Network) Remote(name, dir string, state func() ([]byte, error)) *Client {
	c := &Client{Tor: Tor{Name: name, Dir: dir, state: state}, net: n}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.clients = append(n.clients, c)
	return c
}

// Connect connects to the control port of a Tor that runs elsewhere, anew if it was connected, and waits until it can build circuits.
func (c *Client) Connect(ctx context.Context) error {
	ctl, err := c.dial(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Name, err)
	}
	c.mu.Lock()
	c.hangUp()
	c.ctl = ctl
	c.mu.Unlock()
	if err := ctl.AwaitBootstrap(ctx); err != nil {
		return fmt.Errorf("%s: %w", c.Name, err)
	}
	return nil
}

// Directory are files of a data directory from which a starting client knows the whole network at once, as one that ran yesterday does.
func (n *Network) Directory() []string {
	var out []string
	for _, f := range []string{"cached-certs", "cached-microdesc-consensus", "cached-microdescs.new"} {
		out = append(out, filepath.Join(n.Guards[0].DataDir(), f))
	}
	return out
}
