// Package gateway makes gateway VMs of a private Tor network: a QEMU guest with Debian's Tor in Debian's places and the guest agent
// beside it, set up with the commands that a user would give.
//
// What a test wants of the Tor inside it gets through the same tornet.Client as for a Tor of this machine: the client's sockets lead into
// the guest, its guard log comes out of a virtio-serial port, its state file is read through the command channel. So the oracle judges
// both in one way.
//
// Trust: as in vmtest. The agent under test has no part in what the oracle sees.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"guardring/e2e/tornet"
	"guardring/e2e/usage"
	"guardring/e2e/vmtest"
)

// Config describes one gateway.
type Config struct {
	// Name is the gateway's, Number different for gateways that run at the same time, 0 to 99.
	Name   string
	Number int
	// Network is the private Tor network; it must be Routable. Plant are the guards that its state file begins with.
	Network *tornet.Network
	Plant   []*tornet.Relay
	// Region is the socket of the gateway's server.
	Region string
	// NoIOMMU leaves the IOMMU out, so that the agent cannot use VFIO. Machine is as in vmtest.Options.
	NoIOMMU bool
	Machine string
	// Agent is the guest agent's binary; Options are lines of its configuration file.
	Agent   string
	Options string
	// Head are torrc lines before all others.
	Head string
	// Hypervisor is as in vmtest.Options; then Region, NoIOMMU and Machine count for nothing.
	Hypervisor vmtest.Hypervisor
}

// Gateway is a running gateway VM.
type Gateway struct {
	*vmtest.Guest
	// Tor is its Tor, as tests and the oracle use it.
	Tor *tornet.Client

	cfg    Config
	window *Window
	agent  string // process ID in the guest
}

// Ports of the virtio-serial ports, which are also the files that they fill.
const (
	guardLog = GuardLogPort
	agentLog = "agent.log"
)

// kept is what a guest has on its disk.
var kept = []string{"/etc/tor", "/etc/guardring", "/var/lib/tor", "/var/lib/guardring-guest"}

// Kit is what gateways are made of: the programs and files that all have.
func Kit(cacheDir string, log func(string, ...any)) vmtest.Config {
	return vmtest.Config{CacheDir: cacheDir, Log: log, Programs: []string{"tor"},
		Files: []vmtest.File{{Path: defaultsTorrc, Source: defaultsTorrc}}}
}

// Debian's places.
const (
	defaultsTorrc = "/usr/share/tor/tor-service-defaults-torrc"
	cookie        = "/run/tor/control.authcookie"
)

