package domainxml

import (
	"encoding/xml"
	"slices"
	"strings"
)

// convertFaults names what keeps an i440fx machine from becoming a q35 one.
func convertFaults(root *element, args string) []error {
	var faults []error
	if root.child("os").attr("firmware") != "" || root.at("os/loader") != nil {
		faults = append(faults, refuse("attach without converting: the agent polls", "the domain boots with a firmware image of its own, which may not know the new machine's disks"))
	}
	if strings.Contains(args, "pci.0") {
		faults = append(faults, refuse("attach without converting: the agent polls", "<qemu:commandline> names the bus pci.0, which a q35 machine does not have"))
	}
	return faults
}

// convert makes a q35 machine: other controllers, disks from IDE to SATA, and no
// PCI addresses, which libvirt then gives anew.
func (p *patching) convert() {
	p.set("os/type", "machine", "q35")
	if p.err != nil {
		return
	}
	devices := p.tree.root.child("devices")
	raw := p.tree.withoutPasswords(devices)
	p.edited(p.tree.text[:devices.start]+p.tree.onQ35(devices)+p.tree.text[devices.end:], step{kind: replaced, path: "devices", was: raw})
	p.notes = append(p.notes, "the machine becomes a q35 one: network interfaces may get other names in the guest (Whonix keeps eth0 and eth1), disks on IDE become sda and so on; look into the guest's /etc/fstab and /etc/network first")
}

// withoutPasswords is the markup of a <devices> for the record: everybody who may
// look at libvirt can read metadata, but not a password of <graphics>.
func (t *tree) withoutPasswords(devices *element) string {
	var cuts []cut
	for _, g := range devices.named("graphics") {
		if from, to, ok := t.attrAt(g, "passwd"); ok {
			cuts = append(cuts, cut{from, to, "passwd=''"})
		}
	}
	return t.cutOut(devices, cuts)
}

// withPasswords gives the old document's <graphics> the passwords that they have now.
func (t *tree) withPasswords(now *tree) string {
	devices, cuts := t.root.child("devices"), []cut(nil)
	present := now.root.child("devices").named("graphics")
	for i, g := range devices.named("graphics") {
		from, to, ok := t.attrAt(g, "passwd")
		if !ok {
			continue
		}
		if i < len(present) {
			if a, b, ok := now.attrAt(present[i], "passwd"); ok {
				cuts = append(cuts, cut{from, to, now.text[a:b]})
				continue
			}
		}
		cuts = append(cuts, cut{len(strings.TrimRight(t.text[:from], " \t\r\n")), to, ""})
	}
	return t.text[:devices.start] + t.cutOut(devices, cuts) + t.text[devices.end:]
}

// onQ35 returns the markup of a <devices> as it can be on q35.
func (t *tree) onQ35(devices *element) string {
	var cuts []cut
	out := func(e *element) {
		from := len(strings.TrimRight(t.text[:e.start], " \t\r\n"))
		cuts = append(cuts, cut{from, e.end, ""})
	}
	taken := diskNames(devices)
	for _, d := range devices.children {
		if d.name.Local == "controller" && chipsetController(d) {
			out(d)
			continue
		}
		onIDE := d.name.Local == "disk" && d.child("target").attr("bus") == "ide"
		for _, address := range d.named("address") {
			if address.attr("type") == "pci" || onIDE {
				out(address)
			}
		}
		if !onIDE {
			continue
		}
		target := d.child("target")
		if from, to, ok := t.attrAt(target, "bus"); ok {
			cuts = append(cuts, cut{from, to, "bus='sata'"})
		}
		if from, to, ok := t.attrAt(target, "dev"); ok {
			cuts = append(cuts, cut{from, to, "dev='" + freeName(taken) + "'"})
		}
	}
	return t.cutOut(devices, cuts)
}

// chipsetController reports whether a controller belongs to the old machine.
func chipsetController(e *element) bool {
	switch e.attr("type") {
	case "pci", "ide":
		return true
	case "usb":
		return e.attr("model") != "none"
	}
	return false
}

// diskNames are the names that disks have.
func diskNames(devices *element) map[string]bool {
	taken := map[string]bool{}
	for _, d := range devices.named("disk") {
		taken[d.child("target").attr("dev")] = true
	}
	return taken
}

// freeName takes the first name that no disk has.
func freeName(taken map[string]bool) string {
	for n := 0; ; n++ {
		name := "sd" + string(rune('a'+n%26))
		if n >= 26 {
			name = "sd" + string(rune('a'+n/26-1)) + string(rune('a'+n%26))
		}
		if !taken[name] {
			taken[name] = true
			return name
		}
	}
}

// undoConversion puts the old devices back, if nobody has changed any since.
func (s step) undoConversion(t *tree, devices *element) (text, note string, err error) {
	text = t.text[:devices.start] + s.was + t.text[devices.end:]
	old, err := parse(text, "domain")
	if err == nil && old.root.child("devices") != nil {
		text = old.withPasswords(t)
		old, err = parse(text, "domain")
	}
	if err != nil || old.root.child("devices") == nil {
		return "", "", refuse("restore the domain's document from the backup that attach made", "the record of the old devices is damaged")
	}
	before := deviceList(old.onQ35(old.root.child("devices")))
	now := deviceList(t.text[devices.start:devices.end])
	for _, d := range before {
		i := slices.Index(now, d)
		if i < 0 {
			return "", "", refuse("undo that change, or restore the backup that attach made and change it there", "a device was changed or removed since the machine was converted; it was %s", d)
		}
		now = slices.Delete(now, i, i+1)
	}
	for _, d := range now {
		if !strings.HasPrefix(d, "<watchdog") && !strings.HasPrefix(d, "<audio") { // libvirt adds these by itself
			return "", "", refuse("remove it, or restore the backup that attach made and add it there", "a device was added since the machine was converted: %s", d)
		}
	}
	return text, "", nil
}

// deviceList writes each device in one form, without addresses and without the
// machine's own controllers.
func deviceList(markup string) []string {
	t, err := parse("<domain>"+markup+"</domain>", "domain")
	if err != nil {
		return nil
	}
	var all []string
	for _, d := range t.root.child("devices").children {
		if kind := d.attr("type"); d.name.Local == "controller" && (chipsetController(d) || kind == "sata") {
			continue
		}
		var b strings.Builder
		d.plain(&b, func(e *element) bool {
			return e.name.Local != "alias" && (e.name.Local != "address" || !slices.Contains(d.children, e))
		})
		all = append(all, b.String())
	}
	return all
}

// plain writes an element in one form whatever its text is: attributes sorted,
// no space. keep says which elements below it are written.
func (e *element) plain(b *strings.Builder, keep func(*element) bool) {
	full := func(n xml.Name) string { return strings.TrimPrefix(n.Space+":"+n.Local, ":") }
	b.WriteString("<" + full(e.name))
	attrs := []string{}
	for _, a := range e.attrs {
		attrs = append(attrs, " "+full(a.Name)+"='"+escape(a.Value)+"'")
	}
	slices.Sort(attrs)
	b.WriteString(strings.Join(attrs, "") + ">" + escape(e.content()))
	for _, c := range e.children {
		if keep(c) {
			c.plain(b, keep)
		}
	}
	b.WriteString("</>")
}
