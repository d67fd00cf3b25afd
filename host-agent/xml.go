package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"

	"github.com/urfave/cli/v2"

	"guardring/host-agent/rundir"
	"guardring/internal/hint"
	"guardring/libvirt-xml/domainxml"
	"guardring/shmproto"
)

// xmlCommand prints libvirt documents. It needs no libvirt and touches nothing.
func xmlCommand() *cli.Command {
	return &cli.Command{Name: "xml", Usage: "print libvirt documents; touches nothing", Subcommands: []*cli.Command{
		{
			Name: "gateway", Usage: "print the domain of a new gateway", ArgsUsage: "NAME",
			Flags: append(append(gatewayFlags(), serverPathFlags()...),
				&cli.StringFlag{Name: "uuid", Usage: "the domain's `UUID`", DefaultText: "a random one"},
				&cli.StringFlag{Name: "iso", Usage: "image `FILE` that is put in as a CD"}),
			Action: xmlGateway,
		},
		{
			Name: "networks", Usage: "print a gateway's networks, or one of them", ArgsUsage: "NAME",
			Flags: append(networkFlags(),
				&cli.StringFlag{Name: "only", Usage: "external or internal: a file for virsh net-define"},
				&cli.StringFlag{Name: "address", Usage: "the host's address in the external network and its size", Value: domainxml.ExternalAddress.String()}),
			Action: xmlNetworks,
		},
		{
			Name: "patch", Usage: "print a domain (virsh dumpxml --inactive) as it would be after attach, or detach", ArgsUsage: "NAME FILE|-",
			Flags: append(serverPathFlags(),
				&cli.BoolFlag{Name: "convert", Usage: "make a q35 machine of an i440fx one, so that the guest can be interrupted"},
				&cli.BoolFlag{Name: "polling", Usage: "only the device, no IOMMU: the guest's agent polls"},
				&cli.StringFlag{Name: "iso", Usage: "image `FILE` that is put in as a CD"},
				&cli.BoolFlag{Name: "undo", Usage: "the way back: what detach would make of it"},
				&cli.BoolFlag{Name: "diff", Usage: "print the difference instead of the document"}),
			Action: xmlPatch,
		},
	}}
}

// serverPathFlags say where the gateway's socket is.
func serverPathFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "run-dir", Usage: "the server's run directory `DIR`", Value: rundir.Default},
		&cli.StringFlag{Name: "server-path", Usage: "the gateway's socket", DefaultText: "gateways/NAME.sock in the run directory"},
	}
}

func serverPath(c *cli.Context, gateway string) string {
	if p := c.String("server-path"); p != "" {
		return p
	}
	return rundir.Dir(c.String("run-dir")).GuestSocket(gateway)
}

func xmlGateway(c *cli.Context) error {
	args, err := arguments(c, "NAME")
	if err != nil {
		return err
	}
	g := gatewayFrom(c, args[0])
	g.ISO, g.UUID, g.ServerPath = c.String("iso"), c.String("uuid"), serverPath(c, args[0])
	if g.UUID == "" {
		var random [16]byte
		_, _ = rand.Read(random[:]) // it never fails
		g.UUID = domainxml.UUID(random)
	}
	return printDocuments(c, g)
}

func xmlNetworks(c *cli.Context) error {
	args, err := arguments(c, "NAME")
	if err != nil {
		return err
	}
	if !shmproto.ValidName(args[0]) {
		return hint.Errorf("write "+shmproto.NameRule, "gateway name %q", args[0])
	}
	address, err := netip.ParsePrefix(c.String("address"))
	if err != nil {
		return hint.Errorf("write it as "+domainxml.ExternalAddress.String(), "address %q", c.String("address"))
	}
	var chosen []interface{ XML() (string, error) }
	for _, n := range gatewayFrom(c, args[0]).Networks() {
		kind := "internal"
		if n.Address.IsValid() {
			kind, n.Address = "external", address
		}
		if only := c.String("only"); only == "" || only == kind {
			chosen = append(chosen, n)
		}
	}
	if len(chosen) == 0 {
		return hint.Errorf("write external or internal", "the gateway has no network %q of its own", c.String("only"))
	}
	return printDocuments(c, chosen...)
}

func printDocuments(c *cli.Context, all ...interface{ XML() (string, error) }) error {
	for _, d := range all {
		text, err := d.XML()
		if err != nil {
			return err
		}
		if _, err := io.WriteString(c.App.Writer, text); err != nil {
			return err
		}
	}
	return nil
}

func xmlPatch(c *cli.Context) error {
	args, err := arguments(c, "NAME", "FILE")
	if err != nil {
		return err
	}
	before, err := readDocument(c, args[1])
	if err != nil {
		return err
	}
	a := domainxml.Attachment{Gateway: args[0], ServerPath: serverPath(c, args[0]), ISO: c.String("iso"), Convert: c.Bool("convert"), Polling: c.Bool("polling")}
	p, err := a.Patch(before)
	if c.Bool("undo") {
		p, err = undo(before, args[0])
	}
	if err != nil {
		return err
	}
	for _, note := range p.Notes {
		fmt.Fprintf(c.App.ErrWriter, "%s: note: %s\n", program, note)
	}
	out := p.XML
	if c.Bool("diff") {
		out = domainxml.Diff("before", before, "after", p.XML)
	}
	_, err = io.WriteString(c.App.Writer, out)
	return err
}

// undo is Unpatch of the gateway that the user means.
func undo(text, gateway string) (domainxml.Patched, error) {
	f, err := domainxml.Inspect(text)
	if err != nil {
		return domainxml.Patched{}, err
	}
	if f.Gateway != "" && f.Gateway != gateway {
		return domainxml.Patched{}, hint.Errorf("is it the right file?", "the domain is the gateway %q", f.Gateway)
	}
	return domainxml.Unpatch(text)
}

// readDocument reads a file, or standard input for "-".
func readDocument(c *cli.Context, name string) (string, error) {
	from := c.App.Reader
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return "", hint.Wrap(err, "virsh dumpxml --inactive DOMAIN > FILE")
		}
		defer func() { _ = f.Close() }() // only read
		from = f
	}
	b, err := io.ReadAll(io.LimitReader(from, domainxml.MaxDocument+1))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	if len(b) == 0 {
		return "", hint.Wrap(errors.New(name+" is empty"), "virsh dumpxml --inactive DOMAIN prints what belongs there")
	}
	return string(b), nil
}
