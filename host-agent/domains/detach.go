package domains

import (
	"fmt"
	"os"
	"strings"

	"guardring/internal/hint"
	"guardring/libvirt-xml/domainxml"
	"guardring/shmproto"
)

// Detach makes a plain domain again of what Attach has made a gateway, and takes
// it out of the configuration. evenIfRunning as in Attachment.
func (d *Desk) Detach(name string, evenIfRunning bool) error {
	there, text, facts, err := d.gateway(name)
	if err != nil {
		return err
	}
	if facts.Created {
		return hint.Errorf("guardring gateway remove "+name, "the domain %q was made as a gateway: there is nothing to go back to", there.Name)
	}
	removal, err := d.unconfigured(name)
	if err != nil {
		return err
	}
	before := domainxml.Patched{XML: text}
	if facts.Gateway != "" {
		if before, err = domainxml.Unpatch(text); err != nil {
			return err
		}
	}
	changed := before.XML != text
	if err := d.mayChange(there, changed, evenIfRunning); err != nil {
		return err
	}
	steps := []step{
		{at: "undone", text: "change the domain " + there.Name + " back", more: indent(difference("now", text, "then", before.XML)), done: !changed,
			do: func() error { return d.change(there, text, before.XML) }},
		{at: "compared", text: "compare it with the backup", done: there.UUID == "" || !exists(d.backup(name)), do: func() error { return d.compare(name, there) }},
	}
	if _, err := d.perform(append(steps, removal...)); err != nil {
		return err
	}
	for _, note := range before.Notes {
		fmt.Fprintln(d.Out, "note: "+note)
	}
	if changed {
		d.sayRunning(there)
	}
	d.sayClaims()
	return nil
}

// sayClaims: what is gone is only away for the coordinators.
func (d *Desk) sayClaims() {
	if !d.DryRun {
		fmt.Fprintln(d.Out, "note: its claims on guards stay for the retention (60 days by default); guardring-guest leave, in the gateway beforehand, would have given them up")
	}
}

// compare removes the backup if the domain is again as it was.
func (d *Desk) compare(name string, there Domain) error {
	now, err := d.Libvirt.Document(there)
	if err != nil {
		return err
	}
	was, err := os.ReadFile(d.backup(name))
	if err != nil {
		return err
	}
	if now == string(was) {
		fmt.Fprintln(d.Out, "the domain is exactly as it was before it was attached")
		return os.Remove(d.backup(name))
	}
	fmt.Fprintf(d.Out, "the domain differs from what it was before it was attached, because it was changed since; as it was: %s\n%s\n",
		d.backup(name), difference("before attach", string(was), "now", now))
	return nil
}

// Remove takes a gateway that Create has made out of libvirt and out of the
// configuration. Its disks stay.
func (d *Desk) Remove(name string) error {
	there, _, facts, err := d.gateway(name)
	if err != nil {
		return err
	}
	isThere := there.UUID != ""
	switch {
	case isThere && facts.Gateway != "" && !facts.Created:
		return hint.Errorf("guardring gateway detach "+name, "the domain %q was not made by guardring", there.Name)
	case isThere && facts.Gateway == "":
		return hint.Errorf("guardring gateway detach "+name+" takes it out of the configuration", "the domain %q is no gateway (any more)", there.Name)
	case isThere && there.State.Alive():
		return hint.Errorf("shut it down first: virsh shutdown "+there.Name, "the domain %q is %s", there.Name, there.State)
	}
	removal, err := d.unconfigured(name)
	if err != nil {
		return err
	}
	steps := []step{{at: "undefined", text: "undefine the domain " + there.Name, done: !isThere, do: func() error { return d.Libvirt.Undefine(there) }}}
	if _, err := d.perform(append(steps, removal...)); err != nil {
		return err
	}
	if isThere && len(facts.Disks) > 0 && !d.DryRun {
		fmt.Fprintln(d.Out, "its disks stay: "+strings.Join(facts.Disks, ", "))
	}
	d.sayClaims()
	return nil
}

// gateway looks a gateway of the configuration up in libvirt. A domain that is
// there has a UUID. A gateway on its way out has none.
func (d *Desk) gateway(name string) (there Domain, text string, facts domainxml.Facts, err error) {
	k, ok := d.known(name)
	leaving := false
	if !ok && shmproto.ValidName(name) { // another one could be a path
		leaving, err = isOurs(d.aside(name))
	}
	switch {
	case leaving || err != nil:
		return Domain{}, "", domainxml.Facts{}, err
	case !ok:
		err = hint.Errorf("guardring gateway list shows them", "no gateway %q is configured", name)
	case k.UUID == "":
		err = hint.Errorf("take it out of the configuration by hand", "the gateway %q has no domain", name)
	default:
		there, ok, err = d.Libvirt.Find(k.UUID)
	}
	if err != nil || !ok {
		return Domain{}, "", domainxml.Facts{}, err
	}
	if text, err = d.Libvirt.Document(there); err == nil {
		facts, err = domainxml.Inspect(text)
	}
	if err != nil {
		return Domain{}, "", domainxml.Facts{}, fmt.Errorf("domain %q: %w", there.Name, err)
	}
	return there, text, facts, nil
}
