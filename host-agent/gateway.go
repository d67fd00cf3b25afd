package main

import (
	"errors"
	"fmt"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize/english"
	"github.com/urfave/cli/v2"

	"guardring/host-agent/domains"
	"guardring/host-agent/rundir"
	"guardring/internal/hint"
	"guardring/internal/printable"
	"guardring/shmproto"
)

func gatewayCommand() *cli.Command {
	dry := &cli.BoolFlag{Name: "dry-run", Usage: "say what would be done, and change nothing"}
	agent := &cli.BoolFlag{Name: "with-agent", Usage: "put a CD with the guest's agent in"}
	running := &cli.BoolFlag{Name: "even-if-running", Usage: "change a running domain, from its next start on"}
	return &cli.Command{Name: "gateway", Usage: "make gateways of libvirt domains, list and remove them", Subcommands: []*cli.Command{
		{Name: "create", Usage: "make a new gateway: configuration, networks, domain", ArgsUsage: "NAME", Action: gatewayCreate, Flags: append(append(settings("run-dir"), gatewayFlags()...), dry, agent,
			&cli.BoolFlag{Name: "start", Usage: "start it"},
		)},
		{Name: "attach", Usage: "make a gateway of a domain that exists", ArgsUsage: "DOMAIN", Action: gatewayAttach, Flags: append(settings("run-dir"), dry, agent, running,
			&cli.StringFlag{Name: "name", Usage: "`NAME` of the gateway", DefaultText: "the domain's"},
			&cli.BoolFlag{Name: "convert", Usage: "make a q35 machine of an i440fx one, so that its guest can be interrupted"},
			&cli.BoolFlag{Name: "polling", Usage: "add no IOMMU: the guest's agent looks for changes by itself"},
		)},
		{Name: "detach", Usage: "make a plain domain again of what attach has made a gateway", ArgsUsage: "NAME", Action: gatewayDetach, Flags: append(settings("run-dir"), dry, running)},
		{Name: "remove", Usage: "remove a gateway that create has made; its disks stay", ArgsUsage: "NAME", Action: gatewayRemove, Flags: append(settings("run-dir"), dry)},
		{Name: "reload", Usage: "have the server read the configuration, and show what it serves", Action: alone(gatewayReload), Flags: settings("run-dir")},
		{Name: "list", Usage: "show the gateways: domain, state, seat, and what is wrong", Action: alone(gatewayList), Flags: append(settings("run-dir"),
			&cli.BoolFlag{Name: "json", Usage: "one JSON document"},
		)},
	}}
}

// withDesk connects to libvirt and runs a command on the gateway or domain that is
// its one argument.
func withDesk(c *cli.Context, run func(d *domains.Desk, name string) error) error {
	args, err := arguments(c, c.Command.ArgsUsage)
	if err != nil {
		return err
	}
	cfg, err := load(c)
	if err != nil {
		return err
	}
	d := &domains.Desk{
		Dir: cfg.GatewaysDir, Backups: cfg.DomainsDir, ISO: cfg.AgentISO, SocketOf: rundir.Dir(cfg.RunDir).GuestSocket,
		WriteISO: func(path string) error { return writeISO(path, cfg.GuestAgent) },
		Reload:   func() ([]string, error) { return reloadServer(cfg.RunDir) },
		Out:      c.App.Writer, DryRun: c.Bool("dry-run"), UserName: userName, GroupName: groupName,
	}
	if d.Libvirt, err = domains.Connect(c.Context, domains.Address{Socket: cfg.LibvirtSocket, URI: cfg.LibvirtURI}); err != nil {
		return err
	}
	defer d.Libvirt.Close()
	unlock, err := d.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	if cfg, err = load(c); err != nil { // as whoever had the lock has left it
		return err
	}
	d.Known = known(cfg)
	return run(d, args[0])
}

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(uid)
}

