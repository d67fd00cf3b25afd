package manualtest

import (
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestMisused(t *testing.T) {
	app := &cli.App{Name: "x", Commands: []*cli.Command{{Name: "a", Subcommands: []*cli.Command{{Name: "b", Flags: []cli.Flag{&cli.BoolFlag{Name: "long"}}}}}}}
	for line, want := range map[string]string{"x a b NAME --long": "", "x a b --d": "no flag --d", "x a": "no such command", "x e": "no such command"} {
		lines := shellLines("text\n```sh more\n" + line + " # why\n```\nx z\n")
		if len(lines) != 1 || lines[0] != line {
			t.Fatalf("%q", lines)
		}
		if got := misused(defined(app), strings.Fields(line)[1:]); got != want {
			t.Errorf("%s: %q", line, got)
		}
	}
}
