// Package manualtest checks a program's manual pages and completions against its
// definitions, with the programs that read them: formatters and shells.
//
// Trust: for tests, of our own source.
package manualtest

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"guardring/internal/manual"
)

// Check fails t where a page or a completion of p lacks something that the
// definitions have, or where its reader finds fault with it.
func Check(t *testing.T, p manual.Program) {
	p.Date = "2026-01-31"
	dir := t.TempDir()
	if err := manual.Write(dir, p.Pages()); err != nil {
		t.Fatal(err)
	}
	want := defined(p.App)
	name := p.App.Name
	page1 := filepath.Join(dir, "man/man1", name+".1")
	page5 := filepath.Join(dir, "man/man5", p.Config.Name+".5")
	t.Run("pages", func(t *testing.T) { checkPages(t, p, want, page1, page5) })
	t.Run("bash", func(t *testing.T) {
		script := filepath.Join(dir, "bash-completion/completions", name)
		checkCompletion(t, want, func(words []string) []string {
			return shell(t, append([]string{"bash", "--norc", "-c", `. "$1"; COMP_WORDS=("${@:2}"); COMP_CWORD=$(($# - 2)); _` + strings.ReplaceAll(name, "-", "_") + `; printf '%s\n' "${COMPREPLY[@]}"`,
				"bash", script, name}, words...))
		})
	})
	t.Run("zsh", func(t *testing.T) {
		// Its completion system needs a terminal: what it is given is printed instead.
		script := filepath.Join(dir, "zsh/vendor-completions", "_"+name)
		checkCompletion(t, want, func(words []string) []string {
			return shell(t, append([]string{"zsh", "-f", "-c", `_describe() { print -l -- "${(@P)2}" | sed 's/:.*//' }; _files() { print -- FILES }; script=$1; shift; words=("$@"); CURRENT=$#; . "$script"`,
				"zsh", script, name}, words...))
		})
	})
	t.Run("fish", func(t *testing.T) {
		script := filepath.Join(dir, "fish/vendor_completions.d", name+".fish")
		checkCompletion(t, want, func(words []string) []string {
			return shell(t, []string{"fish", "--no-config", "-c", `source $argv[1]; complete -C "$argv[2]" | string replace -r '\t.*' ''; or true`,
				script, strings.Join(append([]string{name}, words...), " ")})
		})
	})
}

// one is a command as the library knows it.
type one struct {
	path  []string
	subs  []string
	flags []string // with dashes
	takes []string // those with a value
	usage string
}

// defined are all commands that a user is shown, the program itself first.
func defined(app *cli.App) []one {
	var out []one
	var walk func(path []string, usage string, flags []cli.Flag, subs []*cli.Command)
	walk = func(path []string, usage string, flags []cli.Flag, subs []*cli.Command) {
		o := one{path: path, usage: usage}
		for _, f := range flags {
			if v, ok := f.(cli.VisibleFlag); ok && !v.IsVisible() {
				continue
			}
			for _, n := range f.Names() {
				n = strings.Repeat("-", min(len(n), 2)) + n
				o.flags = append(o.flags, n)
				if _, isBool := f.(*cli.BoolFlag); !isBool {
					o.takes = append(o.takes, n)
				}
			}
		}
		at := len(out)
		out = append(out, o)
		for _, s := range subs {
			if !s.Hidden {
				out[at].subs = append(out[at].subs, s.Name)
				walk(append(slices.Clone(path), s.Name), s.Usage, s.Flags, s.Subcommands)
			}
		}
	}
	walk(nil, app.Usage, app.Flags, app.Commands)
	return out
}

// shell runs a script and returns the words that it prints. args begins with the
// shell's name.
func shell(t *testing.T, args []string) []string {
	t.Helper()
	program, err := exec.LookPath(args[0])
	if err != nil {
		t.Skipf("skipping, no %s (try: apt-get install %s)", args[0], args[0])
	}
	cmd := exec.Command(program, args[1:]...)
	cmd.Dir = t.TempDir() // without files, which are offered too
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + cmd.Dir, "LC_ALL=C.UTF-8"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%q: %v\n%s", args, err, out)
	}
	return strings.Fields(string(out))
}
