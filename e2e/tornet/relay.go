package tornet

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Relay is one relay of the network.
type Relay struct {
	Tor
	// Fingerprint is the relay identity, 40 upper-case hex digits.
	Fingerprint string
	// Address is the IPv4 address, Port its ORPort.
	Address string
	Port    int
	// IPv6Port is its ORPort on ::1; 0 for none.
	IPv6Port int
	// FamilyID is the key of its family as FamilyId names it, base64; empty for none.
	FamilyID string

	config string // the torrc without addresses
	family string // its MyFamily and FamilyId lines
}

// Addr is the IPv4 ORPort as address:port.
func (r *Relay) Addr() string { return net.JoinHostPort(r.Address, strconv.Itoa(r.Port)) }

// Move stops a relay, gives it another ORPort, and starts it again: to the network it has a new address.
func (n *Network) Move(ctx context.Context, r *Relay, port int) error {
	if err := r.Stop(); err != nil {
		return err
	}
	r.Port = port
	if err := r.writeTorrc(); err != nil {
		return err
	}
	return r.Start(ctx)
}

// AwaitListed waits until a Tor's consensus shows the relay at its present address.
func (r *Relay) AwaitListed(ctx context.Context, c *Client) error {
	ctl := c.Control()
	ev, cancel := ctl.Events()
	defer cancel()
	if _, err := ctl.Do("SETEVENTS NEWCONSENSUS"); err != nil {
		return err
	}
	for {
		ns, err := ctl.Info("ns/id/" + r.Fingerprint)
		if err != nil {
			return err
		}
		if strings.Contains(ns, fmt.Sprintf(" %s %d ", r.Address, r.Port)) {
			return nil
		}
		select {
		case _, ok := <-ev:
			if !ok {
				return fmt.Errorf("%s ended", c.Name)
			}
		case <-ctx.Done():
			return fmt.Errorf("%s is not listed at %s: %w", r.Name, r.Addr(), ctx.Err())
		}
	}
}
