package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/urfave/cli/v2"

	"guardring/host-agent/config"
	"guardring/host-agent/server"
	"guardring/internal/hint"
	"guardring/libvirt-xml/domainxml"
)

// hooksDir is where libvirt looks for hooks, once, when it starts.
const hooksDir = "/etc/libvirt/hooks"

// maxDocument bounds what libvirt hands a hook; domains are far smaller.
const maxDocument = 4 << 20

func hookCommand() *cli.Command {
	dir := &cli.StringFlag{Name: "hooks-dir", Usage: "libvirt's `DIR` of hooks", Value: hooksDir}
	dry := &cli.BoolFlag{Name: "dry-run", Usage: "say what would be done, and change nothing"}
	return &cli.Command{Name: "hook", Usage: "optional: stop a gateway's start with clear words while the server is away", Subcommands: []*cli.Command{
		{Name: "print", Usage: "print the hook", Action: alone(hookPrint), Flags: settings("run-dir")},
		{Name: "install", Usage: "install it; libvirtd must then be restarted once", Action: alone(hookInstall), Flags: append(settings("run-dir"), dir, dry)},
		{Name: "remove", Usage: "remove it", Action: alone(hookRemove), Flags: []cli.Flag{dir, dry}},
		{Name: "run", Usage: "what the hook calls; libvirt's arguments, and a domain's document on standard input", ArgsUsage: "DOMAIN OPERATION...", Action: hookRun, Flags: settings("run-dir")},
	}}
}

const hookHead = "#!/bin/sh\n# Made by \"guardring hook install\"; \"guardring hook remove\" takes it away.\n"

// hookStops is the one exit code that stops a start. Any other is a fault of ours
// (libvirtd's AppArmor profile may not let it run our program; another version does
// not know the flags), for which no domain may have to stay off.
const hookStops = 3

// hookText is the hook. It asks the server and never libvirt, which waits for it;
// and it lets every start pass that is not a gateway's, whatever is wrong with us.
func hookText(c *cli.Context) (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	options := ""
	for _, name := range []string{"config", "run-dir"} {
		if value := c.String(name); value != "" {
			abs, err := filepath.Abs(value)
			if err != nil {
				return "", err
			}
			options += " --" + name + " " + quote(abs)
		}
	}
	return fmt.Sprintf("%s[ \"$2\" = prepare ] && [ -x %s ] || exit 0\n%s hook run%s -- \"$@\"\n[ $? -ne %d ] || exit 1\nexit 0\n",
		hookHead, quote(exe), quote(exe), options, hookStops), nil
}

// quote is for a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func hookPath(dir string) string { return filepath.Join(dir, "qemu.d", "guardring") }

func hookPrint(c *cli.Context) error {
	text, err := hookText(c)
	if err != nil {
		return err
	}
	_, err = io.WriteString(c.App.Writer, text)
	return err
}

func hookInstall(c *cli.Context) error {
	text, err := hookText(c)
	if err != nil {
		return err
	}
	path := hookPath(c.String("hooks-dir"))
	now, err := os.ReadFile(path)
	switch {
	case err == nil && string(now) == text:
		fmt.Fprintf(c.App.Writer, "%s is there already\n", path)
		return nil
	case err == nil && !strings.HasPrefix(string(now), hookHead):
		return hint.Errorf("remove it, or give another --hooks-dir", "%s was not made by guardring", path)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if c.Bool("dry-run") {
		fmt.Fprintf(c.App.Writer, "a dry run: this would be written to %s, mode 0755:\n%s", path, text)
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return hint.Wrap(err, "run it as root")
	}
	if err := renameio.WriteFile(path, []byte(text), 0o755, renameio.IgnoreUmask()); err != nil {
		return hint.Wrap(err, "run it as root")
	}
	fmt.Fprintf(c.App.Writer, "wrote %s; libvirtd looks for hooks when it starts: restart it once (running domains are not touched)\n", path)
	return nil
}

func hookRemove(c *cli.Context) error {
	path := hookPath(c.String("hooks-dir"))
	now, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		fmt.Fprintf(c.App.Writer, "there is no %s\n", path)
		return nil
	case err != nil:
		return err
	case !strings.HasPrefix(string(now), hookHead):
		return hint.Errorf("remove it by hand if nobody needs it", "%s was not made by guardring", path)
	case c.Bool("dry-run"):
		fmt.Fprintf(c.App.Writer, "a dry run: %s would be removed\n", path)
		return nil
	}
	if err := os.Remove(path); err != nil {
		return hint.Wrap(err, "run it as root")
	}
	fmt.Fprintf(c.App.Writer, "removed %s\n", path)
	// install may have made the folder. One with another's hooks in it stays, by this error.
	_ = os.Remove(filepath.Dir(path))
	return nil
}

// hookRun is called before a domain starts. What it refuses does not start, and
// libvirt shows the text; so that is only our own gateways.
func hookRun(c *cli.Context) error {
	if err := refuses(c); err != nil {
		hint.Print(os.Stderr, program, err)
		return hint.Exit{Code: hookStops}
	}
	return nil
}

// refuses reports why a gateway must not start now; nil for whatever is no gateway.
func refuses(c *cli.Context) error {
	if c.Args().Get(1) != "prepare" {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(c.App.Reader, maxDocument))
	if err != nil {
		return nil
	}
	facts, err := domainxml.Inspect(string(text))
	if err != nil || !facts.HasShmem {
		return nil
	}
	cfg, err := load(c)
	if err != nil {
		return hint.Wrap(fmt.Errorf("the domain is a guardring gateway, and guardring's configuration has faults: %w", err), "guardring check-config")
	}
	return ready(cfg, facts.ServerPath)
}

// ready reports why QEMU would not get its seat at this socket.
func ready(cfg config.Config, socket string) error {
	st, err := serverStatus(cfg)
	if err != nil {
		return hint.Wrap(fmt.Errorf("the domain is a guardring gateway, and guardring's server does not answer: %w", err), "start the server (systemctl start guardring-server), then the domain")
	}
	i := slices.IndexFunc(st.Gateways, func(g server.GatewayStatus) bool { return g.Socket == socket })
	if i < 0 {
		return hint.Errorf("guardring gateway list shows what is wrong", "the domain's guardring device is at the socket %s, which guardring's server does not serve", socket)
	}
	return nil
}

// hookState is where the hook is ("" if it is not installed) and what is wrong
// with it.
func hookState(dir string) (path, fault string) {
	path = hookPath(dir)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", ""
	case err != nil:
		return path, err.Error()
	case info.Mode().Perm()&0o111 == 0:
		return path, "it is not executable, so libvirt does not run it"
	}
	text, err := os.ReadFile(path)
	switch exe, _ := os.Executable(); {
	case err != nil:
		return path, err.Error()
	case !strings.HasPrefix(string(text), hookHead):
		return path, "it was not made by guardring"
	case !strings.Contains(string(text), "\n"+quote(exe)+" hook run"):
		return path, "it runs another guardring than this one"
	}
	return path, ""
}
