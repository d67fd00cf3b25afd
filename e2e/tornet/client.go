package tornet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// ClientConfig describes one client.
type ClientConfig struct {
	// Name is its directory's name; letters and digits, short.
	Name string
	// Plant are the guards that its state file names first, in this order, as sampled and confirmed long ago: the faithful
	// way to give two clients the same guard. The network's other guards follow in random order, unconfirmed: a Tor that has planted
	// primaries does not fill its sample by itself, while any that drew its own has done so. nil leaves all to Tor.
	Plant []*Relay
	// Head and Tail are torrc lines for the test's own purpose, before and after the network's lines. The network sets none of the
	// options that guardring touches.
	Head, Tail string
}

// Client is one Tor client.
type Client struct {
	Tor
	net *Network
}

// AddClient prepares a client without starting it: directory, torrc, planted state file.
func (n *Network) AddClient(cfg ClientConfig) (*Client, error) {
	c := &Client{Tor: Tor{Name: cfg.Name, Dir: filepath.Join(n.Dir, cfg.Name)}, net: n}
	if err := os.MkdirAll(c.DataDir(), 0o700); err != nil {
		return nil, err
	}
	torrc := cfg.Head + n.common + c.commonLines() + fmt.Sprintf("ClientOnly 1\nSocksPort unix:%s\nLog [guard]info file %s\n",
		c.SocksSocket(), c.GuardLog()) + cfg.Tail
	if err := os.WriteFile(c.Torrc(), []byte(torrc), 0o600); err != nil {
		return nil, err
	}
	if len(cfg.Plant) > 0 {
		if err := os.WriteFile(c.StateFile(), []byte(plantedState(cfg.Plant, n.Guards, time.Now())), 0o600); err != nil {
			return nil, err
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.clients = append(n.clients, c)
	return c, nil
}

// RemoveClient ends a client and deletes its files.
func (n *Network) RemoveClient(c *Client) error {
	err := c.Kill()
	n.mu.Lock()
	for i, o := range n.clients {
		if o == c {
			n.clients = append(n.clients[:i:i], n.clients[i+1:]...)
			break
		}
	}
	n.mu.Unlock()
	if os.Getenv("KEEP_TORNET") != "" {
		return err
	}
	return errors.Join(err, os.RemoveAll(c.Dir))
}

// plantedState is a state file whose sample begins with the planted guards, all confirmed, and goes on with the others.
func plantedState(planted, all []*Relay, now time.Time) string {
	var b strings.Builder
	const layout = "2006-01-02T15:04:05"
	line := func(i int, g *Relay, confirmed bool) {
		sampled := now.UTC().Add(-20*24*time.Hour + time.Duration(i)*time.Hour)
		fmt.Fprintf(&b, "Guard in=default rsa_id=%s nickname=%s sampled_on=%s sampled_idx=%d sampled_by=0.4.9.11 listed=1",
			g.Fingerprint, g.Name, sampled.Format(layout), i)
		if confirmed {
			fmt.Fprintf(&b, " confirmed_on=%s confirmed_idx=%d", sampled.Add(time.Hour).Format(layout), i)
		}
		b.WriteByte('\n')
	}
	for i, g := range planted {
		line(i, g, true)
	}
	i := len(planted)
	for _, k := range rand.Perm(len(all)) {
		if g := all[k]; !slices.Contains(planted, g) {
			line(i, g, false)
			i++
		}
	}
	return b.String()
}

// Bootstrap starts the client and waits until it can build circuits.
func (c *Client) Bootstrap(ctx context.Context) error {
	if err := c.Start(ctx); err != nil {
		return err
	}
	if err := c.Control().AwaitBootstrap(ctx); err != nil {
		return fmt.Errorf("%s: %w", c.Name, err)
	}
	return nil
}

// Restart stops the client as systemd does, and starts it again.
func (c *Client) Restart(ctx context.Context) error {
	if err := c.Stop(); err != nil {
		return err
	}
	return c.Bootstrap(ctx)
}

// Dial opens a stream to a numeric TCP address through the client. Streams of different isolation names never share a circuit.
func (c *Client) Dial(ctx context.Context, target *net.TCPAddr, isolation string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.SocksSocket())
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := socks(conn, target, isolation); err != nil {
		conn.Close()
		return nil, fmt.Errorf("%s: socks to %v: %w", c.Name, target, errors.Join(err, ctx.Err()))
	}
	return conn, nil
}

// socks speaks SOCKS5 with a user name (RFC 1928, RFC 1929).
func socks(conn net.Conn, target *net.TCPAddr, isolation string) error {
	if _, err := conn.Write([]byte{5, 1, 2}); err != nil {
		return err
	}
	var b [10]byte
	if _, err := io.ReadFull(conn, b[:2]); err != nil {
		return err
	}
	if b[1] != 2 {
		return fmt.Errorf("method %d refused", b[1])
	}
	auth := append([]byte{1, byte(len(isolation))}, isolation...)
	auth = append(auth, 1, 'x')
	if _, err := conn.Write(auth); err != nil {
		return err
	}
	if _, err := io.ReadFull(conn, b[:2]); err != nil {
		return err
	}
	ip := target.IP.To4()
	if ip == nil {
		return fmt.Errorf("%v is no IPv4 address", target.IP)
	}
	req := append([]byte{5, 1, 0, 1}, ip...)
	if _, err := conn.Write(append(req, byte(target.Port>>8), byte(target.Port))); err != nil {
		return err
	}
	if _, err := io.ReadFull(conn, b[:4]); err != nil {
		return err
	}
	if b[1] != 0 {
		return fmt.Errorf("answer %d", b[1])
	}
	bound := map[byte]int64{1: 4 + 2, 4: 16 + 2}[b[3]] // the bound address and port, which mean nothing here
	if bound == 0 {
		return fmt.Errorf("answer with address type %d", b[3])
	}
	_, err := io.CopyN(io.Discard, conn, bound)
	return err
}

// Echo is a loopback TCP service that returns what it gets: something to reach through an exit.
type Echo struct{ l net.Listener }

// StartEcho starts an echo service on 127.0.0.1.
func StartEcho() (*Echo, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				io.Copy(conn, conn)
			}()
		}
	}()
	return &Echo{l: l}, nil
}

// Addr is where it listens.
func (e *Echo) Addr() *net.TCPAddr { return e.l.Addr().(*net.TCPAddr) }

// Close ends the listener.
func (e *Echo) Close() error { return e.l.Close() }

// Ping sends a line over an echo stream and checks that it comes back within half a minute: a busy machine has been seen to take more than ten seconds.
func Ping(conn net.Conn) error {
	const line = "guardring\n"
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	defer conn.SetDeadline(time.Time{})
	if _, err := io.WriteString(conn, line); err != nil {
		return err
	}
	b := make([]byte, len(line))
	if _, err := io.ReadFull(conn, b); err != nil {
		return err
	}
	if string(b) != line {
		return fmt.Errorf("echo answered %q", b)
	}
	return nil
}
