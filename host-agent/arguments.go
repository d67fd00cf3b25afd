package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"guardring/internal/hint"
)

// program is how the command names itself.
const program = "guardring"

// flagsFirst moves the flags of a command that takes arguments before them: the
// library stops at the first argument, people write "allow NAME --once". args
// begins with the program's name.
func flagsFirst(app *cli.App, args []string) []string {
	cmd, at := commandOf(app.Commands, args, 1)
	if cmd == nil || cmd.ArgsUsage == "" {
		return args
	}
	var flags, rest []string
	for i := at; i < len(args); i++ {
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
	return slices.Concat(args[:at], flags, rest)
}

// commandOf finds the command that args name from position at on, the innermost of
// nested ones, and where its own arguments begin.
func commandOf(commands []*cli.Command, args []string, at int) (*cli.Command, int) {
	if at >= len(args) {
		return nil, at
	}
	for _, cmd := range commands {
		if !cmd.HasName(args[at]) {
			continue
		}
		if inner, from := commandOf(cmd.Subcommands, args, at+1); inner != nil {
			return inner, from
		}
		return cmd, at + 1
	}
	return nil, at
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
			return hint.Errorf(fmt.Sprintf("%s %s --help", program, commandPath(c)), "%s: unexpected argument %q", commandPath(c), c.Args().First())
		}
		return action(c)
	}
}

// commandPath is what was written behind the program's name to get to this command, such
// as "gateway attach".
func commandPath(c *cli.Context) string {
	var names []string
	for _, at := range c.Lineage() { // the innermost first
		if at.Command != nil && at.Command.Name != program {
			names = slices.Insert(names, 0, at.Command.Name)
		}
	}
	return strings.Join(names, " ")
}

// arguments wants exactly these arguments.
func arguments(c *cli.Context, names ...string) ([]string, error) {
	if c.Args().Len() == len(names) {
		return c.Args().Slice(), nil
	}
	usage := fmt.Sprintf("%s %s --help", program, commandPath(c))
	if c.Args().Len() > len(names) {
		return nil, hint.Errorf(usage, "%s: unexpected argument %q", commandPath(c), c.Args().Get(len(names)))
	}
	return nil, hint.Errorf(usage, "%s: %s is missing", commandPath(c), names[c.Args().Len()])
}
