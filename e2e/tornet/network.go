package tornet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Config describes the network.
type Config struct {
	// CacheDir keeps the nodes' keys between runs; they take 5 to 10 seconds to make. Required.
	CacheDir string
	// Guards and Exits count the relays; 14 and 4 when zero. Guards are no exits and exits are no guards, so that a first hop is
	// always a guard.
	Guards, Exits int
	// Families are groups of guard numbers that declare each other, by MyFamily.
	Families [][]int
	// Declares are one-sided lists: the guard number declares the others, which declare nothing of it. To Tor that is no family.
	Declares map[int][]int
	// FamilyIDs are groups of guard numbers that hold one family key and prove it (FamilyId).
	FamilyIDs [][]int
	// SameSubnet are groups of guard numbers whose addresses lie in the /16 of the group's first. Everybody else has one of their own.
	SameSubnet [][]int
	// IPv6 are the numbers of the guards that also listen on ::1.
	IPv6 []int
	// Routable gives relays addresses in 10.0.0.0/8 on the loopback interface, which a VM's connections can come to: its own 127.0.0.0/8
	// stays inside it. Only in a network namespace of the caller's own, as root: the addresses are added to its interface.
	Routable bool
	// OtherPort are the numbers of the guards whose ORPort is one above everybody else's: for firewalls by port.
	OtherPort []int
	// Progress is told what is being waited for; nil for silence.
	Progress func(string)
}

const authorities = 3

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

// Network is a running private Tor network.
type Network struct {
	// Dir is the directory of everything, below /tmp because control sockets have short names.
	Dir string
	// Authorities, Guards and Exits are the relays.
	Authorities, Guards, Exits []*Relay

	cfg     Config
	common  string // torrc lines for every tor of the network
	mu      sync.Mutex
	clients []*Client
}

// Start makes the keys that are missing, starts all relays, and returns when the consensus names every guard and exit as
// one. On error nothing is left running.
func Start(ctx context.Context, cfg Config) (*Network, error) {
	if cfg.CacheDir == "" {
		return nil, errors.New("tornet: no CacheDir")
	}
	if cfg.Guards == 0 {
		cfg.Guards = 14
	}
	if cfg.Exits == 0 {
		cfg.Exits = 4
	}
	if cfg.Progress == nil {
		cfg.Progress = func(string) {}
	}
	dir, err := os.MkdirTemp("/tmp", "tornet-")
	if err != nil {
		return nil, err
	}
	n := &Network{Dir: dir, cfg: cfg}
	if err := n.start(ctx); err != nil {
		return nil, errors.Join(err, n.Stop())
	}
	return n, nil
}

func (n *Network) start(ctx context.Context) error {
	var names []string
	for i := range authorities {
		names = append(names, "auth"+strconv.Itoa(i))
	}
	for i := range n.cfg.Guards {
		names = append(names, "guard"+strconv.Itoa(i))
	}
	for i := range n.cfg.Exits {
		names = append(names, "exit"+strconv.Itoa(i))
	}
	n.cfg.Progress("making or finding the keys of " + strconv.Itoa(len(names)) + " relays")
	isAuthority := func(name string) bool { return strings.HasPrefix(name, "auth") }
	ids, err := identities(ctx, n.cfg.CacheDir, names, isAuthority)
	if err != nil {
		return err
	}
	addresses := n.addresses(len(names))
	if n.cfg.Routable {
		if err := addAddresses(ctx, addresses); err != nil {
			return err
		}
	}
	port, err := freePort(addresses)
	if err != nil {
		return err
	}
	all := make([]*Relay, len(names))
	for i, name := range names {
		r := &Relay{Tor: Tor{Name: name, Dir: filepath.Join(n.Dir, name)}, Fingerprint: ids[name].fingerprint,
			Address: addresses[i], Port: port}
		if err := ids[name].install(r.DataDir()); err != nil {
			return err
		}
		all[i] = r
	}
	n.Authorities, n.Guards, n.Exits = all[:authorities], all[authorities:authorities+n.cfg.Guards], all[authorities+n.cfg.Guards:]
	for _, g := range n.cfg.IPv6 {
		n.Guards[g].IPv6Port = port + 2 + g
	}
	for _, g := range n.cfg.OtherPort {
		n.Guards[g].Port++
	}
	if err := n.makeFamilies(ctx); err != nil {
		return err
	}
	n.common = n.commonTorrc(ids, len(n.cfg.IPv6) > 0)
	if err := n.writeRelays(); err != nil {
		return err
	}
	n.cfg.Progress("starting " + strconv.Itoa(len(names)) + " relays")
	// Relays publish themselves once at their start: the authorities must be there.
	if err := startAll(ctx, n.Authorities); err != nil {
		return err
	}
	if err := startAll(ctx, all[authorities:]); err != nil {
		return err
	}
	if err := n.awaitConsensus(ctx); err != nil {
		return err
	}
	return n.awaitCaches(ctx)
}

// addresses gives node i a /16 of its own, but where SameSubnet says otherwise. Tor hands out 127.192.0.0/10 as virtual addresses, so i
// stays below 180.
func (n *Network) addresses(nodes int) []string {
	first := 127
	if n.cfg.Routable {
		first = 10
	}
	out := make([]string, nodes)
	for i := range out {
		out[i] = fmt.Sprintf("%d.%d.0.1", first, 10+i)
	}
	for _, group := range n.cfg.SameSubnet {
		for k, g := range group {
			out[authorities+g] = fmt.Sprintf("%d.%d.%d.1", first, 10+authorities+group[0], k)
		}
	}
	return out
}

