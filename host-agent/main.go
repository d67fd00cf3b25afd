// Command guardring is the host's side: the server that hands out regions, the
// coordinator that compares guards, and what an operator looks at them with.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"guardring/internal/hint"
	"guardring/internal/manual"
)

func main() { os.Exit(hint.End(os.Stderr, program, run())) }

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	app := newApp()
	app.Setup()
	return app.RunContext(ctx, flagsFirst(app, os.Args))
}

func newApp() *cli.App {
	app := &cli.App{
		Name:                 program,
		Usage:                "keep the entry guards of several Tor gateways on one host disjoint",
		HideHelpCommand:      true,
		EnableBashCompletion: true,
		// main prints errors; urfave would exit by itself.
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError: func(_ *cli.Context, err error, _ bool) error {
			return hint.Wrap(err, "guardring --help, or --help after a command")
		},
		CommandNotFound: func(c *cli.Context, name string) {
			hint.Print(os.Stderr, program, hint.Wrap(fmt.Errorf("unknown command %q", strings.TrimSpace(commandPath(c)+" "+name)), strings.TrimSpace(program+" "+commandPath(c))+" --help lists the commands"))
			os.Exit(1)
		},
		Commands: []*cli.Command{
			{Name: "run", Usage: "start server and coordinator as two processes, and restart one that died", Flags: settings(everySetting...), Action: alone(runBoth)},
			{Name: "serve", Usage: "serve each gateway its region and socket (SIGHUP reads the gateways anew)", Flags: settings(serveSettings...), Action: alone(serve)},
			{Name: "coordinate", Usage: "compare the gateways' guards, or stand by for the coordinator that does", Flags: settings(coordinateSettings...), Action: alone(coordinate)},
			{Name: "status", Usage: "show who holds which guard, and whether all is well", Flags: append(settings("run-dir", "show-fingerprints"),
				&cli.BoolFlag{Name: "json", Usage: "one JSON document"},
				&cli.BoolFlag{Name: "check", Usage: "one line, and exit code 0 ok, 1 warning, 2 critical, 3 unknown"},
				&cli.BoolFlag{Name: "watch", Usage: "show it anew every two seconds"},
			), Action: alone(status)},
			{Name: "explain", Usage: "tell what was decided about a gateway or member, why, and what it cost", ArgsUsage: "GATEWAY[/INSTANCE]", Flags: append(settings("run-dir", "show-fingerprints"),
				&cli.BoolFlag{Name: "json", Usage: "one JSON document"},
			), Action: explain},
			{Name: "allow", Usage: "let a gateway or member do once what its budgets keep waiting", ArgsUsage: "GATEWAY[/INSTANCE] --once", Flags: append(settings("run-dir"),
				&cli.BoolFlag{Name: "once", Usage: "needed, so that nobody thinks that it lasts"},
			), Action: allow},
			{Name: "replay", Usage: "decide again what a journal holds, and compare (default: the journal of the run directory)", ArgsUsage: "[FILE...]", Flags: settings("run-dir", "show-fingerprints"), Action: replay},
			{Name: "ledger", Usage: "look into the coordinator's durable record, or replace it", Subcommands: []*cli.Command{
				{Name: "show", Usage: "print the records, one JSON text a line", Flags: settings("ledger-dir"), Action: alone(ledgerShow)},
				{Name: "rebuild", Usage: "start a new epoch from the guests' publications (coordinators must be stopped)", Flags: settings("ledger-dir"), Action: alone(ledgerRebuild)},
			}},
			gatewayCommand(),
			doctorCommand(),
			hookCommand(),
			apparmorCommand(),
			simulateCommand(),
			xmlCommand(),
			{Name: "agent-image", Usage: "write the CD image with the guest's agent, which --with-agent puts into a gateway", ArgsUsage: "FILE", Flags: settings(), Action: agentImage},
			{Name: "check-config", Usage: "read the configuration and name every fault", Flags: settings(everySetting...), Action: alone(checkConfig)},
			{Name: "example-config", Usage: "print a commented configuration with the defaults", Action: alone(exampleConfig)},
			{Name: "version", Usage: "print the version", Action: alone(showVersion)},
			manual.Command(manualOf),
		},
	}
	plainErrors("", app.Commands)
	return app
}

// plainErrors has each command answer a flag that it does not know with an error
// and a hint alone: the library would print its whole help before.
func plainErrors(parent string, all []*cli.Command) {
	for _, cmd := range all {
		cmd.HideHelpCommand = true
		name := parent + cmd.Name
		cmd.OnUsageError = func(_ *cli.Context, err error, _ bool) error {
			return hint.Wrap(fmt.Errorf("%s: %w", name, err), fmt.Sprintf("%s %s --help", program, name))
		}
		plainErrors(name+" ", cmd.Subcommands)
	}
}
