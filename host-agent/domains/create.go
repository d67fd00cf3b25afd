package domains

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"guardring/internal/hint"
	"guardring/libvirt-xml/domainxml"
)

// NewGateway is what Create makes.
type NewGateway struct {
	domainxml.Gateway // without UUID, ISO and ServerPath, which Create fills in; Type "" is kvm where libvirt has it
	WithAgent         bool
	Start             bool
}

// Create makes a gateway: its file in the configuration, its networks, its domain.
// A domain that an earlier Create of this name has made is left as it is.
func (d *Desk) Create(n NewGateway) error {
	if err := checkDisk(n.Disk, n.DiskFormat); err != nil {
		return err
	}
	host, err := d.Libvirt.Host()
	if err != nil {
		return err
	}
	if n.Type == "" {
		n.Type = "kvm"
		if !host.KVM {
			n.Type = "qemu"
			fmt.Fprintln(d.Out, "note: libvirt has no KVM here, so the gateway is emulated: it works, and is slow")
		}
	}
	there, isThere, err := d.created(n.Name)
	if err != nil {
		return err
	}
	if isThere {
		n.UUID = there.UUID
	} else if n.UUID, err = d.newUUID(n.Name); err != nil {
		return err
	}
	n.ServerPath = d.SocketOf(n.Name)
	if n.WithAgent {
		n.ISO = d.ISO
	}
	text, err := n.XML()
	if err != nil {
		return err
	}
	configured, err := d.configured(n.Name, n.UUID, host)
	if err != nil {
		return err
	}
	var steps []step
	if n.WithAgent {
		steps = append(steps, d.image())
	}
	steps = append(steps, configured, d.served(n.Name, n.Start))
	networks, err := d.networks(n.Gateway)
	if err != nil {
		return err
	}
	steps = append(steps, networks...)
	steps = append(steps, step{at: "defined", text: fmt.Sprintf("define the domain %s (%s, %s)", n.Name, n.Type, n.UUID), more: indent(text), done: isThere,
		do: func() error { return d.Libvirt.Define(text) }})
	if n.Start {
		steps = append(steps, d.started(n, isThere && there.State.Alive()))
	}
	did, err := d.perform(steps)
	if isThere && err == nil {
		fmt.Fprintf(d.Out, "note: the domain %s is there already and is left as it is, whatever was asked for now\n", n.Name)
	}
	if did && err == nil {
		d.sayNext(n.Name, n.Start || isThere && there.State.Alive(), n.WithAgent, "with --with-agent, a CD with it would have been in")
	}
	return err
}

// created looks for a domain that Create has made under this name.
func (d *Desk) created(name string) (Domain, bool, error) {
	there, ok, err := d.Libvirt.Find(name)
	if err != nil || !ok {
		return Domain{}, false, err
	}
	text, err := d.Libvirt.Document(there)
	if err != nil {
		return Domain{}, false, err
	}
	facts, err := domainxml.Inspect(text)
	if err != nil {
		return Domain{}, false, fmt.Errorf("domain %q: %w", name, err)
	}
	if !facts.Created || facts.Gateway != name {
		return Domain{}, false, hint.Errorf("guardring gateway attach "+name+" makes a gateway of it; or choose another name", "libvirt has a domain %q already, which guardring has not made", name)
	}
	return there, true, nil
}

// newUUID chooses the UUID of a domain that is not there yet: the one that the
// gateway's file has, if an earlier command was interrupted, else a random one.
func (d *Desk) newUUID(name string) (string, error) {
	k, _ := d.known(name)
	if k.UUID == "" {
		var random [16]byte
		_, _ = rand.Read(random[:]) // it never fails
		return domainxml.UUID(random), nil
	}
	if other, ok, err := d.Libvirt.Find(k.UUID); err != nil {
		return "", err
	} else if ok {
		return "", hint.Errorf("choose another name", "the gateway %q is the domain %q already", name, other.Name)
	}
	return k.UUID, nil
}

// started is the step that starts the new domain.
func (d *Desk) started(n NewGateway, done bool) step {
	return step{at: "started", text: "start the domain " + n.Name, done: done, do: func() error {
		now, _, err := d.Libvirt.Find(n.UUID)
		if err != nil || now.State.Alive() {
			return err
		}
		err = d.Libvirt.Start(now)
		if err != nil && n.Type == "kvm" && hint.Of(err) == "" {
			return hint.Wrap(err, fmt.Sprintf("guardring doctor; if KVM does not work on this machine: guardring gateway remove %s, then create it with --type qemu", n.Name))
		}
		return err
	}}
}

// networks are the steps that make and start what the gateway needs.
func (d *Desk) networks(g domainxml.Gateway) ([]step, error) {
	var steps []step
	for _, n := range g.Networks() {
		now, err := d.Libvirt.network(n.Name)
		if err != nil {
			return nil, err
		}
		named := n.Name == g.ExternalNetwork || n.Name == g.InternalNetwork
		if !now.there && named {
			return nil, hint.Errorf("virsh net-list --all shows which there are; without the flag guardring makes its own", "libvirt has no network %q", n.Name)
		}
		text, err := n.XML()
		if err != nil {
			return nil, err
		}
		steps = append(steps,
			step{at: "network", text: "define the network " + n.Name, more: indent(text), done: now.there, do: func() error { return d.Libvirt.defineNetwork(text) }},
			step{at: "network-autostart", text: "let the network " + n.Name + " start with libvirt", done: now.autostart || named, do: func() error { return d.Libvirt.autostartNetwork(n.Name) }},
			step{at: "network-started", text: "start the network " + n.Name, done: now.active, do: func() error { return d.Libvirt.startNetwork(n.Name) }})
	}
	return steps, nil
}

// image is the step that makes the image with the guest's agent. It is made anew
// each time: the agent may be a newer one.
func (d *Desk) image() step {
	return step{at: "image", always: true, text: "write " + d.ISO + ", the image with the guest's agent", do: func() error { return d.WriteISO(d.ISO) }}
}

// checkDisk finds what QEMU would only say when the domain starts. The format is
// never guessed, because a guest could write another format's beginning.
func checkDisk(path, format string) error {
	if path == "" {
		return nil // domainxml says whether it may be
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return hint.Wrap(fmt.Errorf("disk: %w", err), "give the path of an image that boots, for instance a copy of a Debian cloud image")
	}
	if err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return hint.Errorf("give a file", "disk %s is no regular file", path)
	}
	magic := make([]byte, 4)
	_, err = io.ReadFull(f, magic)
	isQcow := err == nil && bytes.Equal(magic, []byte("QFI\xfb"))
	if (format == "" || format == "qcow2") && !isQcow {
		return hint.Errorf("if it is a raw image, add --disk-format raw", "disk %s is no qcow2 image", path)
	}
	return nil
}