// addAddresses gives the loopback interface the addresses; one that it has is no error.
func addAddresses(ctx context.Context, addresses []string) error {
	for _, a := range addresses {
		if out, err := exec.CommandContext(ctx, "ip", "address", "replace", a+"/32", "dev", "lo").CombinedOutput(); err != nil {
			return fmt.Errorf("add %s to the loopback interface: %w: %s", a, err, out)
		}
	}
	return nil
}

// freePort finds a port p below the ephemeral range where p and p+1 are free on every node's address, and the following
// ones on ::1 where that exists, so that several networks can run on one machine.
func freePort(addresses []string) (int, error) {
	for range 200 {
		p := 20000 + 64*rand.IntN(190)
		if portFree(p, addresses) {
			return p, nil
		}
	}
	return 0, errors.New("tornet: no free port on 127.0.0.0/8 between 20000 and 32160")
}

func portFree(p int, addresses []string) bool {
	for _, address := range addresses {
		for _, q := range []int{p, p + 1} {
			l, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(q)))
			if err != nil {
				return false
			}
			l.Close()
		}
	}
	return true
}

func startAll(ctx context.Context, relays []*Relay) error {
	errs := make([]error, len(relays))
	var wg sync.WaitGroup
	for i, r := range relays {
		wg.Go(func() { errs[i] = r.Start(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// awaitConsensus waits until the first authority's consensus flags every guard Guard and every exit Exit.
func (n *Network) awaitConsensus(ctx context.Context) error {
	ctl := n.Authorities[0].Control()
	ev, cancel := ctl.Events()
	defer cancel()
	if _, err := ctl.Do("SETEVENTS NEWCONSENSUS"); err != nil {
		return err
	}
	began := time.Now()
	for round := 1; ; round++ {
		ns, err := ctl.Info("ns/all")
		if err != nil {
			return err
		}
		guards, exits := unflagged(ns, "Guard", n.Guards), unflagged(ns, "Exit", n.Exits)
		n.cfg.Progress(fmt.Sprintf("consensus after %.0f s: %d of %d guards, %d of %d exits", time.Since(began).Seconds(),
			len(n.Guards)-len(guards), len(n.Guards), len(n.Exits)-len(exits), len(n.Exits)))
		missing := slices.Concat(guards, exits)
		if len(missing) == 0 {
			return nil
		}
		if round%republishAfter == 0 {
			if err := n.republish(ctx, missing); err != nil {
				return err
			}
		}
		select {
		case _, ok := <-ev:
			if !ok {
				return fmt.Errorf("%s ended", n.Authorities[0].Name)
			}
		case <-ctx.Done():
			return fmt.Errorf("no consensus with all %d guards and %d exits (%d and %d are missing): %w", len(n.Guards), len(n.Exits), len(guards), len(exits), ctx.Err())
		}
	}
}

// republishAfter is the number of consensuses after which a relay that is not in them is started again.
const republishAfter = 4

// republish restarts relays. On a busy machine the one publication at a relay's start can fail, and the next one is hours away.
func (n *Network) republish(ctx context.Context, relays []*Relay) error {
	for _, r := range relays {
		n.cfg.Progress("starting " + r.Name + " again, to have it published")
		if err := r.Kill(); err != nil {
			return err
		}
	}
	return startAll(ctx, relays)
}

// unflagged are the relays that do not have the flag in a list of router statuses.
func unflagged(ns, flag string, relays []*Relay) []*Relay {
	flagged := map[string]bool{}
	name := ""
	for l := range strings.Lines(ns) {
		switch f := strings.Fields(l); {
		case len(f) > 1 && f[0] == "r":
			name = f[1]
		case len(f) > 1 && f[0] == "s":
			flagged[name] = slices.Contains(f[1:], flag)
		}
	}
	return slices.DeleteFunc(slices.Clone(relays), func(r *Relay) bool { return flagged[r.Name] })
}

// awaitCaches waits until every guard can serve the microdescriptors of all relays. A client that is refused one asks again only
// after ten seconds or more. Tor announces their arrival to nobody, so they are counted several times a second.
func (n *Network) awaitCaches(ctx context.Context) error {
	began, relays := time.Now(), len(n.Authorities)+len(n.Guards)+len(n.Exits)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for _, g := range n.Guards {
		for {
			all, err := g.Control().Info("md/all")
			if err != nil {
				return fmt.Errorf("%s: %w", g.Name, err)
			}
			have := strings.Count(all, "onion-key\n")
			if have >= relays {
				break
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return fmt.Errorf("%s has %d of %d microdescriptors: %w", g.Name, have, relays, ctx.Err())
			}
		}
	}
	n.cfg.Progress(fmt.Sprintf("all guards have all descriptors after %.0f s", time.Since(began).Seconds()))
	return nil
}

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

// GuardByFingerprint finds a guard; nil if it is none of ours.
func (n *Network) GuardByFingerprint(fp string) *Relay {
	for _, g := range n.Guards {
		if g.Fingerprint == fp {
			return g
		}
	}
	return nil
}

// Stop ends every process of the network and removes its directory, unless KEEP_TORNET is set in the environment, for
// reading logs.
func (n *Network) Stop() error {
	n.mu.Lock()
	clients := n.clients
	n.mu.Unlock()
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
	)
	stop := func(t *Tor) {
		wg.Go(func() {
			if err := t.Kill(); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	for _, c := range clients {
		stop(&c.Tor)
	}
	for _, rs := range [][]*Relay{n.Authorities, n.Guards, n.Exits} {
		for _, r := range rs {
			stop(&r.Tor)
		}
	}
	wg.Wait()
	if os.Getenv("KEEP_TORNET") != "" {
		return errors.Join(errs...)
	}
	return errors.Join(append(errs, os.RemoveAll(n.Dir))...)
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

// Addr is the IPv4 ORPort as address:port.
func (r *Relay) Addr() string { return net.JoinHostPort(r.Address, strconv.Itoa(r.Port)) }
