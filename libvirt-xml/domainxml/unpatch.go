package domainxml

import "fmt"

// Unpatch returns a gateway's document as it was before Patch: it undoes what the
// record in the metadata says, and nothing else, so what others have changed
// since stays. The document need not be Patch's own text: libvirt may have
// written it anew. What cannot be undone because somebody has removed it is in
// the notes. Errors are a Refusal.
func Unpatch(text string) (Patched, error) {
	t, err := parse(text, "domain")
	if err != nil {
		return Patched{}, err
	}
	rec, e, err := recordOf(t.root)
	switch {
	case err != nil:
		return Patched{}, err
	case rec == nil:
		return Patched{}, refuse("guardring gateway list shows the gateways", "the domain is no gateway: its metadata have no record of it")
	case rec.by == byCreate:
		return Patched{}, refuse("guardring gateway remove "+rec.name, "the domain was made as a gateway, so there is nothing to go back to")
	}
	var p Patched
	p.XML = t.remove(e)
	for i := len(rec.steps) - 1; i >= 0; i-- {
		s := rec.steps[i]
		if t, err = parse(p.XML, "domain"); err != nil {
			return Patched{}, fmt.Errorf("undo: %w", err) // a record that has been changed
		}
		e := s.target(t.root)
		if e == nil {
			p.Notes = append(p.Notes, fmt.Sprintf("<%s> is gone already: somebody else has changed the domain", s.path))
			continue
		}
		undone, note, err := s.undo(t, e)
		if err != nil {
			return Patched{}, err
		}
		if note != "" {
			p.Notes = append(p.Notes, note)
		}
		p.XML = undone
	}
	if _, err := parse(p.XML, "domain"); err != nil {
		return Patched{}, refuse("restore the domain's document from the backup that attach made", "the record in the domain's metadata (<guardring:gateway>) has been changed: undone, the document would not be well-formed")
	}
	return p, nil
}

// undo returns the text without what a step did to e, and what is to be said.
func (s step) undo(t *tree, e *element) (text, note string, err error) {
	switch s.kind {
	case set:
		return t.restoreAttr(e, s.attribute, s.was, s.had), "", nil
	case opened:
		if e.isEmpty() || !e.bare() { // libvirt or somebody else has rewritten it
			return t.text, "", nil
		}
		return t.shut(e), "", nil
	case replaced:
		return s.undoConversion(t, e)
	}
	if s.path == "metadata" && !e.bare() {
		return t.text, "", nil // others keep something there now
	}
	if what := s.another(t, e); what != "" {
		return t.text, what + " stays: somebody else has changed the domain", nil
	}
	return t.remove(e), "", nil
}

// another names an element that has our key and is not what we have added, or not
// only ours any more; "" if there is none.
func (s step) another(t *tree, e *element) string {
	switch {
	case s.path == "devices/disk" && e.attr("device") != "cdrom":
		return "the disk " + s.key
	case s.path == "devices/controller":
		for _, d := range t.root.child("devices").children {
			if d.name.Local == "hostdev" || d.name.Local == "disk" && d.child("target").attr("bus") == "scsi" {
				if a := d.child("address"); a.attr("type") == "drive" && number(a, "controller") == number(e, "index") {
					return "the controller " + s.key + ", with a device on it that is not ours,"
				}
			}
		}
	}
	return ""
}
