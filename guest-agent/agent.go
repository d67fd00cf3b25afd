package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"

	"guardring/guest-agent/config"
	"guardring/guest-agent/device"
	"guardring/guest-agent/enforce"
	"guardring/guest-agent/include"
	"guardring/guest-agent/rotation"
	"guardring/guest-agent/runner"
	"guardring/guest-agent/torctl"
	"guardring/internal/hint"
	"guardring/internal/statussock"
	"guardring/shmproto"
)

// memoryLimit is the soft limit of the Go heap: a gateway has 256 to 512 MB in
// all, and the agent may have 15.
const memoryLimit = 8 << 20

// leftCode is the exit code of an agent whose Tors have all left: its unit must not start
// it again, for it would serve them anew. The unit names it.
const leftCode = 4

// runAgent is the command run. SIGUSR1 makes the members leave that LeaveFile
// names.
func runAgent(ctx context.Context, cfg config.Config, verbose bool) error {
	debug.SetMemoryLimit(memoryLimit)
	debug.SetGCPercent(50)
	if err := os.MkdirAll(cfg.RunDir, 0o700); err != nil {
		return fmt.Errorf("runtime directory: %w", err)
	}
	listener, err := statussock.Listen(cfg.StatusSocket(), 0o600)
	if err != nil {
		return hint.Wrap(err, "stop the other agent, or give this one another run-dir")
	}
	leave := make(chan string)
	var left atomic.Bool // all of them; known before leave is closed
	usr1 := make(chan os.Signal, 1)
	signal.Notify(usr1, syscall.SIGUSR1)
	defer signal.Stop(usr1)
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	log := newLog(level)
	agent, release, err := newAgent(cfg, log, false, leave)
	if err != nil {
		_ = listener.Close()
		return err
	}
	defer release()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- listener.Serve(ctx, agent.Status) }()
	go passRequests(ctx, usr1, cfg.LeaveFile(), log, leave, &left)
	// Not being started by systemd is no error.
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		log.Warn("systemd was not told that the agent is ready", "error", err)
	}
	err = agent.Run(ctx)
	told := ctx.Err() != nil // to stop, before all had left
	cancel()
	if err = errors.Join(err, <-served); err == nil && left.Load() && !told {
		return hint.Exit{Code: leftCode}
	}
	return err
}

// passRequests tells the agent who must leave, by leave, each time that a signal says that
// there is a request in the file. If all must, it notes that, closes leave and returns.
func passRequests(ctx context.Context, signals <-chan os.Signal, file string, log *slog.Logger, leave chan<- string, left *atomic.Bool) {
	for {
		select {
		case <-signals:
		case <-ctx.Done():
			return
		}
		names, all, err := takeRequest(file)
		if err != nil {
			log.Error("a request to leave cannot be read", "error", err)
			continue
		}
		if all {
			left.Store(true)
			close(leave)
			return
		}
		for _, name := range names {
			select {
			case leave <- name:
			case <-ctx.Done():
				return
			}
		}
	}
}

func newLog(level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

// newAgent puts the agent together. part says that cfg names some of the Tors
// only. release gives its writer slot back.
func newAgent(cfg config.Config, log *slog.Logger, part bool, leave <-chan string) (agent *runner.Agent, release func(), err error) {
	tors, err := torsOf(cfg)
	if err != nil {
		return nil, nil, err
	}
	writer, err := device.TakeWriter(cfg.RunDir)
	if err != nil {
		return nil, nil, err
	}
	var inc [8]byte
	rand.Read(inc[:])
	agent, err = runner.New(runner.Config{
		Tors:     tors,
		Discover: discover(cfg),
		Dial: func() (runner.Device, device.Choice, error) {
			d, choice, err := device.Open(deviceOptions(cfg))
			if err != nil {
				return nil, choice, err // no Device that is a nil one of package device
			}
			return d, choice, nil
		},
		Region:      cfg.Region,
		Writer:      writer.Slot,
		Incarnation: shmproto.Incarnation(binary.LittleEndian.Uint64(inc[:])),
		Rotation: rotation.Config{
			Observe:        cfg.Policy == config.PolicyObserve,
			Cut:            cfg.Circuits == config.CircuitsCut,
			MinPassPercent: cfg.MinPassPercent,
			IntroGap:       cfg.IntroGap,
			Gate:           gateModes[cfg.JoinGate],
			GateLimit:      cfg.JoinGateLimit,
		},
		Enforcer:         enforcerOf(cfg),
		Part:             part,
		SlowTick:         cfg.SlowTick,
		Leave:            leave,
		Log:              log,
		ShowFingerprints: cfg.ShowFingerprints,
	})
	if err != nil {
		_ = writer.Release()
		return nil, nil, err
	}
	return agent, func() { _ = writer.Release() }, nil
}

// enforcerOf returns the packet filter if it is to be used; nil if not. A table of
// an earlier configuration is removed then, where we may.
func enforcerOf(cfg config.Config) runner.Enforcer {
	table := enforce.New(cfg.EnforceTable())
	if cfg.Enforce == config.EnforceNftables {
		return table
	}
	_ = table.Remove() // who may not remove it has not made it
	return nil
}

// gateModes are the core's names for the configuration's words.
var gateModes = map[string]rotation.GateMode{
	config.GateOff: rotation.GateOff, config.GateOpen: rotation.GateOpen, config.GateClosed: rotation.GateClosed,
}

// discover returns how the Tors of this machine are looked for while the agent
// runs; nil where the configuration names them.
func discover(cfg config.Config) func() ([]runner.Tor, error) {
	if len(cfg.Instances) > 0 {
		return nil
	}
	return func() ([]runner.Tor, error) {
		instances, err := cfg.Tors("/")
		if err != nil {
			return nil, err
		}
		return runnerTors(cfg, instances)
	}
}

// torsOf lists the Tors of the configuration with all that the runner needs.
func torsOf(cfg config.Config) ([]runner.Tor, error) {
	instances, err := instancesOf(cfg)
	if err != nil {
		return nil, err
	}
	return runnerTors(cfg, instances)
}

func runnerTors(cfg config.Config, instances []config.Instance) ([]runner.Tor, error) {
	var out []runner.Tor
	for _, in := range instances {
		password, err := readPassword(in.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("instance %s: %w", in.Name, err)
		}
		out = append(out, runner.Tor{
			Name:    in.Name,
			Role:    in.Role,
			Control: torctl.Config{Address: in.Control, CookiePath: in.Cookie, Password: password, Timeout: cfg.RequestTimeout},
			State:   in.State,
			User:    in.User,
			Site:    include.Site{Torrc: in.Torrc, Include: in.Include, Folder: in.Folder, UID: -1, GID: -1},
		})
	}
	return out, nil
}

// errNoTor: there is nothing to serve.
var errNoTor = errors.New("no Tor was found on this machine")

func instancesOf(cfg config.Config) ([]config.Instance, error) {
	instances, err := cfg.Tors("/")
	if err != nil {
		return nil, err
	}
	if len(instances) == 0 {
		return nil, hint.Wrap(errNoTor, "install and start Tor, or name its control socket under instances: in the configuration")
	}
	for _, in := range instances {
		if in.Control == "" {
			return nil, hint.Wrap(fmt.Errorf("instance %s has no control socket", in.Name), "set control: in the configuration")
		}
	}
	return instances, nil
}

// readPassword reads the first line of a file; "" is none.
func readPassword(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("password file: %w", err)
	}
	defer f.Close()
	line, err := bufio.NewReader(io.LimitReader(f, 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("password file: %w", err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}
