// Command guardring-guest is the guest's side: it shows the host which guards
// this gateway's Tors use, and gives up those that the host names.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"guardring/guest-agent/config"
	"guardring/internal/hint"
	"guardring/internal/manual"
	"guardring/internal/version"
)

// program is how the command names itself.
const program = "guardring-guest"

func main() { os.Exit(hint.End(os.Stderr, program, run())) }

func run() error {
	ends := []os.Signal{syscall.SIGTERM, syscall.SIGINT}
	if !signal.Ignored(syscall.SIGHUP) { // a terminal that closes must not leave a join gate closed
		ends = append(ends, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	defer stop()
	return newApp().RunContext(ctx, os.Args)
}

func newApp() *cli.App {
	app := &cli.App{
		Name:                 program,
		Usage:                "keep this gateway's Tor entry guards apart from those of other gateways",
		HideHelpCommand:      true,
		EnableBashCompletion: true,
		// main prints errors; urfave would exit by itself.
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError: func(_ *cli.Context, err error, _ bool) error {
			return hint.Wrap(err, "guardring-guest --help, or --help after a command")
		},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return hint.Wrap(fmt.Errorf("unknown command %q", c.Args().First()), "guardring-guest --help lists the commands")
			}
			return cli.ShowAppHelp(c)
		},
		Commands: append(commands(), manual.Command(manualOf)),
	}
	for _, c := range app.Commands {
		c.HideHelpCommand = true
		c.OnUsageError = func(_ *cli.Context, err error, _ bool) error {
			return hint.Wrap(fmt.Errorf("%s: %w", c.Name, err), program+" "+c.Name+" --help")
		}
	}
	return app
}

// commands are what the program does.
func commands() []*cli.Command {
	configFlag := &cli.StringFlag{Name: "config", Aliases: []string{"c"}, Value: config.DefaultPath, Usage: "configuration `FILE`; the default may be missing"}
	regionFlag := &cli.StringFlag{Name: "region", Usage: "the region's server `SOCKET` (overrides the file)"}
	runDirFlag := &cli.StringFlag{Name: "run-dir", Usage: "`DIR` of the status socket and locks (overrides the file)"}
	wholeFlag := &cli.BoolFlag{Name: "show-fingerprints", Usage: "show whole fingerprints"}
	observeFlag := &cli.BoolFlag{Name: "observe", Usage: "publish only, obey no order (overrides the file)"}
	return []*cli.Command{
		{Name: "run", Usage: "serve this gateway's Tors until stopped",
			Flags: []cli.Flag{configFlag, regionFlag, runDirFlag, observeFlag, wholeFlag, &cli.BoolFlag{Name: "debug", Usage: "log every event and action, with whole fingerprints"}},
			Action: withConfig(func(c *cli.Context, cfg config.Config) error {
				return runAgent(c.Context, cfg, c.Bool("debug"))
			})},
		{Name: "status", Usage: "show what the running agent knows, and what is wrong",
			Flags: []cli.Flag{configFlag, runDirFlag, wholeFlag, &cli.BoolFlag{Name: "json", Usage: "one JSON document"}},
			Action: withConfig(func(c *cli.Context, cfg config.Config) error {
				return status(c.App.Writer, cfg, c.Bool("json"))
			})},
		{Name: "join", Usage: "prepare the Tors' configuration (with a backup) and say what to restart", ArgsUsage: "[INSTANCE...]",
			Flags: []cli.Flag{configFlag},
			Action: withNames(func(c *cli.Context, cfg config.Config) error {
				return join(c.App.Writer, cfg, c.Args().Slice())
			})},
		{Name: "leave", Usage: "lift every exclusion and restore the Tors' configuration exactly", ArgsUsage: "[INSTANCE...]",
			Flags: []cli.Flag{configFlag, regionFlag, runDirFlag},
			Action: withNames(func(c *cli.Context, cfg config.Config) error {
				return leave(c.Context, c.App.Writer, cfg, c.Args().Slice())
			})},
		{Name: "prepare", Usage: "give the region's PCI device to the agent (as root; run then needs none)",
			Flags: []cli.Flag{configFlag, &cli.StringFlag{Name: "group", Usage: "the agent's `GROUP`, by name or number (default: that of user: in the configuration, else debian-tor)"},
				&cli.BoolFlag{Name: "dry-run", Usage: "say what would be done, change nothing"}},
			Action: withConfig(func(c *cli.Context, cfg config.Config) error {
				return prepare(c.App.Writer, cfg, c.String("group"), c.Bool("dry-run"))
			})},
		{Name: "doctor", Usage: "check everything that the agent needs, and say what to do; exit code 0 well, 1 warnings, 2 faults",
			Flags: []cli.Flag{configFlag, regionFlag, runDirFlag, &cli.BoolFlag{Name: "json", Usage: "one JSON document"}},
			Action: withConfig(func(c *cli.Context, cfg config.Config) error {
				return examine(c.Context, c.App.Writer, cfg, c.Bool("json"))
			})},
		{Name: "fresh", Usage: "give a clone's Tor a new guard sample, once, while it is stopped", ArgsUsage: "[INSTANCE]",
			Flags: []cli.Flag{configFlag, &cli.BoolFlag{Name: "dry-run", Usage: "say what would be done, change nothing"},
				&cli.BoolFlag{Name: "again", Usage: "also when it was done before"}},
			Action: withNames(func(c *cli.Context, cfg config.Config) error {
				return freshly(c.App.Writer, cfg, c.Args().Slice(), c.Bool("dry-run"), c.Bool("again"))
			})},
		{Name: "check-config", Usage: "report every fault of the configuration at once",
			Flags:  []cli.Flag{configFlag},
			Action: withConfig(func(c *cli.Context, cfg config.Config) error { return checkConfig(c.App.Writer, cfg) })},
		{Name: "example-config", Usage: "print a commented configuration in which everything has its default",
			Action: alone(func(c *cli.Context) error { _, err := io.WriteString(c.App.Writer, config.Example); return err })},
		{Name: "version", Usage: "print the version", Action: alone(showVersion)},
	}
}

