package tornet

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
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

func startAll(ctx context.Context, relays []*Relay) error {
	errs := make([]error, len(relays))
	var wg sync.WaitGroup
	for i, r := range relays {
		wg.Go(func() { errs[i] = r.Start(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
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
	for _, r := range n.relays() {
		stop(&r.Tor)
	}
	wg.Wait()
	if os.Getenv("KEEP_TORNET") != "" {
		return errors.Join(errs...)
	}
	return errors.Join(append(errs, os.RemoveAll(n.Dir))...)
}
