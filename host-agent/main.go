// Command guardring is the host's side: the server that hands out regions, the
// coordinator that compares guards, and what an operator looks at them with.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"

	"guardring/internal/hint"
)

// program is how the command names itself.
const program = "guardring"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := newApp().RunContext(ctx, os.Args); err != nil {
		var code exitCode
		if errors.As(err, &code) {
			os.Exit(int(code))
		}
		hint.Print(os.Stderr, program, err)
		os.Exit(1)
	}
}

// exitCode ends the program silently: everything was said already.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

func newApp() *cli.App {
	return &cli.App{
		Name:                 program,
		Usage:                "keep the entry guards of several Tor gateways on one host disjoint",
		HideHelpCommand:      true,
		EnableBashCompletion: true,
		// main prints errors; urfave would exit by itself.
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError: func(_ *cli.Context, err error, _ bool) error {
			return hint.Wrap(err, "guardring --help, or --help after a command")
		},
		CommandNotFound: func(_ *cli.Context, name string) {
			hint.Print(os.Stderr, program, hint.Wrap(fmt.Errorf("unknown command %q", name), "guardring --help lists the commands"))
			os.Exit(1)
		},
		Commands: []*cli.Command{
			{Name: "run", Usage: "start server and coordinator as two processes, and restart one that died", Flags: settings(), Action: runBoth},
			{Name: "serve", Usage: "serve each gateway its region and socket (SIGHUP reads the gateways anew)", Flags: settings(), Action: serve},
			{Name: "coordinate", Usage: "compare the gateways' guards, or stand by for the coordinator that does", Flags: settings(), Action: coordinate},
			{Name: "status", Usage: "show who holds which guard, and whether all is well", Flags: append(settings(),
				&cli.BoolFlag{Name: "json", Usage: "one JSON document"},
				&cli.BoolFlag{Name: "check", Usage: "one line, and exit code 0 ok, 1 warning, 2 critical, 3 unknown"},
				&cli.BoolFlag{Name: "watch", Usage: "show it anew every two seconds"},
			), Action: status},
			{Name: "ledger", Usage: "look into the coordinator's durable record, or replace it", Subcommands: []*cli.Command{
				{Name: "show", Usage: "print the records, one JSON text a line", Flags: settings(), Action: ledgerShow},
				{Name: "rebuild", Usage: "start a new epoch from the guests' publications (coordinators must be stopped)", Flags: settings(), Action: ledgerRebuild},
			}},
			simulateCommand(),
			{Name: "check-config", Usage: "read the configuration and name every fault", Flags: settings(), Action: checkConfig},
			{Name: "example-config", Usage: "print a commented configuration with the defaults", Action: exampleConfig},
			{Name: "version", Usage: "print the version", Action: showVersion},
		},
	}
}
