package domainxml

import (
	"encoding/xml"
	"slices"
	"strconv"
	"strings"

	"guardring/shmproto"
)

// Namespace is the XML namespace of what we leave in a domain's metadata.
const Namespace = "urn:guardring:1"

// byCreate and byAttach are the two ways in which a domain becomes a gateway.
const (
	byCreate = "create"
	byAttach = "attach"
)

// record is what a domain's metadata say about its being a gateway:
//
//	<guardring:gateway xmlns:guardring="urn:guardring:1" name="browsing" by="attach">
//	  <guardring:opened element="features"/>
//	  <guardring:added element="features/ioapic"/>
//	  <guardring:set element="os/type" attribute="machine" was="pc"/>
//	</guardring:gateway>
//
// The steps are in the order in which they were made; Unpatch undoes them from
// the last to the first.
type record struct {
	name  string // of the gateway
	role  string // only with create
	by    string // byCreate or byAttach
	steps []step
}

// step is one edit that can be undone.
type step struct {
	kind      stepKind
	path      string // from the root, such as devices/shmem
	key       string // tells the element from others of its name (keyOf); "" for the first
	attribute string // setAttr
	was       string // setAttr: raw text between the quotes; replaced: raw text of the element
	had       bool   // setAttr: the attribute was there
}

// stepKind says what a step did.
type stepKind string

const (
	added    stepKind = "added"    // the element was not there
	opened   stepKind = "opened"   // the element was empty, <x/>
	set      stepKind = "set"      // the attribute was another, or not there
	replaced stepKind = "replaced" // the element was another
)

// markup writes the record, two spaces a level.
func (r *record) markup() string {
	var b strings.Builder
	// As libxml2 writes attributes, so that libvirt's document has the same text.
	attr := func(name, value string) {
		b.WriteString(" " + name + `="` + strings.ReplaceAll(escape(value), "&apos;", "'") + `"`)
	}
	b.WriteString("<guardring:gateway")
	attr("xmlns:guardring", Namespace)
	attr("name", r.name)
	if r.role != "" {
		attr("role", r.role)
	}
	attr("by", r.by)
	if len(r.steps) == 0 {
		return b.String() + "/>"
	}
	b.WriteString(">")
	for _, s := range r.steps {
		b.WriteString("\n  <guardring:" + string(s.kind))
		attr("element", s.path)
		if s.key != "" {
			attr("key", s.key)
		}
		if s.kind == set {
			attr("attribute", s.attribute)
		}
		if s.kind == set && s.had || s.kind == replaced {
			attr("was", s.was)
		}
		b.WriteString("/>")
	}
	return b.String() + "\n</guardring:gateway>"
}

// recordOf reads a domain's record; nil if it has none.
func recordOf(root *element) (*record, *element, error) {
	e := root.child("metadata").find(xml.Name{Space: Namespace, Local: "gateway"})
	if e == nil {
		return nil, nil, nil
	}
	r := &record{name: e.attr("name"), role: e.attr("role"), by: e.attr("by")}
	bad := func(what string) error {
		return refuse("restore the domain's document from the backup that attach made", "the record in the domain's metadata (<guardring:gateway>) has been changed: %s", what)
	}
	if !shmproto.ValidName(r.name) {
		return nil, nil, bad("no valid name")
	}
	if r.by != byCreate && r.by != byAttach {
		return nil, nil, bad("neither by attach nor by create")
	}
	for _, c := range e.children {
		s := step{kind: stepKind(c.name.Local), path: c.attr("element"), key: c.attr("key"), attribute: c.attr("attribute")}
		s.was, s.had = c.lookAttr("was")
		if c.name.Space != Namespace || !s.known() {
			return nil, nil, bad("unknown step <" + c.name.Local + "> of " + strconv.Quote(s.path))
		}
		r.steps = append(r.steps, s)
	}
	return r, e, nil
}

// ours are the elements that Patch ever changes, by what it does to them. A record
// that names another was not written by us, and would have us remove that.
var ours = map[stepKind][]string{
	added:    {"metadata", "features/ioapic", "devices/iommu", "devices/iommu/driver", "devices/shmem", "devices/controller", "devices/disk"},
	opened:   {"metadata", "devices", "devices/iommu"},
	set:      {"features/ioapic driver", "devices/iommu/driver intremap", "os/type machine"},
	replaced: {"devices"},
}

// known reports whether a step is one that Patch makes.
func (s step) known() bool {
	switch what := s.path; s.kind {
	case set:
		return slices.Contains(ours[set], what+" "+s.attribute)
	case replaced:
		return s.had && slices.Contains(ours[replaced], what)
	default:
		several := what == "devices/shmem" || what == "devices/controller" || what == "devices/disk"
		return slices.Contains(ours[s.kind], what) && several == (s.key != "")
	}
}

// converted reports whether the machine was an i440fx one.
func (r *record) converted() bool {
	for _, s := range r.steps {
		if s.kind == replaced {
			return true
		}
	}
	return false
}

// target is the element that a step is about, nil if it is gone.
func (s step) target(root *element) *element {
	path, last, nested := cutLast(s.path)
	parent := root
	if nested {
		parent = root.at(path)
	}
	for _, e := range parent.named(last) {
		if s.key == "" || keyOf(e) == s.key {
			return e
		}
	}
	return nil
}

// keyOf is what tells an element from others of its name.
func keyOf(e *element) string {
	switch e.name.Local {
	case "disk":
		return e.child("target").attr("dev")
	case "controller":
		return e.attr("type") + " " + e.attr("index")
	}
	return e.attr("name")
}

func cutLast(path string) (parent, last string, nested bool) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:], true
	}
	return "", path, false
}
