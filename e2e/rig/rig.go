// Package rig runs the built binaries around a private Tor network: one host (server and coordinator) and one guest agent
// per gateway, as processes, with generated configuration files.
//
// Trust: it drives the binaries through their command lines, configuration files and signals only, and knows nothing of their
// insides. What they say of themselves is shown and recorded, never used to judge whether a Tor is right.
package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"guardring/e2e/tornet"
)

// Rig is a host with its gateways.
type Rig struct {
	// Host and Guest are the binaries' paths.
	Host, Guest string
	// Dir holds configuration, sockets, ledger and logs; short, because of the sockets.
	Dir string
	// Policy is observe or disjoint.
	Policy string
	// Protection are the lines of the host's configuration about levels, delay and budgets; "" is AtOnce. Call
	// WriteHostConfig after a change.
	Protection string
	// DescriptorStore has the server use a service manager's descriptor store.
	DescriptorStore bool
	// Options are more lines of the host's configuration file; call WriteHostConfig after a change.
	Options string
	// Heartbeat is the coordinators'; 0 is 200 ms.
	Heartbeat time.Duration
	// Unjudged: coordinators that are faulty on purpose; nobody judges their journal.
	Unjudged bool
	// Gateways in the order of the configuration.
	Gateways []*Gateway

	mu    sync.Mutex
	procs []*tornet.Process
}

// Gateway is one gateway with its Tors, all of them clients of the private network.
type Gateway struct {
	Name string
	Tors []*tornet.Client
	// Options are more lines of the guest's configuration file; call WriteConfig after a change.
	Options string

	rig *Rig
}

// open are the rigs that are not stopped yet, for StopAll.
var open = struct {
	mu   sync.Mutex
	rigs map[*Rig]bool
}{rigs: map[*Rig]bool{}}

// StopAll stops every rig of this process: for a test binary that is interrupted.
func StopAll() {
	open.mu.Lock()
	defer open.mu.Unlock()
	for r := range open.rigs {
		_ = r.stop() // as much as is possible on the way out
	}
}

// New makes the directory of a host. The gateways are added with Add.
func New(host, guest, policy string) (*Rig, error) {
	for _, b := range []*string{&host, &guest} {
		abs, err := filepath.Abs(*b)
		if err != nil {
			return nil, err
		}
		if _, err := os.Stat(abs); err != nil {
			return nil, fmt.Errorf("%w (hint: run make build)", err)
		}
		*b = abs
	}
	dir, err := os.MkdirTemp("/tmp", "rig-")
	if err != nil {
		return nil, err
	}
	r := &Rig{Host: host, Guest: guest, Dir: dir, Policy: policy}
	open.mu.Lock()
	defer open.mu.Unlock()
	open.rigs[r] = true
	return r, nil
}

// Add adds a gateway; its Tors need not run yet. Preconditions: the host does not run, or is sent SIGHUP afterwards.
func (r *Rig) Add(name string, tors ...*tornet.Client) (*Gateway, error) {
	g := &Gateway{Name: name, Tors: tors, rig: r}
	r.Gateways = append(r.Gateways, g)
	if err := os.Mkdir(g.dir(), 0o700); err != nil {
		return nil, err
	}
	for _, t := range tors {
		if err := os.MkdirAll(filepath.Dir(g.IncludeFile(t)), 0o700); err != nil {
			return nil, err
		}
	}
	if err := g.WriteConfig(); err != nil {
		return nil, err
	}
	return g, r.WriteHostConfig()
}

// WriteConfig writes the guest's configuration file.
func (g *Gateway) WriteConfig() error {
	return os.WriteFile(g.ConfigFile(), []byte(g.config()), 0o600)
}

// IncludeFile is where the agent writes its exclusions for a Tor.
func (g *Gateway) IncludeFile(t *tornet.Client) string {
	return filepath.Join(t.Dir, "guardring", "guardring.conf")
}

// WriteHostConfig writes the host's configuration file for the present gateways and policy.
func (r *Rig) WriteHostConfig() error {
	return os.WriteFile(r.ConfigFile(), []byte(r.config()), 0o600)
}

// ConfigFile is the host's configuration.
func (r *Rig) ConfigFile() string { return filepath.Join(r.Dir, "host.yaml") }

// LedgerDir is where the ledger lies.
func (r *Rig) LedgerDir() string { return filepath.Join(r.Dir, "ledger") }

// RunDir holds the host's sockets.
func (r *Rig) RunDir() string { return filepath.Join(r.Dir, "run") }

func (g *Gateway) dir() string { return filepath.Join(g.rig.Dir, g.Name) }

// ConfigFile is the guest's configuration.
func (g *Gateway) ConfigFile() string { return filepath.Join(g.dir(), "guest.yaml") }

// LogFile is what a process of the rig said; name is host, or a gateway's.
func (r *Rig) LogFile(name string) string { return filepath.Join(r.Dir, name+".log") }

