package main

import (
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	"os"
	"path/filepath"

	"guardring/guest-agent/config"
	"guardring/guest-agent/device"
	"guardring/guest-agent/enforce"
	"guardring/guest-agent/rotation"
	"guardring/guest-agent/runner"
	"guardring/shmproto"
)

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

// deviceOptions is how the configuration wants the region to be reached.
func deviceOptions(cfg config.Config) device.Options {
	return device.Options{
		Kind: device.Kind(cfg.Device), Address: cfg.PCIAddress, Socket: cfg.Region,
		StateFile: filepath.Join(config.StateDir, "device.json"),
		GID:       -1,
		Root:      os.Geteuid() == 0,
	}
}