func groupName(gid int) string {
	if g, err := user.LookupGroupId(strconv.Itoa(gid)); err == nil {
		return g.Name
	}
	return strconv.Itoa(gid)
}

func gatewayCreate(c *cli.Context) error {
	return withDesk(c, func(d *domains.Desk, name string) error {
		n := domains.NewGateway{Gateway: gatewayFrom(c, name), WithAgent: c.Bool("with-agent"), Start: c.Bool("start")}
		for _, field := range []*string{&n.Disk, &n.Kernel, &n.Initrd} {
			if path := *field; path != "" {
				abs, err := filepath.Abs(path)
				if err != nil {
					return err
				}
				*field = abs
			}
		}
		return d.Create(n)
	})
}

func gatewayAttach(c *cli.Context) error {
	return withDesk(c, func(d *domains.Desk, domain string) error {
		name := c.String("name")
		if name == "" && !shmproto.ValidName(domain) {
			return hint.Errorf("add --name: "+shmproto.NameRule, "%q cannot be the gateway's name", domain)
		}
		return d.Attach(domains.Attachment{Domain: domain, Name: name, Convert: c.Bool("convert"), Polling: c.Bool("polling"),
			WithAgent: c.Bool("with-agent"), EvenIfRunning: c.Bool("even-if-running")})
	})
}

func gatewayDetach(c *cli.Context) error {
	return withDesk(c, func(d *domains.Desk, name string) error { return d.Detach(name, c.Bool("even-if-running")) })
}

func gatewayRemove(c *cli.Context) error {
	return withDesk(c, func(d *domains.Desk, name string) error { return d.Remove(name) })
}

func gatewayReload(c *cli.Context) error {
	cfg, err := load(c)
	if err != nil {
		return err
	}
	names, err := reloadServer(cfg.RunDir)
	if errors.Is(err, domains.ErrNoServer) {
		return hint.Wrap(err, "systemctl start guardring-server (by hand: guardring run)")
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "the server serves %s: %s\n", english.Plural(len(names), "gateway", ""), printable.Text(strings.Join(names, ", ")))
	return nil
}

// gatewayList shows what there is to see. Where libvirt does not answer that is
// half of it, which is no success.
func gatewayList(c *cli.Context) error {
	cfg, err := load(c)
	if err != nil {
		return err
	}
	v := domains.Inventory{Known: known(cfg), SocketOf: rundir.Dir(cfg.RunDir).GuestSocket, Seats: seats(cfg)}
	var silent error
	if v.Libvirt, silent = domains.Connect(c.Context, domains.Address{Socket: cfg.LibvirtSocket, URI: cfg.LibvirtURI}); silent == nil {
		defer v.Libvirt.Close()
	}
	list, err := v.List()
	if err != nil {
		return err
	}
	if c.Bool("json") {
		if list == nil {
			list = []domains.Listed{}
		}
		err = writeJSON(c.App.Writer, list)
	} else {
		err = printGateways(c, list)
	}
	if err != nil {
		return err
	}
	return silent
}

func printGateways(c *cli.Context, list []domains.Listed) error {
	w := tabwriter.NewWriter(c.App.Writer, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "GATEWAY\tDOMAIN\tSTATE\tMADE BY\tSEAT\tWOKEN BY")
	or := func(text, other string) string {
		if text == "" {
			return other
		}
		return text
	}
	for _, l := range list {
		woken := "-"
		if l.MadeBy != "" {
			woken = map[bool]string{true: "doorbell", false: "polling"}[l.Interrupts]
		}
		seat := or(l.Seat, "not served")
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", or(l.Name, "-"), or(l.Domain, "-"), or(string(l.State), "-"), or(l.MadeBy, "-"), printable.Text(seat), woken)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, l := range list {
		if l.Fault != "" {
			fmt.Fprintf(c.App.Writer, "%s: %s\n  %s\n", or(l.Name, l.Domain), l.Fault, l.Remedy)
		}
	}
	return nil
}