// alone refuses arguments: what is left over was a mistake.
func alone(action cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) error {
		if c.Args().Present() {
			return hint.Errorf(program+" "+c.Command.Name+" --help", "%s: unexpected argument %q", c.Command.Name, c.Args().First())
		}
		return action(c)
	}
}

// withConfig is withNames for commands without arguments.
func withConfig(action func(*cli.Context, config.Config) error) cli.ActionFunc {
	return alone(withNames(action))
}

// withNames reads the configuration, lets flags override it, and runs action,
// which takes the arguments as instances' names.
func withNames(action func(*cli.Context, config.Config) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		// The library takes what stands behind the first argument for arguments.
		for _, name := range c.Args().Slice() {
			if strings.HasPrefix(name, "-") {
				return hint.Errorf(program+" "+c.Command.Name+" --help", "%s: %s must stand before %s", c.Command.Name, name, c.Args().First())
			}
		}
		cfg := config.Default()
		path := c.String("config")
		if _, err := os.Stat(path); c.IsSet("config") || err == nil || !errors.Is(err, os.ErrNotExist) {
			if cfg, err = config.Load(path); err != nil {
				return err
			}
		}
		if c.IsSet("region") {
			cfg.Region = c.String("region")
		}
		if c.IsSet("run-dir") {
			cfg.RunDir = c.String("run-dir")
		}
		if c.Bool("observe") {
			cfg.Policy = config.PolicyObserve
		}
		if c.Bool("show-fingerprints") {
			cfg.ShowFingerprints = true
		}
		return action(c, cfg)
	}
}

func showVersion(c *cli.Context) error {
	_, err := fmt.Fprintln(c.App.Writer, program, version.String())
	return err
}
