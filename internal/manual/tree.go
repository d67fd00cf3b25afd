package manual

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// command is a command of a program, or the program itself.
type command struct {
	path  []string // without the program's name
	usage string
	args  string
	flags []option
	subs  []command
}

// option is a flag of a command.
type option struct {
	names []string // with their dashes, the long one first
	value string   // the placeholder of its value, "" if it takes none
	usage string
}

// help is what every command has, and no definition names.
var help = option{names: []string{"--help", "-h"}, usage: "show what the command is for, and its options"}

func tree(app *cli.App) command {
	return command{usage: app.Usage, args: app.ArgsUsage, flags: append(options(app.Flags), help), subs: commands(nil, app.Commands)}
}

func commands(above []string, all []*cli.Command) []command {
	var out []command
	for _, c := range all {
		if c.Hidden {
			continue
		}
		path := append(append([]string(nil), above...), c.Name)
		out = append(out, command{path: path, usage: c.Usage, args: c.ArgsUsage, flags: append(options(c.Flags), help), subs: commands(path, c.Subcommands)})
	}
	return out
}

// walk visits a command and all below it, in their order.
func (c command) walk(visit func(command)) {
	visit(c)
	for _, s := range c.subs {
		s.walk(visit)
	}
}

func options(flags []cli.Flag) []option {
	var out []option
	for _, f := range flags {
		d, ok := f.(cli.DocGenerationFlag)
		if v, can := f.(cli.VisibleFlag); !ok || can && !v.IsVisible() {
			continue
		}
		var o option
		for _, n := range f.Names() {
			if len(n) == 1 {
				o.names = append(o.names, "-"+n)
			} else {
				o.names = append(o.names, "--"+n)
			}
		}
		o.usage = d.GetUsage()
		if before, rest, ok := strings.Cut(o.usage, "`"); ok { // the library's mark of the placeholder
			if name, after, ok := strings.Cut(rest, "`"); ok {
				o.value, o.usage = name, before+name+after
			}
		}
		if d.TakesValue() {
			if o.value == "" {
				o.value = "VALUE"
			}
			if text := d.GetDefaultText(); text != "" && !strings.Contains(o.usage, "(default:") {
				o.usage += fmt.Sprintf(" (default: %s)", strings.Trim(text, `"`))
			}
		} else {
			o.value = ""
		}
		out = append(out, o)
	}
	return out
}