// Log is what a process of the rig has said so far, or why that is unknown.
func (r *Rig) Log(name string) string {
	b, err := os.ReadFile(r.LogFile(name))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// LogEnd is the end of Log, as much as one reads in an error message.
func (r *Rig) LogEnd(name string) string {
	said := r.Log(name)
	return said[max(0, len(said)-6000):]
}

// Start runs a binary with its output in LogFile(name). env is added to ours. The rig ends it at Stop.
func (r *Rig) Start(name string, env []string, binary string, args ...string) (*tornet.Process, error) {
	out, err := os.OpenFile(r.LogFile(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(binary, args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(os.Environ(), env...)
	p, err := tornet.Spawn(cmd)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.procs = append(r.procs, p)
	return p, nil
}

// StartHost runs `guardring run`, and waits until it answers status.
func (r *Rig) StartHost(ctx context.Context, env ...string) (*tornet.Process, error) {
	p, err := r.Start("host", env, r.Host, "run", "--config", r.ConfigFile())
	if err != nil {
		return nil, err
	}
	return p, r.AwaitActing(ctx, p)
}

// AwaitActing tries status until a coordinator acts, the process p has ended, or ctx has.
func (r *Rig) AwaitActing(ctx context.Context, p *tornet.Process) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		s, _, err := r.Status(ctx)
		if err == nil && s.Acting() {
			return nil
		}
		select {
		case <-tick.C:
		case <-p.Done():
			return fmt.Errorf("guardring ended at start: %v: %s", p.Err(), r.LogEnd("host"))
		case <-ctx.Done():
			return fmt.Errorf("guardring does not act: %w: %s", errors.Join(err, ctx.Err()), r.LogEnd("host"))
		}
	}
}

// StartGuest runs `guardring-guest run` for a gateway.
func (g *Gateway) StartGuest(env ...string) (*tornet.Process, error) {
	return g.rig.Start(g.Name, env, g.rig.Guest, "run", "--config", g.ConfigFile())
}

// Join runs `guardring-guest join` on the gateway's Tors, or on those named, and returns what it says.
func (g *Gateway) Join(ctx context.Context, names ...string) (string, error) {
	return g.guest(ctx, "join", names...)
}

// Leave runs `guardring-guest leave`, for all or for those named.
func (g *Gateway) Leave(ctx context.Context, names ...string) (string, error) {
	return g.guest(ctx, "leave", names...)
}

// GuestStatus runs `guardring-guest status --json --show-fingerprints`.
func (g *Gateway) GuestStatus(ctx context.Context) (string, error) {
	return g.guest(ctx, "status", "--json", "--show-fingerprints")
}

// Fresh runs `guardring-guest fresh` on the gateway's only Tor.
func (g *Gateway) Fresh(ctx context.Context) (string, error) { return g.guest(ctx, "fresh") }

func (g *Gateway) guest(ctx context.Context, verb string, args ...string) (string, error) {
	args = append([]string{verb, "--config", g.ConfigFile()}, args...)
	out, err := exec.CommandContext(ctx, g.rig.Guest, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("guardring-guest %s of %s: %w: %s", verb, g.Name, err, out)
	}
	return string(out), nil
}

// Status runs `guardring status --json --show-fingerprints`, and returns the parsed and the raw answer.
func (r *Rig) Status(ctx context.Context) (Status, json.RawMessage, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, r.Host, "status", "--config", r.ConfigFile(), "--json", "--show-fingerprints")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return Status{}, nil, fmt.Errorf("guardring status: %w: %s", err, stderr.Bytes())
	}
	var s Status
	if err := json.Unmarshal(stdout.Bytes(), &s); err != nil {
		return Status{}, nil, fmt.Errorf("guardring status --json: %w", err)
	}
	return s, json.RawMessage(stdout.Bytes()), nil
}

// Guardring runs a command of the host with the host's configuration, and returns what it prints.
func (r *Rig) Guardring(ctx context.Context, command string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, r.Host, slices.Concat([]string{command}, args, []string{"--config", r.ConfigFile()})...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("guardring %s %v: %w: %s", command, args, err, stderr.Bytes())
	}
	return stdout.String(), nil
}

// Stop ends all processes, has the coordinators' journal judged, and deletes the directory unless KEEP_TORNET is set.
func (r *Rig) Stop() error {
	open.mu.Lock()
	delete(open.rigs, r)
	open.mu.Unlock()
	return errors.Join(r.end(), r.judge(), r.remove())
}

// stop is Stop on the way out of a test that was interrupted.
func (r *Rig) stop() error { return errors.Join(r.end(), r.remove()) }

func (r *Rig) end() error {
	r.mu.Lock()
	procs := r.procs
	r.procs = nil
	r.mu.Unlock()
	var errs []error
	for i := len(procs) - 1; i >= 0; i-- {
		errs = append(errs, procs[i].Stop(5*time.Second))
	}
	return errors.Join(errs...)
}

func (r *Rig) remove() error {
	if os.Getenv("KEEP_TORNET") == "" {
		return os.RemoveAll(r.Dir)
	}
	return nil
}
