// Package manual writes the manual pages and shell completions of our programs, from
// the same definitions that they parse their command lines by, and from their
// commented configurations. So neither can tell of what is not there.
//
// Trust: everything comes from our own source; still all text is escaped, so that a
// dot at the beginning of a line or a quote in a usage text stays text.
package manual

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"guardring/internal/hint"
)

// Program is what a program's pages are made of.
type Program struct {
	App     *cli.App // name, one line of usage, commands and flags
	Version string   // shown at the pages' foot
	Date    string   // of the pages, YYYY-MM-DD; "" for none
	// Description are paragraphs: what the program is, for who has never met it.
	Description []string
	Files       []Item   // files and directories of the program
	Exit        []Item   // exit codes and what they mean
	SeeAlso     []string // other pages, such as "guardring-guest(1)"
	Config      Config
}

// Item is something and what is said of it.
type Item struct{ Name, Text string }

// Config is a program's configuration file.
type Config struct {
	Name    string // of its page, such as "guardring.yaml"
	Path    string // where the file lies
	Usage   string // one line
	Example string // the commented file in which everything has its default
}

// File is a made file.
type File struct {
	Path string // below /usr/share
	Text string
}

// Pages are a program's manual pages and completions, sorted by path.
func (p Program) Pages() []File {
	name := p.App.Name
	tree := tree(p.App)
	files := []File{
		{filepath.Join("man/man1", name+".1"), p.page(tree)},
		{filepath.Join("man/man5", p.Config.Name+".5"), p.configPage()},
		{filepath.Join("bash-completion/completions", name), bash(name, tree)},
		{filepath.Join("zsh/vendor-completions", "_"+name), zsh(name, tree)},
		{filepath.Join("fish/vendor_completions.d", name+".fish"), fish(name, tree)},
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return files
}

// Write writes files below dir, which is made.
func Write(dir string, files []File) error {
	for _, f := range files {
		path := filepath.Join(dir, f.Path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(f.Text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Command writes a program's pages: what a package is built with, so it is not shown.
func Command(make func(*cli.App) Program) *cli.Command {
	return &cli.Command{
		Name: "manual", Hidden: true, Usage: "write the manual pages and completions of this program into DIR, which stands for /usr/share", ArgsUsage: "DIR",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "date", Usage: "`DATE` of the pages, YYYY-MM-DD"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return hint.Wrap(errors.New("manual: want one directory"), c.App.Name+" manual DIR")
			}
			p := make(c.App)
			p.Date = c.String("date")
			if _, err := time.Parse(time.DateOnly, p.Date); p.Date != "" && err != nil {
				return fmt.Errorf("--date: %w", err)
			}
			return Write(c.Args().First(), p.Pages())
		},
	}
}
