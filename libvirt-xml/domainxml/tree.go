package domainxml

import (
	"encoding/xml"
	"strings"
)

// MaxDocument is the size in bytes of the largest document that is read, and
// maxDepth how deep its elements may be nested. libvirt's own are below a tenth.
const (
	MaxDocument = 1 << 20
	maxDepth    = 64
)

// element is one element of a document and where it lies in the text:
//
//	<disk type='file'> ... </disk>
//	^start            ^open  ^close ^end
type element struct {
	name                    xml.Name // Space is the namespace's URI
	attrs                   []xml.Attr
	start, open, close, end int
	children                []*element
	chars                   string // its own character data, without the children's
	remarks                 bool   // a comment or processing instruction is inside
}

// tree is a parsed document. The text is never changed: each edit makes a new one.
type tree struct {
	text string
	root *element
}

// parse reads a document whose root is <root>. What it refuses: more than
// MaxDocument bytes, deep nesting, a document type, another encoding than UTF-8.
func parse(text, root string) (*tree, error) {
	if len(text) > MaxDocument {
		return nil, refuse("a domain's document has some kilobytes: is this the right file?", "the document has %d bytes, more than %d", len(text), MaxDocument)
	}
	d := xml.NewDecoder(strings.NewReader(text))
	var top *element
	var stack []*element
	for len(stack) > 0 || int(d.InputOffset()) < len(text) {
		at := int(d.InputOffset())
		token, err := d.Token()
		if err != nil {
			return nil, refuse("virt-xml-validate FILE says more", "the document is not well-formed: %v", err)
		}
		now := int(d.InputOffset())
		switch t := token.(type) {
		case xml.StartElement:
			e := &element{name: t.Name, attrs: t.Copy().Attr, start: at, open: now}
			switch {
			case len(stack) == maxDepth:
				return nil, refuse("is this the right file?", "the document's elements are nested more than %d deep", maxDepth)
			case len(stack) > 0:
				up := stack[len(stack)-1]
				up.children = append(up.children, e)
			case top != nil:
				return nil, refuse("write one document into one file", "the document has a second root <%s>", t.Name.Local)
			default:
				top = e
			}
			stack = append(stack, e)
		case xml.EndElement: // of an empty <x/> it takes no text
			e := stack[len(stack)-1]
			e.close, e.end = at, now
			stack = stack[:len(stack)-1]
		case xml.CharData:
			if len(stack) > 0 {
				stack[len(stack)-1].chars += string(t)
			} else if strings.TrimSpace(string(t)) != "" {
				return nil, refuse("write one document into one file", "the document has text outside its root")
			}
		case xml.Comment, xml.ProcInst:
			if len(stack) > 0 {
				stack[len(stack)-1].remarks = true
			}
		case xml.Directive:
			return nil, refuse("libvirt's documents have none: remove it", "the document declares a document type")
		}
	}
	if top == nil || top.name != (xml.Name{Local: root}) {
		found := "nothing"
		if top != nil {
			found = "<" + top.name.Local + ">"
		}
		return nil, refuse("virsh dumpxml --inactive DOMAIN prints one", "want a document with the root <%s>, found %s", root, found)
	}
	return &tree{text, top}, nil
}

// isEmpty reports whether e is written <e/>.
func (e *element) isEmpty() bool { return e.close == e.end }

// bare reports whether nothing but space is in e.
func (e *element) bare() bool {
	return len(e.children) == 0 && !e.remarks && strings.TrimSpace(e.chars) == ""
}

// child returns the first child with a name of libvirt's own, nil if there is none.
func (e *element) child(name string) *element { return e.find(xml.Name{Local: name}) }

func (e *element) find(name xml.Name) *element {
	if e == nil {
		return nil
	}
	for _, c := range e.children {
		if c.name == name {
			return c
		}
	}
	return nil
}

// at returns the first element below e at a path such as "features/ioapic".
func (e *element) at(path string) *element {
	for _, name := range strings.Split(path, "/") {
		e = e.child(name)
	}
	return e
}

// named returns the children with a name of libvirt's own.
func (e *element) named(name string) []*element {
	var all []*element
	if e == nil {
		return nil
	}
	for _, c := range e.children {
		if c.name == (xml.Name{Local: name}) {
			all = append(all, c)
		}
	}
	return all
}

// attr returns an attribute's value, "" if there is none (or no element).
func (e *element) attr(name string) string {
	value, _ := e.lookAttr(name)
	return value
}

func (e *element) lookAttr(name string) (string, bool) {
	if e == nil {
		return "", false
	}
	for _, a := range e.attrs {
		if a.Name == (xml.Name{Local: name}) {
			return a.Value, true
		}
	}
	return "", false
}

// content returns an element's character data without space around it.
func (e *element) content() string {
	if e == nil {
		return ""
	}
	return strings.TrimSpace(e.chars)
}

// walk calls f for e and everything below it.
func (e *element) walk(f func(*element)) {
	f(e)
	for _, c := range e.children {
		c.walk(f)
	}
}

// escape returns text for an attribute in single quotes or for an element's
// content. Line breaks survive, which plain ones in attributes do not.
func escape(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "'", "&apos;", `"`, "&quot;", "\r", "&#13;", "\n", "&#10;", "\t", "&#9;").Replace(text)
}

// oneLine reports whether text can stand in a document as it is: UTF-8, no control
// characters, none that XML does not have.
func oneLine(text string) bool {
	return strings.IndexFunc(text, func(r rune) bool { return r < 0x20 || r == 0x7f || r >= 0xfffd && r <= 0xffff }) < 0
}
