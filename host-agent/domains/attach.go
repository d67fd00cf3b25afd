package domains

import (
	"fmt"
	"path/filepath"

	"guardring/internal/hint"
	"guardring/libvirt-xml/domainxml"
)

// Attachment is what Attach does.
type Attachment struct {
	Domain        string // name or UUID
	Name          string // of the gateway; the domain's if ""
	Convert       bool   // see domainxml.Attachment
	Polling       bool   // likewise
	WithAgent     bool   // put the image with the guest's agent in, as a CD
	EvenIfRunning bool   // a running domain is changed from its next start on
}

// Attach makes a gateway of a domain that exists. The domain's document is kept
// as it was, beside the lock, until Detach has brought it back.
func (d *Desk) Attach(a Attachment) error {
	there, ok, err := d.Libvirt.Find(a.Domain)
	if err != nil {
		return err
	}
	if !ok {
		return hint.Errorf("virsh list --all shows the domains", "libvirt has no domain %q", a.Domain)
	}
	text, err := d.Libvirt.Document(there)
	if err != nil {
		return err
	}
	facts, err := domainxml.Inspect(text)
	if err != nil {
		return fmt.Errorf("domain %q: %w", there.Name, err)
	}
	name := a.Name
	if name == "" {
		name = there.Name
		if facts.Gateway != "" {
			name = facts.Gateway
		}
	}
	if k, ok := d.of(there.UUID); ok && k.Name != name {
		return hint.Errorf("guardring gateway detach "+k.Name, "the domain %q is the gateway %q already", there.Name, k.Name)
	}
	after, err := d.patched(a, name, text, facts)
	if err != nil {
		return err
	}
	changed := after.XML != text
	if err := d.mayChange(there, changed, a.EvenIfRunning); err != nil {
		return err
	}
	host, err := d.Libvirt.Host()
	if err != nil {
		return err
	}
	configured, err := d.configured(name, there.UUID, host)
	if err != nil {
		return err
	}
	backup := d.backup(name)
	var steps []step
	if a.WithAgent {
		steps = append(steps, d.image())
	}
	steps = append(steps,
		step{at: "backup", text: "keep the domain's document as it is in " + backup, done: !changed || facts.Gateway != "",
			do: func() error { return write(backup, text, 0o600) }},
		configured,
		d.served(name, false),
		step{at: "defined", text: "change the domain " + there.Name, more: indent(difference("now", text, "then", after.XML)), done: !changed,
			do: func() error { return d.change(there, text, after.XML) }})
	did, err := d.perform(steps)
	if err != nil {
		return err
	}
	if changed {
		for _, note := range after.Notes {
			fmt.Fprintln(d.Out, "note: "+note)
		}
		d.sayRunning(there)
	}
	if did {
		d.sayNext(there.Name, there.State.Alive(), a.WithAgent, "the same command with --with-agent puts a CD with it in")
	}
	return nil
}

// change defines a domain anew, unless somebody else has changed it since we have
// read it: theirs would be lost.
func (d *Desk) change(there Domain, from, to string) error {
	now, err := d.Libvirt.Document(there)
	if err != nil {
		return err
	}
	if now != from {
		return hint.Errorf("run the command again", "somebody else has changed the domain %q in the meantime", there.Name)
	}
	return d.Libvirt.Define(to)
}

// patched is the domain's document as it should be. One that is attached already
// stays as it is, unless something is asked for.
func (d *Desk) patched(a Attachment, name, text string, facts domainxml.Facts) (domainxml.Patched, error) {
	p := domainxml.Attachment{Gateway: name, ServerPath: d.SocketOf(name), Convert: a.Convert, Polling: a.Polling}
	if a.WithAgent {
		p.ISO = d.ISO
	}
	if facts.Gateway == name && facts.HasShmem && facts.ServerPath == p.ServerPath && !a.Convert && !a.Polling && !a.WithAgent {
		return domainxml.Patched{XML: text}, nil
	}
	after, err := p.Patch(text)
	if err != nil {
		return domainxml.Patched{}, err
	}
	return after, nil
}

// mayChange refuses what would surprise: a domain that runs, and one that would
// go on from a saved state, whose QEMU is not the document's.
func (d *Desk) mayChange(there Domain, changed, evenIfRunning bool) error {
	if !changed {
		return nil
	}
	if there.State.Alive() && !evenIfRunning {
		return hint.Errorf("shut it down first, or add --even-if-running: then the change counts from its next start on", "the domain %q is %s", there.Name, there.State)
	}
	saved, err := d.Libvirt.Saved(there)
	if err != nil {
		return err
	}
	if saved {
		return hint.Errorf("start it and shut it down, or virsh managedsave-remove "+there.Name, "the domain %q is saved: it would go on with its old devices", there.Name)
	}
	return nil
}

func (d *Desk) sayRunning(there Domain) {
	if there.State.Alive() && !d.DryRun {
		fmt.Fprintf(d.Out, "note: the domain %s is %s; the change counts when it has been off once (a reboot inside is not enough)\n", there.Name, there.State)
	}
}

func (d *Desk) backup(name string) string { return filepath.Join(d.Backups, name+".xml") }
