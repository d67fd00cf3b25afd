package domainxml

import (
	"slices"
	"strings"
)

// An edit returns the new text. What insert puts in is removed by remove to the
// byte: insert writes directly behind an element's end, where no space is, and
// remove takes the space before an element with it.

// insertLast puts markup (lines, two spaces a level) behind the last child of parent
// that is not one of trailing, or at parent's beginning. A parent written <p/>
// is opened: opened says so.
func (t *tree) insertLast(parent *element, markup string, trailing ...string) (text string, opened bool) {
	anchor := -1
	for i, c := range parent.children {
		if c.name.Space != "" || !slices.Contains(trailing, c.name.Local) {
			anchor = i
		}
	}
	return t.insertBehind(parent, anchor, markup)
}

// insertAfterAny puts markup behind the last child with one of the names.
func (t *tree) insertAfterAny(parent *element, markup string, leading ...string) (text string, opened bool) {
	anchor := -1
	for i, c := range parent.children {
		if c.name.Space == "" && slices.Contains(leading, c.name.Local) {
			anchor = i
		}
	}
	return t.insertBehind(parent, anchor, markup)
}

// insertBehind puts markup behind the child with this index, -1 for parent's
// beginning, indented as its neighbours are.
func (t *tree) insertBehind(parent *element, anchor int, markup string) (text string, opened bool) {
	outer := t.lead(parent.start)
	inner := ""
	for _, c := range parent.children {
		if lead := t.lead(c.start); lead != "" {
			inner = lead
			break
		}
	}
	if inner == "" && outer != "" {
		inner = outer + "  "
	}
	put := inner + indent(markup, inner)
	switch {
	case parent.isEmpty():
		// <p a='b' /> becomes <p a='b' > ... </p>, so that closing it again gives the same.
		name := t.text[parent.start+1 : parent.start+1+nameLen(t.text[parent.start+1:])]
		slash := parent.open - 2
		return t.text[:slash] + ">" + put + outer + "</" + name + ">" + t.text[parent.end:], true
	case anchor < 0:
		return t.text[:parent.open] + put + t.text[parent.open:], false
	}
	at := parent.children[anchor].end
	return t.text[:at] + put + t.text[at:], false
}

// remove takes out an element and the space before it.
func (t *tree) remove(e *element) string {
	return strings.TrimRight(t.text[:e.start], " \t\r\n") + t.text[e.end:]
}

// shut writes an opened element, which has nothing in it any more, as <e/> again.
func (t *tree) shut(e *element) string {
	return t.text[:e.open-1] + "/>" + t.text[e.end:]
}

// lead is the line break before an element and the space after it: what another
// element beside it begins with. It is "" if the line has something before it.
func (t *tree) lead(start int) string {
	before := t.text[:start]
	space := before[len(strings.TrimRight(before, " \t\r\n")):]
	nl := strings.LastIndexByte(space, '\n')
	if nl < 0 {
		return ""
	}
	if nl > 0 && space[nl-1] == '\r' {
		nl--
	}
	return space[nl:]
}

// indent gives every line of markup but the first its lead; without one, all of
// it becomes one line.
func indent(markup, lead string) string {
	lines := strings.Split(markup, "\n")
	for i := range lines[1:] {
		if lead == "" {
			lines[i+1] = strings.TrimLeft(lines[i+1], " ")
		}
	}
	return strings.Join(lines, lead)
}

// setAttr gives an element's attribute a value; was is what stood between the
// quotes, had whether it was there.
func (t *tree) setAttr(e *element, name, value string) (text, was string, had bool) {
	if from, to, ok := t.attrAt(e, name); ok {
		quote := t.text[to-1]
		raw := t.text[from:to]
		open := strings.IndexByte(raw, quote)
		return t.text[:from] + raw[:open+1] + escape(value) + t.text[to-1:], raw[open+1 : len(raw)-1], true
	}
	at := e.start + 1 + nameLen(t.text[e.start+1:])
	return t.text[:at] + " " + name + "='" + escape(value) + "'" + t.text[at:], "", false
}

// restoreAttr undoes setAttr.
func (t *tree) restoreAttr(e *element, name, was string, had bool) string {
	from, to, ok := t.attrAt(e, name)
	switch {
	case !ok:
		return t.text
	case !had:
		return strings.TrimRight(t.text[:from], " \t\r\n") + t.text[to:]
	}
	raw := t.text[from:to]
	open := strings.IndexByte(raw, t.text[to-1])
	return t.text[:from] + raw[:open+1] + was + t.text[to-1:]
}

// attrAt returns where an attribute without a prefix stands in the text, from its
// name to behind its closing quote.
func (t *tree) attrAt(e *element, name string) (from, to int, ok bool) {
	at := e.start + 1 + nameLen(t.text[e.start+1:])
	for at < e.open {
		for at < e.open && strings.IndexByte(" \t\r\n", t.text[at]) >= 0 {
			at++
		}
		start := at
		n := nameLen(t.text[at:e.open])
		if n == 0 {
			return 0, 0, false // "/>" or ">"
		}
		eq := strings.IndexByte(t.text[at:e.open], '=')
		quote := strings.IndexAny(t.text[at+eq:e.open], `'"`) + at + eq
		end := strings.IndexByte(t.text[quote+1:e.open], t.text[quote]) + quote + 2
		if t.text[start:start+n] == name {
			return start, end, true
		}
		at = end
	}
	return 0, 0, false
}

// nameLen is the length of the XML name at the beginning of text.
func nameLen(text string) int {
	if n := strings.IndexAny(text, " \t\r\n/>="); n >= 0 {
		return n
	}
	return len(text)
}

// cut is a piece of the text, and what comes there instead.
type cut struct {
	from, to int
	text     string
}

// cutOut returns an element's text with every cut made. Cuts do not overlap.
func (t *tree) cutOut(e *element, cuts []cut) string {
	slices.SortFunc(cuts, func(a, b cut) int { return a.from - b.from })
	var b strings.Builder
	at := e.start
	for _, c := range cuts {
		b.WriteString(t.text[at:c.from] + c.text)
		at = c.to
	}
	return b.String() + t.text[at:e.end]
}
