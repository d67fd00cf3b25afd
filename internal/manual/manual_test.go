package manual_test

import (
	"testing"

	"github.com/urfave/cli/v2"

	"guardring/internal/manual"
	"guardring/internal/manual/manualtest"
)

// TestAwkwardTexts: what is special to troff or a shell is only text.
func TestAwkwardTexts(t *testing.T) {
	app := &cli.App{
		Name: "awkward-name", Usage: `.so /etc/passwd`,
		Commands: []*cli.Command{
			{Name: "dots", Usage: `.ex 'and' "quotes": $(false) \fB%s ~ ^ ` + "`", ArgsUsage: "[A...]", Flags: []cli.Flag{
				&cli.StringFlag{Name: "file", Aliases: []string{"f"}, Usage: "a `FILE's` name; $HOME", Value: `C:\x`},
				&cli.IntFlag{Name: "many", Value: 3, Usage: "'"},
				&cli.BoolFlag{Name: "secret", Hidden: true},
			}},
			{Name: "inner", Usage: "with more", Subcommands: []*cli.Command{{Name: "dots", Usage: "the same name"}}},
		},
	}
	manualtest.Check(t, manual.Program{
		App: app, Version: "1.0", Description: []string{".br", "'ig"}, Files: []manual.Item{{Name: `/a"b`, Text: ".x"}},
		Config: manual.Config{Name: "awkward.yaml", Path: "/etc/awkward", Usage: "one line", Example: "# .TH hidden: 'text'\n#   - sample: here\n# more\n\n# What\n# off: it is\nkey: \"a\\\\b\"\n#  - .sample\nother-key: '1'\n"},
	})
}
