package domainxml

import (
	"fmt"
	"strings"

	"guardring/shmproto"
)

// Attachment is what makes a gateway of a domain that exists.
type Attachment struct {
	Gateway    string // the gateway's name (shmproto.ValidName)
	ServerPath string // the gateway's socket of the guardring server; absolute
	ISO        string // path of an image that is put in as a CD; "" for none
	Convert    bool   // make a q35 machine of an i440fx one
	Polling    bool   // only the device, no IOMMU: the guest's agent polls
}

// Patched is the outcome of Patch and Unpatch.
type Patched struct {
	XML        string   // the document as it should be; the one given if nothing is to do
	Slot       int      // Patch: of our device on the root bus
	Interrupts bool     // Patch: the guest can be interrupted; else its agent polls
	Notes      []string // what an administrator should know, a sentence each
}

// what stops working with any ivshmem device, because QEMU cannot move it.
const noMigration = "while the device is there, virsh save, managedsave, snapshots with memory and migration of this domain do not work"

// Patch returns the document of a domain (virsh dumpxml --inactive) as it should
// be so that the domain is a.Gateway: our device, and where the machine allows it
// an IOMMU, so that the guest can be interrupted. Nothing else changes. A document
// that is patched already is patched anew if something differs, and else returned
// as it is. Errors are a Refusal, or several joined.
func (a Attachment) Patch(text string) (Patched, error) {
	if err := a.validate(); err != nil {
		return Patched{}, err
	}
	t, err := parse(text, "domain")
	if err != nil {
		return Patched{}, err
	}
	before, _, err := recordOf(t.root)
	if err != nil {
		return Patched{}, err
	}
	if before != nil {
		if before.name != a.Gateway {
			return Patched{}, refuse("guardring gateway detach "+before.name, "the domain is the gateway %q already", before.name)
		}
		if before.by == byCreate {
			return Patched{}, refuse("nothing needs to be attached", "the domain was made by guardring gateway create")
		}
		if a.done(t.root, before) {
			f := factsOf(t.root, before)
			return Patched{XML: text, Slot: f.Slot, Interrupts: f.Interrupts}, nil
		}
		a.Convert = a.Convert || before.converted()
		without, err := Unpatch(text)
		if err != nil {
			return Patched{}, err
		}
		text = without.XML
		if t, err = parse(text, "domain"); err != nil {
			return Patched{}, err
		}
	}
	if err := a.admissible(t.root); err != nil {
		return Patched{}, err
	}
	p := patching{tree: t, rec: record{name: a.Gateway, by: byAttach}}
	p.notes = append(p.notes, noMigration)
	a.steps(&p)
	if p.err != nil {
		return Patched{}, p.err
	}
	f := factsOf(p.tree.root, &p.rec)
	if !f.Interrupts {
		p.notes = append(p.notes, "the guest cannot be interrupted: its agent looks for changes by itself, at most once a second when idle")
	}
	return Patched{XML: p.tree.text, Slot: f.Slot, Interrupts: f.Interrupts, Notes: p.notes}, nil
}

func (a Attachment) validate() error {
	var faults []error
	if !shmproto.ValidName(a.Gateway) {
		faults = append(faults, refuse("write "+shmproto.NameRule, "gateway name %q", a.Gateway))
	}
	for _, p := range []struct{ what, path string }{{"server path", a.ServerPath}, {"ISO", a.ISO}} {
		if p.what == "ISO" && p.path == "" {
			continue
		}
		if !strings.HasPrefix(p.path, "/") || !oneLine(p.path) {
			faults = append(faults, refuse("begin it with /", "%s %q is not an absolute path", p.what, p.path))
		}
	}
	if a.Convert && a.Polling {
		faults = append(faults, refuse("leave out one of the two", "a machine is converted so that it need not poll"))
	}
	return joined(faults)
}

// done reports whether a document has all that a asks for and nothing else of
// ours, whatever libvirt has added to it.
func (a Attachment) done(root *element, rec *record) bool {
	shmem := ourShmem(root)
	if shmem == nil || shmem.child("model").attr("type") != "ivshmem-doorbell" || shmem.child("server").attr("path") != a.ServerPath ||
		number(shmem.child("msi"), "vectors") != Vectors {
		return false
	}
	iso, virtual := "", false
	for _, s := range rec.steps {
		switch {
		case s.kind == added && s.path == "devices/disk":
			iso = s.target(root).child("source").attr("file")
		case strings.HasPrefix(s.path, "devices/iommu") || s.path == "features/ioapic":
			virtual = true
		}
	}
	f := factsOf(root, rec)
	return iso == a.ISO && !(a.Polling && virtual) && !(a.Convert && f.Chipset != Q35) && (f.Interrupts || a.Polling || f.Chipset != Q35)
}

// patching is a document on its way, with what was done so far.
type patching struct {
	tree  *tree
	rec   record
	notes []string
	err   error // the first; nothing is done after it
}

// edited takes over the text that an edit has made.
func (p *patching) edited(text string, s step) {
	t, err := parse(text, "domain")
	if err != nil {
		p.err = fmt.Errorf("%s %s: %w", s.kind, s.path, err) // our own mistake
		return
	}
	p.tree = t
	p.rec.steps = append(p.rec.steps, s)
}

// add puts an element below parent, a path.
func (p *patching) add(parent, name, key string, insert func(t *tree, parent *element) (string, bool)) {
	if p.err != nil {
		return
	}
	text, open := insert(p.tree, p.tree.root.at(parent))
	if open {
		p.rec.steps = append(p.rec.steps, step{kind: opened, path: parent})
	}
	p.edited(text, step{kind: added, path: parent + "/" + name, key: key})
}

// last inserts behind all children but those that libvirt writes later.
func last(markup string, later ...string) func(*tree, *element) (string, bool) {
	return func(t *tree, parent *element) (string, bool) { return t.insertLast(parent, markup, later...) }
}

// behind inserts behind the last of the children that libvirt writes earlier.
func behind(markup string, earlier ...string) func(*tree, *element) (string, bool) {
	return func(t *tree, parent *element) (string, bool) { return t.insertAfterAny(parent, markup, earlier...) }
}

// set gives an element's attribute a value.
func (p *patching) set(path, attribute, value string) {
	e := p.tree.root.at(path)
	if p.err != nil || e.attr(attribute) == value {
		return
	}
	text, was, had := p.tree.setAttr(e, attribute, value)
	p.edited(text, step{kind: set, path: path, attribute: attribute, was: was, had: had})
}
