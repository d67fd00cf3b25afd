package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"

	"guardring/host-agent/config"
	"guardring/host-agent/domains"
	"guardring/host-agent/runner"
	"guardring/host-agent/server"
	"guardring/internal/configfile"
	"guardring/internal/coordinator"
	"guardring/internal/version"
)

// everySetting names the flags that settings knows, but for config.
var everySetting = []string{"run-dir", "ledger-dir", "policy", "heartbeat", "show-fingerprints", "gateway"}

// settings are the flags that name the configuration or override it: config, and
// those that the command makes use of.
func settings(names ...string) []cli.Flag {
	flags := []cli.Flag{&cli.StringFlag{Name: "config", Aliases: []string{"c"}, Usage: "configuration `FILE`", DefaultText: config.DefaultPath}}
	for _, f := range []cli.Flag{
		&cli.StringFlag{Name: "run-dir", Usage: "`DIR` of the sockets, instead of the configuration's"},
		&cli.StringFlag{Name: "ledger-dir", Usage: "`DIR` of the ledger, instead of the configuration's"},
		&cli.StringFlag{Name: "policy", Usage: "observe or disjoint, instead of the configuration's"},
		&cli.StringFlag{Name: "heartbeat", Usage: "`DURATION`, instead of the configuration's"},
		&cli.BoolFlag{Name: "show-fingerprints", Usage: "show whole fingerprints"},
		&cli.StringSliceFlag{Name: "gateway", Usage: "one more gateway of this `NAME`; may be repeated"},
	} {
		if slices.Contains(names, f.Names()[0]) {
			flags = append(flags, f)
		}
	}
	return flags
}

// Settings of the two processes that run starts.
var (
	serveSettings      = []string{"run-dir", "gateway"}
	coordinateSettings = []string{"run-dir", "ledger-dir", "policy", "heartbeat", "show-fingerprints"}
)

// passOn writes the settings that were given, config included, as arguments for
// another of our commands, which knows these.
func passOn(c *cli.Context, names []string) []string {
	var args []string
	for _, name := range append([]string{"config"}, names...) {
		switch {
		case !c.IsSet(name):
		case name == "show-fingerprints":
			args = append(args, fmt.Sprintf("--%s=%t", name, c.Bool(name)))
		case name == "gateway":
			for _, g := range c.StringSlice(name) {
				args = append(args, "--gateway="+g)
			}
		default:
			args = append(args, "--"+name+"="+c.String(name))
		}
	}
	return args
}

// load reads the configuration and lets the flags override it. Flags are
// checked as the file is: they are put into one.
func load(c *cli.Context) (config.Config, error) {
	cfg, err := config.Load(c.String("config"))
	if err != nil {
		return config.Config{}, err
	}
	for _, name := range []string{"run-dir", "ledger-dir"} {
		if dir := c.String(name); dir != "" {
			abs, err := filepath.Abs(dir)
			if err != nil {
				return config.Config{}, err
			}
			if name == "run-dir" {
				cfg.RunDir = abs
			} else {
				cfg.LedgerDir = abs
			}
		}
	}
	over := configfile.Decode("command line", nil, &struct{}{})
	if text := c.String("policy"); text != "" {
		if err := cfg.Policy.UnmarshalText([]byte(text)); err != nil {
			over.Fault("--policy", err.Error(), "")
		}
	}
	if text := c.String("heartbeat"); text != "" {
		d, err := configfile.ParseDuration(text)
		if err != nil {
			over.Fault("--heartbeat", err.Error(), "want a duration such as 500ms or 1s")
		}
		cfg.Heartbeat = d
	}
	if c.Bool("show-fingerprints") {
		cfg.ShowFingerprints = true
	}
	for _, name := range c.StringSlice("gateway") {
		g := config.Gateway{}.Default().(config.Gateway)
		g.Name = name
		cfg.Gateways = append(cfg.Gateways, g)
	}
	if err := configfile.Join(over); err != nil {
		return config.Config{}, err
	}
	return cfg, nil
}

