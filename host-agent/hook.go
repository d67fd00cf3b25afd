package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"

	"guardring/host-agent/config"
	"guardring/host-agent/hook"
	"guardring/host-agent/server"
	"guardring/internal/hint"
	"guardring/libvirt-xml/domainxml"
)

// maxDocument bounds what libvirt hands a hook; domains are far smaller.
const maxDocument = 4 << 20

func hookCommand() *cli.Command {
	dir := &cli.StringFlag{Name: "hooks-dir", Usage: "libvirt's `DIR` of hooks", Value: hook.Dir}
	dry := &cli.BoolFlag{Name: "dry-run", Usage: "say what would be done, and change nothing"}
	return &cli.Command{Name: "hook", Usage: "optional: stop a gateway's start with clear words while the server is away", Subcommands: []*cli.Command{
		{Name: "print", Usage: "print the hook", Action: alone(hookPrint), Flags: settings("run-dir")},
		{Name: "install", Usage: "install it; libvirtd must then be restarted once", Action: alone(hookInstall), Flags: append(settings("run-dir"), dir, dry)},
		{Name: "remove", Usage: "remove it", Action: alone(hookRemove), Flags: []cli.Flag{dir, dry}},
		{Name: "run", Usage: "what the hook calls; libvirt's arguments, and a domain's document on standard input", ArgsUsage: "DOMAIN OPERATION...", Action: hookRun, Flags: settings("run-dir")},
	}}
}

// hookText is the hook that asks the server which is asked by this command. It never
// asks libvirt, which waits for it.
func hookText(c *cli.Context) (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	var args []string
	for _, name := range []string{"config", "run-dir"} {
		if value := c.String(name); value != "" {
			abs, err := filepath.Abs(value)
			if err != nil {
				return "", err
			}
			args = append(args, "--"+name, abs)
		}
	}
	return hook.Text(exe, args...), nil
}

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
	dir, dry := c.String("hooks-dir"), c.Bool("dry-run")
	path := hook.Path(dir)
	changes, err := hook.Install(dir, text, dry)
	switch {
	case err != nil:
		return err
	case !changes:
		fmt.Fprintf(c.App.Writer, "%s is there already\n", path)
	case dry:
		fmt.Fprintf(c.App.Writer, "a dry run: this would be written to %s, mode 0755:\n%s", path, text)
	default:
		fmt.Fprintf(c.App.Writer, "wrote %s; libvirtd looks for hooks when it starts: restart it once (running domains are not touched)\n", path)
	}
	return nil
}

func hookRemove(c *cli.Context) error {
	dir, dry := c.String("hooks-dir"), c.Bool("dry-run")
	path := hook.Path(dir)
	changes, err := hook.Remove(dir, dry)
	switch {
	case err != nil:
		return err
	case !changes:
		fmt.Fprintf(c.App.Writer, "there is no %s\n", path)
	case dry:
		fmt.Fprintf(c.App.Writer, "a dry run: %s would be removed\n", path)
	default:
		fmt.Fprintf(c.App.Writer, "removed %s\n", path)
	}
	return nil
}

// hookRun is called before a domain starts. What it refuses does not start, and
// libvirt shows the text; so that is only our own gateways.
func hookRun(c *cli.Context) error {
	if err := refuses(c); err != nil {
		hint.Print(os.Stderr, program, err)
		return hint.Exit{Code: hook.Stops}
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
