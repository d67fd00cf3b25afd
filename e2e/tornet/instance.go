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