func serverConfig(cfg config.Config) server.Config {
	s := server.Config{RunDir: cfg.RunDir, StatusMode: fs.FileMode(cfg.StatusMode), Store: cfg.DescriptorStore}
	for _, g := range cfg.Gateways {
		one := server.Gateway{Name: g.Name, UID: int(g.Owner), GID: int(g.Group), Mode: fs.FileMode(g.Mode), Label: g.AppArmorProfile, Domain: string(g.Domain)}
		for _, u := range g.AllowUsers {
			one.AllowUIDs = append(one.AllowUIDs, uint32(u))
		}
		for _, id := range g.AllowGroups {
			one.AllowGIDs = append(one.AllowGIDs, uint32(id))
		}
		s.Gateways = append(s.Gateways, one)
	}
	return s
}

func runnerConfig(cfg config.Config) (runner.Config, error) {
	names := make([]string, len(cfg.Levels))
	for i, l := range cfg.Levels {
		names[i] = string(l)
	}
	levels, err := coordinator.ParseLevels(names)
	if err != nil {
		return runner.Config{}, fmt.Errorf("levels: %w", err)
	}
	r := runner.Config{
		RunDir: cfg.RunDir, LedgerDir: cfg.LedgerDir, Policy: coordinator.Policy(cfg.Policy),
		Heartbeat: cfg.Heartbeat, Rescan: cfg.Rescan, Retention: cfg.Retention, Hold: cfg.Hold,
		ShowFingerprints: cfg.ShowFingerprints, StatusMode: fs.FileMode(cfg.StatusMode),
		Levels: levels, Budgets: budgets(cfg.Budgets), MaxGatewayClaims: int(cfg.Budgets.GatewayClaims), DelayMin: cfg.Delay.Least, DelayMax: cfg.Delay.Most,
		Consensus: cfg.Consensus, JournalSize: int64(cfg.JournalSize),
	}
	for _, g := range cfg.Groups {
		r.Groups = append(r.Groups, coordinator.Group{Name: g.Name, Relays: g.Relays})
	}
	if r.DelayMax == 0 {
		r.DelayMin, r.DelayMax = -1, -1 // at once; zero would be the default
	}
	return r, nil
}

func budgets(b config.Budgets) coordinator.Budgets {
	one := func(b config.Budget) coordinator.Budget {
		return coordinator.Budget{Join: b.Join, Every: b.Every, Burst: int(b.Burst)}
	}
	return coordinator.Budgets{
		NewClaims: one(b.NewClaims), SampleChanges: one(b.SampleChanges),
		ForcedUnused: one(b.ForcedUnused), ForcedUsed: one(b.ForcedUsed),
		ForcedUsedPerYear: int(b.ForcedUsedPerYear),
		CausedMost:        int(b.Caused.Most), CausedWithin: b.Caused.Within,
	}
}

func newLog() *slog.Logger { return slog.New(slog.NewTextHandler(os.Stderr, nil)) }

func checkConfig(c *cli.Context) error {
	cfg, err := load(c)
	if err != nil {
		return err
	}
	s := serverConfig(cfg)
	s.Store = false // the store is the service's, and this is not it
	if _, err := server.New(s, newLog()); err != nil {
		return err
	}
	if _, err := os.Stat(config.DefaultPath); c.String("config") == "" && errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(c.App.Writer, "there is no %s: everything has its default\n", config.DefaultPath)
	}
	fmt.Fprintf(c.App.Writer, "the configuration is good: policy %s, %d gateways\n", cfg.Policy, len(cfg.Gateways))
	return nil
}

func exampleConfig(c *cli.Context) error {
	_, err := fmt.Fprint(c.App.Writer, config.Example)
	return err
}

func showVersion(c *cli.Context) error {
	_, err := fmt.Fprintln(c.App.Writer, program, version.String())
	return err
}

func known(cfg config.Config) []domains.Known {
	var all []domains.Known
	for _, g := range cfg.Gateways {
		all = append(all, domains.Known{Name: g.Name, UUID: string(g.Domain)})
	}
	return all
}
