package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"guardring/host-agent/figures"
	"guardring/internal/consensus"
	"guardring/internal/coordinator"
	"guardring/internal/hint"
	"guardring/internal/simulation"
)

// simulateCommand measures what guardring buys and costs. It needs no
// configuration and touches nothing.
func simulateCommand() *cli.Command {
	return &cli.Command{
		Name:  "simulate",
		Usage: "measure in virtual time what guardring buys and costs",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "gateways", Value: 4, Usage: "`N` gateways, 2 to 50"},
			&cli.IntFlag{Name: "months", Value: 12, Usage: "`N` months of 30 days, 1 to 60"},
			&cli.Float64Flag{Name: "adversary", Value: .05, Usage: "`SHARE` of the guard weight that one adversary runs"},
			&cli.StringFlag{Name: "levels", Usage: "what is compared: relay, family, subnet, with commas (default: what the coordinator compares by default)"},
			&cli.StringFlag{Name: "policy", Value: string(coordinator.PolicyDisjoint), Usage: "disjoint, observe, or off"},
			&cli.BoolFlag{Name: "no-gate", Usage: "the gateways have no join gate"},
			&cli.BoolFlag{Name: "hostile", Usage: "also with one gateway in the adversary's hand"},
			&cli.IntFlag{Name: "hostile-members", Value: 1, Usage: "`N` Tors that this gateway pretends to have, 1 to 8; implies --hostile"},
			&cli.BoolFlag{Name: "hostile-lies", Usage: "this gateway lies about addresses and families; implies --hostile"},
			&cli.StringFlag{Name: "consensus", Usage: "take relays and weights from a consensus `FILE` (default: built-in weights)"},
			&cli.IntFlag{Name: "trials", Value: 50, Usage: "`N` runs; more make the intervals narrower"},
			&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "the same seed gives the same figures"},
			&cli.BoolFlag{Name: "json", Usage: "one JSON document"},
			&cli.StringFlag{Name: "chart", Usage: "also draw a chart into `FILE.svg`"},
		},
		Action: simulate,
	}
}

func simulate(c *cli.Context) error {
	if c.Args().Present() {
		return hint.Wrap(fmt.Errorf("simulate: unexpected argument %q", c.Args().First()), "guardring simulate --help")
	}
	cfg, err := simulated(c)
	if err != nil {
		return err
	}
	r, err := simulation.Run(cfg, progress(c, cfg.Trials))
	if err != nil {
		return hint.Wrap(err, "guardring simulate --help")
	}
	if path := c.String("chart"); path != "" {
		var b bytes.Buffer
		figures.Chart(&b, r)
		if err := renameio.WriteFile(path, b.Bytes(), 0o644); err != nil {
			if e := new(fs.PathError); errors.As(err, &e) {
				err = e.Err // its path is that of a temporary file
			}
			return hint.Wrap(fmt.Errorf("chart %s: %w", path, err), "give --chart a file in a directory that you may write to")
		}
	}
	if c.Bool("json") {
		return writeJSON(c.App.Writer, r)
	}
	return figures.Write(c.App.Writer, r)
}

// simulated is what the flags ask for.
func simulated(c *cli.Context) (simulation.Config, error) {
	cfg := simulation.Config{
		Gateways: c.Int("gateways"), Months: c.Int("months"), Adversary: c.Float64("adversary"),
		Gate: !c.Bool("no-gate"), Hostile: c.Bool("hostile") || c.Bool("hostile-lies") || c.IsSet("hostile-members"), HostileMembers: c.Int("hostile-members"),
		Lies: c.Bool("hostile-lies"), Trials: c.Int("trials"), Seed: c.Uint64("seed"),
	}
	switch policy := c.String("policy"); policy {
	case "off":
		cfg.Off = true
	case string(coordinator.PolicyDisjoint), string(coordinator.PolicyObserve):
		cfg.Core.Policy = coordinator.Policy(policy)
	default:
		return cfg, hint.Errorf("guardring simulate --help", "policy %q: want disjoint, observe or off", policy)
	}
	if c.IsSet("levels") {
		levels, err := coordinator.ParseLevels(strings.Split(c.String("levels"), ","))
		if err != nil {
			return cfg, hint.Wrap(err, "--levels takes relay, family and subnet, with commas between them")
		}
		cfg.Core.Levels = levels
	}
	if path := c.String("consensus"); path != "" {
		n, err := readNetwork(path)
		if err != nil {
			return cfg, hint.Wrap(err, "a Tor keeps one in its data directory: cached-microdesc-consensus or cached-consensus")
		}
		cfg.Network = n
	}
	return cfg, nil
}

func readNetwork(path string) (*simulation.Network, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, consensus.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	d, err := consensus.Parse(data)
	var n *simulation.Network
	if err == nil {
		n, err = simulation.FromConsensus(d)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return n, nil
}

// progress shows a person at a terminal how far it is.
func progress(c *cli.Context, trials int) func(int) {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return nil
	}
	var said time.Time
	return func(done int) {
		if now := time.Now(); done == trials || now.Sub(said) > time.Second {
			said = now
			fmt.Fprintf(os.Stderr, "\rtrial %d of %d", done, trials)
			if done == trials {
				fmt.Fprint(os.Stderr, "\r\x1b[K")
			}
		}
	}
}