// Boot boots a gateway, joins and starts its Tor and waits until that can build circuits. The agent does not run yet. The error names the gateway.
func Boot(ctx context.Context, kit *vmtest.Kit, cfg Config) (*Gateway, error) {
	g := &Gateway{cfg: cfg}
	network := &vmtest.Network{Number: cfg.Number, Forward: Forwards(cfg.Number)}
	var err error
	g.Guest, err = kit.Boot(ctx, vmtest.Options{Name: cfg.Name, Region: cfg.Region, Machine: cfg.Machine, IOMMU: !cfg.NoIOMMU, Network: network,
		Files: g.files(), Keep: kept, Ports: []string{guardLog, agentLog}, Hypervisor: cfg.Hypervisor})
	if err != nil {
		return nil, err
	}
	if g.window, err = NewWindow(g.Guest, cfg.Network, cfg.Number); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	g.Tor = g.window.Tor
	if err := g.setUp(ctx); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	// Tor reads the line that join adds when it starts.
	if _, err := g.Join(ctx); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	if err := g.StartTor(ctx); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

// commandLimit bounds a command in a guest that has nothing to wait for.
const commandLimit = time.Minute

// files are what this gateway has of its own.
func (g *Gateway) files() []vmtest.File {
	const tor = vmtest.DebianTor
	torrc := g.cfg.Head + g.cfg.Network.ClientLines() + "Log notice file /var/lib/tor/notice.log\nLog [guard]info stdout\n"
	out := []vmtest.File{
		{Path: "/usr/bin/guardring-guest", Source: g.cfg.Agent, Mode: 0o755},
		{Path: "/etc/tor/torrc", Data: []byte(torrc)},
		{Path: "/etc/guardring/guest.yaml", Data: []byte("user: debian-tor\nshow-fingerprints: true\n" + g.cfg.Options)},
		{Path: "/var/lib/tor", Folder: true, Mode: 0o700, UID: tor, GID: tor},
		{Path: "/var/lib/guardring-guest", Folder: true, Mode: 0o700, UID: tor, GID: tor},
	}
	if g.cfg.Plant != nil {
		out = append(out, vmtest.File{Path: "/var/lib/tor/state", Data: []byte(g.cfg.Network.PlantedState(g.cfg.Plant)), Mode: 0o600, UID: tor, GID: tor})
	}
	for _, f := range g.cfg.Network.Directory() {
		out = append(out, vmtest.File{Path: "/var/lib/tor/" + filepath.Base(f), Source: f, Mode: 0o600, UID: tor, GID: tor})
	}
	return out
}

// setUp does after each boot what units would: folders in /run. Then it lets the client's connections in.
func (g *Gateway) setUp(ctx context.Context) error {
	if err := g.sh(ctx, `mkdir -p /run/tor /run/guardring-guest
chown debian-tor:debian-tor /run/tor /run/guardring-guest
chmod 2755 /run/tor`); err != nil {
		return err
	}
	return g.window.Admit(ctx)
}

func (g *Gateway) sh(ctx context.Context, script string) error {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	_, err := g.Run(ctx, "sh", "-ec", script)
	return err
}

// StartTor starts Tor as Debian's unit does, and waits until it can build circuits.
func (g *Gateway) StartTor(ctx context.Context) error {
	// Tor announces to nobody that it listens.
	if _, err := g.Run(ctx, "sh", "-ec", `rm -f `+cookie+` /run/tor/control
setsid tor --defaults-torrc `+defaultsTorrc+` -f /etc/tor/torrc --RunAsDaemon 0 </dev/null >/dev/virtio-ports/`+guardLog+` 2>&1 &
until [ "$(stat -c %s `+cookie+` 2>/dev/null)" = 32 ] && [ -S /run/tor/control ]; do kill -0 $! || exit 1; sleep 0.1; done`); err != nil {
		return fmt.Errorf("%w; its Tor says: %s", err, g.Port(guardLog))
	}
	return g.window.Connect(ctx)
}

// StopTor ends Tor as Debian's unit does: it saves its state.
func (g *Gateway) StopTor(ctx context.Context) error {
	return g.sh(ctx, `pid=$(cat /run/tor/tor.pid); kill -INT $pid; while kill -0 $pid 2>/dev/null; do sleep 0.1; done`)
}

// Join runs `guardring-guest join`. Tor must be started anew afterwards.
func (g *Gateway) Join(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	return g.Run(ctx, "guardring-guest", "join")
}

// Prepare runs `guardring-guest prepare`, which binds the device and gives it to Tor's group.
func (g *Gateway) Prepare(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	return g.Run(ctx, "guardring-guest", "prepare", "--group", "debian-tor")
}

// StartAgent starts `guardring-guest run` as Tor's user.
func (g *Gateway) StartAgent(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	out, err := g.Run(ctx, "sh", "-ec", "setsid "+asTor("guardring-guest run")+" >/dev/virtio-ports/"+agentLog+" 2>&1 & echo $!")
	g.agent = strings.TrimSpace(out)
	return err
}

// asTor runs a command as Tor's user, in the same process.
func asTor(command string) string { return "su -s /bin/sh debian-tor -c 'exec " + command + "'" }

// KillAgent sends SIGKILL to the agent, and waits until it has ended.
func (g *Gateway) KillAgent(ctx context.Context) error { return g.endAgent(ctx, "KILL") }

// StopAgent ends the agent in order.
func (g *Gateway) StopAgent(ctx context.Context) error { return g.endAgent(ctx, "TERM") }

func (g *Gateway) endAgent(ctx context.Context, signal string) error {
	return g.sh(ctx, fmt.Sprintf("kill -%s %s; while kill -0 %[2]s 2>/dev/null; do sleep 0.1; done", signal, g.agent))
}

// Agent runs a command of the agent in the guest, as Tor's user, and returns what it prints.
func (g *Gateway) Agent(ctx context.Context, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	return g.Run(ctx, "sh", "-c", asTor("guardring-guest "+strings.Join(argv, " ")))
}

// AgentMemory is the most that the running agent has had in memory, in bytes.
func (g *Gateway) AgentMemory(ctx context.Context) (int, error) {
	b, err := g.ReadFile(ctx, "/proc/"+g.agent+"/status")
	if err != nil {
		return 0, err
	}
	kib, err := usage.Field(b, "VmHWM")
	if err != nil {
		return 0, fmt.Errorf("guest %s: process %s is no agent: %w", g.Name, g.agent, err)
	}
	return int(kib) << 10, nil
}

// AgentLog is what the agents of this gateway have said.
func (g *Gateway) AgentLog() string {
	return g.Port(agentLog)
}

// Interrupts counts the interrupts that the guest's kernel got from the device through VFIO.
func (g *Gateway) Interrupts(ctx context.Context) (int, error) {
	b, err := g.ReadFile(ctx, "/proc/interrupts")
	if err != nil {
		return 0, err
	}
	sum := 0
	for l := range strings.Lines(string(b)) {
		if f := strings.Fields(l); len(f) > 1 && strings.Contains(l, "vfio-msi") { // one processor: one column
			n, err := strconv.Atoi(f[1])
			if err != nil {
				return 0, fmt.Errorf("/proc/interrupts: %q", l)
			}
			sum += n
		}
	}
	return sum, nil
}

// Reboot resets the machine inside its QEMU, and starts Tor again. The agent does not run afterwards.
func (g *Gateway) Reboot(ctx context.Context) error {
	if err := g.Guest.Reboot(ctx); err != nil {
		return err
	}
	return g.again(ctx)
}

// Start starts another QEMU with the same disk, and Tor in it. Preconditions: it does not run.
func (g *Gateway) Start(ctx context.Context) error {
	if err := g.Guest.Start(ctx); err != nil {
		return err
	}
	return g.again(ctx)
}

func (g *Gateway) again(ctx context.Context) error {
	if err := g.setUp(ctx); err != nil {
		return err
	}
	return g.StartTor(ctx)
}

// Close ends the gateway and deletes its files.
func (g *Gateway) Close() error {
	var errs []error
	if g.window != nil {
		errs = append(errs, g.window.Close())
	}
	return errors.Join(append(errs, g.Guest.Close())...)
}
