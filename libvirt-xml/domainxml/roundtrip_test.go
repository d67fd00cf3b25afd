package domainxml_test

import (
	"encoding/xml"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"guardring/libvirt-xml/domainxml"
)

// TestThereAndBack: whatever is attached, detach gives the same bytes.
func TestThereAndBack(t *testing.T) {
	dir := t.TempDir()
	var patched []string
	defer func() { allValid(t, patched) }()
	for name, before := range corpus(t) {
		for variant, a := range variants {
			t.Run(name+"/"+variant, func(t *testing.T) {
				p, err := a.Patch(before)
				if err != nil {
					t.Fatal(err)
				}
				thereAndBack(t, a, before, p)
				file := filepath.Join(dir, name+"-"+variant+".xml")
				if err := os.WriteFile(file, []byte(p.XML), 0o600); err != nil {
					t.Fatal(err)
				}
				patched = append(patched, file)
				f, err := domainxml.Inspect(p.XML)
				if err != nil {
					t.Fatal(err)
				}
				q35 := f.Chipset == domainxml.Q35
				if f.Gateway != "gw" || f.ServerPath != socket || f.Slot != p.Slot || f.Interrupts != (q35 && !a.Polling) || p.Interrupts != f.Interrupts || a.Convert && !q35 ||
					slices.Contains(f.CDs, a.ISO) != (a.ISO != "") {
					t.Errorf("patched: %+v", f)
				}
				if len(p.Notes) == 0 || !strings.Contains(p.Notes[0], "migration") {
					t.Errorf("nothing is said of what stops working: %q", p.Notes)
				}
			})
		}
	}
}

// allValid does for many domains what virt-xml-validate does for one.
func allValid(t *testing.T, files []string) {
	const schema = "/usr/share/libvirt/schemas/domain.rng"
	if _, err := exec.LookPath("xmllint"); err != nil {
		t.Log("not checked against libvirt's schema: no xmllint (try: apt-get install libvirt-clients libxml2-utils)")
	} else if _, err := os.Stat(schema); err != nil {
		t.Log("not checked against libvirt's schema: no " + schema + " (try: apt-get install libvirt-clients)")
	} else if out, err := exec.Command("xmllint", append([]string{"--noout", "--relaxng", schema}, files...)...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// thereAndBack checks what must hold of every patch.
func thereAndBack(t *testing.T, a domainxml.Attachment, before string, p domainxml.Patched) {
	t.Helper()
	if p.XML == before {
		t.Fatal("nothing changed")
	}
	again, err := a.Patch(p.XML)
	if err != nil || again.XML != p.XML || again.Slot != p.Slot || again.Interrupts != p.Interrupts {
		t.Errorf("patched twice: %v\n%s", err, cmp.Diff(p.XML, again.XML))
	}
	back, err := domainxml.Unpatch(p.XML)
	if err != nil || len(back.Notes) > 0 {
		t.Fatalf("%v, notes %q", err, back.Notes)
	}
	if back.XML != before {
		t.Errorf("not the same bytes (-before +after):\n%s", cmp.Diff(before, back.XML))
	}
	// libvirt writes documents anew: other space, other quotes, <x/> for <x></x>.
	rewritten, err := domainxml.Unpatch(asLibvirt(t, p.XML))
	if err != nil || len(rewritten.Notes) > 0 {
		t.Fatalf("rewritten: %v, notes %q", err, rewritten.Notes)
	}
	if diff := cmp.Diff(asLibvirt(t, before), asLibvirt(t, rewritten.XML)); diff != "" {
		t.Errorf("after a rewriting (-before +after):\n%s", diff)
	}
}

// asLibvirt writes a document in one form, as libvirt does.
func asLibvirt(t *testing.T, text string) string {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	var b strings.Builder
	var depth int
	open := false // a start tag is not closed yet
	end := func() {
		if open {
			b.WriteString(">")
		}
		open = false
	}
	prefixed := func(n xml.Name) string {
		if n.Space != "" {
			return n.Space + ":" + n.Local
		}
		return n.Local
	}
	leaf := false
	for {
		token, err := d.RawToken()
		if err != nil {
			return b.String() + "\n"
		}
		switch tok := token.(type) {
		case xml.StartElement:
			end()
			fmt.Fprintf(&b, "\n%s<%s", strings.Repeat("  ", depth), prefixed(tok.Name))
			for _, a := range tok.Attr {
				b.WriteString(" " + prefixed(a.Name) + "='")
				if err := xml.EscapeText(&b, []byte(a.Value)); err != nil {
					t.Fatal(err)
				}
				b.WriteString("'")
			}
			depth++
			open, leaf = true, true
		case xml.EndElement:
			depth--
			switch {
			case open:
				b.WriteString("/>")
				open = false
			case leaf:
				b.WriteString("</" + prefixed(tok.Name) + ">")
			default:
				fmt.Fprintf(&b, "\n%s</%s>", strings.Repeat("  ", depth), prefixed(tok.Name))
			}
			leaf = false
		case xml.CharData:
			if s := strings.TrimSpace(string(tok)); s != "" {
				end()
				if err := xml.EscapeText(&b, []byte(s)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// TestOnlyAdded: a patch without converting takes nothing away. What it sets
// anew is in the record.
func TestOnlyAdded(t *testing.T) {
	allowed := map[string]int{ // lines that are replaced by another form
		"commandline": 2, // the I/O APIC's driver and the IOMMU's attributes
		"one-line":    1, // which is the whole document
		"odd":         4, // <metadata/>, <features>, <iommu/> and <memballoon/>
	}
	for name, before := range corpus(t) {
		p, err := variants["iso"].Patch(before)
		if err != nil {
			t.Fatal(err)
		}
		gone := 0
		for i, line := range strings.Split(domainxml.Diff("a", before, "b", p.XML), "\n") {
			if i > 3 && strings.HasPrefix(line, "-") {
				gone++
			}
		}
		if gone > allowed[name] {
			t.Errorf("%s: %d lines gone, want at most %d:\n%s", name, gone, allowed[name], domainxml.Diff("a", before, "b", p.XML))
		}
	}
}

// TestDiffs keeps what an administrator is shown.
func TestDiffs(t *testing.T) {
	for name, variant := range map[string]string{"whonix-gateway": "iso", "jessie-i440fx": "plain", "commandline": "plain", "odd": "iso"} {
		before := corpus(t)[name]
		p, err := variants[variant].Patch(before)
		if err != nil {
			t.Fatal(err)
		}
		got := domainxml.Diff("before", before, "after", p.XML) + "notes: " + strings.Join(p.Notes, "\nnotes: ") + "\n"
		asInFile(t, filepath.Join("testdata", "diffs", name+".diff"), got)
	}
}

func TestDiffOfNothing(t *testing.T) {
	if d := domainxml.Diff("a", "x\n", "b", "x\n"); d != "" {
		t.Errorf("same texts differ: %q", d)
	}
}
