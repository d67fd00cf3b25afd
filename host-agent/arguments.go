package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"guardring/internal/hint"
)

// flagsFirst moves the flags of a command that takes arguments before them: the
// library stops at the first argument, people write "allow NAME --once". args
// begins with the program's name.
func flagsFirst(app *cli.App, args []string) []string {
	if len(args) < 3 {
		return args
	}
	cmd := app.Command(args[1])
	if cmd == nil || cmd.ArgsUsage == "" {
		return args
	}
	var flags, rest []string
	for i := 2; i < len(args); i++ {
		switch a := args[i]; {
		case a == "--":
			rest = append(rest, args[i+1:]...)
			i = len(args)
		case len(a) < 2 || a[0] != '-':
			rest = append(rest, a)
		default:
			flags = append(flags, a)
			if !strings.Contains(a, "=") && takesValue(cmd, strings.TrimLeft(a, "-")) && i+1 < len(args) {
				i++
				flags = append(flags, args[i])
			}
		}
	}
	if len(rest) > 0 {
		flags = append(flags, "--")
	}
	return slices.Concat(args[:2], flags, rest)
}

func takesValue(cmd *cli.Command, name string) bool {
	for _, f := range cmd.Flags {
		if slices.Contains(f.Names(), name) {
			d, ok := f.(cli.DocGenerationFlag)
			return ok && d.TakesValue()
		}
	}
	return false
}

// alone refuses arguments: what is left over was a mistake.
func alone(action cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) error {
		if c.Args().Present() {
			return hint.Errorf(fmt.Sprintf("%s %s --help", program, c.Command.FullName()), "%s: unexpected argument %q", c.Command.FullName(), c.Args().First())
		}
		return action(c)
	}
}
