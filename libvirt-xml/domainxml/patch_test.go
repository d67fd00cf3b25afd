package domainxml_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"guardring/libvirt-xml/domainxml"
)

const socket = "/run/guardring/gateways/gw.sock"

// variants are the ways to attach.
var variants = map[string]domainxml.Attachment{
	"plain":       {Gateway: "gw", ServerPath: socket},
	"iso":         {Gateway: "gw", ServerPath: socket, ISO: "/var/lib/guardring/agent.iso"},
	"polling":     {Gateway: "gw", ServerPath: socket, Polling: true},
	"convert":     {Gateway: "gw", ServerPath: socket, Convert: true},
	"convert-iso": {Gateway: "gw", ServerPath: socket, Convert: true, ISO: "/it's/a & b.iso"},
}

// corpus are domains as people have them: as libvirt prints them (a Whonix-Gateway
// of today and one of 2015, virt-install's Debian 12, Debian 8, one with QEMU's own
// arguments), and as only people and editors write them.
func corpus(t testing.TB) map[string]string {
	t.Helper()
	files, err := filepath.Glob("testdata/domains/*.xml")
	if err != nil || len(files) < 8 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	all := map[string]string{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(f), ".xml")] = string(b)
	}
	return all
}

// changed returns a domain of the corpus with a piece of its text replaced.
func changed(t *testing.T, name, old, new string) string {
	t.Helper()
	text := corpus(t)[name]
	if !strings.Contains(text, old) {
		t.Fatalf("%s has no %q", name, old)
	}
	return strings.Replace(text, old, new, 1)
}

func TestRefusals(t *testing.T) {
	const whonix, old = "whonix-gateway", "jessie-i440fx"
	shmem := func(name, server string) string {
		return "<devices><shmem name='" + name + "'><model type='ivshmem-doorbell'/><server path='" + server + "'/></shmem>"
	}
	for _, c := range []struct{ what, text, variant, want string }{
		{"no UUID", changed(t, whonix, "<uuid>0f4f4bd5-8a35-4f8e-9a55-5c2f1d3b7e10</uuid>", ""), "plain", "has no <uuid>"},
		{"live", changed(t, whonix, "<domain ", "<domain id='3' "), "plain", "a running domain's"},
		{"container", changed(t, whonix, "type='kvm'", "type='lxc'"), "plain", `type is "lxc"`},
		{"other processor", changed(t, whonix, "x86_64", "aarch64"), "plain", `architecture is "aarch64"`},
		{"paravirtual", changed(t, whonix, ">hvm<", ">xen<"), "plain", `<type> is "xen"`},
		{"no PCI", changed(t, whonix, "pc-q35-7.2", "microvm"), "plain", `machine "microvm"`},
		{"encrypted", changed(t, whonix, "</devices>", "</devices><launchSecurity type='sev'/>"), "plain", "encrypted (sev)"},
		{"secure boot and polling", changed(t, whonix, "<boot dev='hd'/>", "<loader secure='yes'/>"), "polling", "secure boot"},
		{"secure boot by feature", changed(t, old, "<boot dev='hd'/>", "<firmware><feature enabled='yes' name='secure-boot'/></firmware>"), "plain", "secure boot"},
		{"no ACPI", changed(t, whonix, "<acpi/>", ""), "plain", "no ACPI"},
		{"other IOMMU", changed(t, whonix, "</devices>", "<iommu model='virtio'/></devices>"), "plain", `IOMMU of model "virtio"`},
		{"IOMMU by argument", changed(t, "commandline", "virtio-balloon-pci", "intel-iommu"), "plain", "an IOMMU in <qemu:commandline>"},
		{"ours elsewhere", changed(t, whonix, "<devices>", shmem("guardring", "/tmp/x.sock")), "plain", `at the socket "/tmp/x.sock"`},
		{"another gateway's", changed(t, whonix, "<devices>", shmem("mine", "/run/guardring/gateways/web.sock")), "plain", `at a gateway's socket already, "/run/guardring/gateways/web.sock"`},
		{"converting firmware", changed(t, old, "<boot dev='hd'/>", "<loader type='pflash'>/x</loader>"), "convert", "firmware image of its own"},
		{"converting arguments", changed(t, old, "</devices>", "</devices><q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><q:arg value='x,bus=pci.0'/></q:commandline>"), "convert", "pci.0"},
		{"no devices", strings.ReplaceAll(corpus(t)["one-line"], "<devices/>", ""), "plain", "no <devices>"},
		{"not XML", "<domain>", "plain", "not well-formed"},
		{"other root", "<network/>", "plain", "found <network>"},
		{"two", "<domain/><domain/>", "plain", "second root"},
		{"nothing", " \n", "plain", "found nothing"},
		{"text outside", "<domain/>x", "plain", "text outside"},
		{"document type", "<!DOCTYPE domain [<!ENTITY a 'b'>]><domain/>", "plain", "document type"},
		{"encoding", `<?xml version="1.0" encoding="latin1"?><domain/>`, "plain", "not well-formed"},
		{"deep", strings.Repeat("<domain>", 100), "plain", "nested"},
		{"large", "<domain>" + strings.Repeat(" ", domainxml.MaxDocument), "plain", "bytes"},
	} {
		p, err := variants[c.variant].Patch(c.text)
		refused(t, c.what, err, c.want)
		if p.XML != "" {
			t.Errorf("%s: a document comes with the refusal", c.what)
		}
	}
	for want, a := range map[string]domainxml.Attachment{
		`gateway name ""`:     {ServerPath: socket},
		`server path ""`:      {Gateway: "a"},
		`server path "run/x"`: {Gateway: "a", ServerPath: "run/x"},
		`ISO "x.iso"`:         {Gateway: "a", ServerPath: socket, ISO: "x.iso"},
		"need not poll":       {Gateway: "a", ServerPath: socket, Convert: true, Polling: true},
	} {
		_, err := a.Patch(corpus(t)[whonix])
		refused(t, want, err, want)
	}
}

// refused wants a refusal with these words and a remedy.
func refused(t *testing.T, what string, err error, want string) {
	t.Helper()
	var r *domainxml.Refusal
	if !errors.As(err, &r) || r.Remedy == "" || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: want a refusal with %q and a remedy, got %v", what, want, err)
	}
}

// TestSlots: our device gets another slot where its own is taken.
func TestSlots(t *testing.T) {
	taken := func(slots ...int) string {
		var b strings.Builder
		for _, s := range slots {
			fmt.Fprintf(&b, "<sound model='ac97'><address type='pci' domain='0x0000' bus='0x00' slot='%#x' function='0x0'/></sound>", s)
		}
		return changed(t, "whonix-gateway", "<devices>", "<devices>"+b.String())
	}
	var all []int
	for s := 3; s < 0x1a; s++ {
		all = append(all, s)
	}
	for _, c := range []struct {
		text string
		want int
	}{
		{corpus(t)["whonix-gateway"], 0x10},
		{taken(0x10), 0x11},
		{taken(0x10, 0x11, 0x12), 0x13},
		{taken(all[13:]...), 3},
		{taken(all[:22]...), 0x19},
		{corpus(t)["commandline"], 0x12}, // 0x10 by a device, 0x11 by an argument
	} {
		p, err := variants["plain"].Patch(c.text)
		if err != nil || p.Slot != c.want {
			t.Errorf("slot %#x, %v; want %#x", p.Slot, err, c.want)
		}
	}
	_, err := variants["plain"].Patch(taken(all...))
	refused(t, "all slots", err, "no slot")
	if p, err := variants["plain"].Patch(strings.Replace(taken(0x10), "bus='0x00' slot='0x10'", "bus='0x01' slot='0x10'", 1)); err != nil || p.Slot != 0x10 {
		t.Errorf("a device on another bus takes the slot: %#x, %v", p.Slot, err)
	}
}

// TestPatchAnew: other values on a domain that is a gateway already.
func TestPatchAnew(t *testing.T) {
	before := corpus(t)["jessie-i440fx"]
	p, err := variants["plain"].Patch(before)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []domainxml.Attachment{
		{Gateway: "gw", ServerPath: "/run/other/gw.sock"}, variants["iso"], variants["convert"], variants["plain"], variants["polling"],
	} {
		if p, err = a.Patch(p.XML); err != nil {
			t.Fatal(err)
		}
		f, err := domainxml.Inspect(p.XML)
		if err != nil || f.ServerPath != a.ServerPath || slices.Contains(f.CDs, a.ISO) != (a.ISO != "") {
			t.Errorf("%+v gives %+v, %v", a, f, err)
		}
	}
	if f, _ := domainxml.Inspect(p.XML); !f.Converted || f.Interrupts {
		t.Errorf("converted once it must stay so, until detach; asked to poll it must: %+v", f)
	}
	back, err := domainxml.Unpatch(p.XML)
	if err != nil || back.XML != before {
		t.Errorf("%v\n%s", err, cmp.Diff(before, back.XML))
	}
	_, err = domainxml.Attachment{Gateway: "other", ServerPath: socket}.Patch(p.XML)
	refused(t, "another gateway", err, `the gateway "gw" already`)
}

// TestHandMade: a device that somebody wrote by hand stays when we go.
func TestHandMade(t *testing.T) {
	before := changed(t, "whonix-gateway", "</devices>", "  <shmem name='guardring'><model type='ivshmem-doorbell'/><server path='"+socket+"'/><msi vectors='2' ioeventfd='on'/></shmem>\n  </devices>")
	p, err := variants["plain"].Patch(before)
	if err != nil || strings.Count(p.XML, "<shmem ") != 1 || p.Slot != -1 {
		t.Fatalf("%v, slot %d", err, p.Slot)
	}
	thereAndBack(t, variants["plain"], before, p)
}

// TestChangedSince: what others have done to a gateway stays, and what cannot be
// undone is said or refused.
func TestChangedSince(t *testing.T) {
	patched := func(name, variant string) string {
		p, err := variants[variant].Patch(corpus(t)[name])
		if err != nil {
			t.Fatal(err)
		}
		return p.XML
	}
	edit := func(text, old, new string) string {
		if !strings.Contains(text, old) {
			t.Fatalf("no %q", old)
		}
		return strings.Replace(text, old, new, 1)
	}
	const disk = "<disk type='file' device='disk'><target dev='vdb' bus='virtio'/></disk>"
	whonix := patched("whonix-gateway", "plain")
	for _, c := range []struct{ what, text, keep, note string }{
		{"a disk more", edit(whonix, "</devices>", disk+"</devices>"), disk, ""},
		{"metadata of another program", edit(whonix, "</metadata>", "<a:b xmlns:a='urn:a'/></metadata>"), "<metadata><a:b xmlns:a='urn:a'/></metadata>", ""},
		{"the device gone", edit(whonix, whonix[strings.Index(whonix, "<shmem name='guardring'"):strings.Index(whonix, "</shmem>")+8], ""), "<rng", "<devices/shmem> is gone already"},
		{"the IOMMU gone", edit(whonix, whonix[strings.Index(whonix, "<iommu"):strings.Index(whonix, "</iommu>")+8], ""), "<rng", "<devices/iommu> is gone already"},
		{"a feature more", edit(patched("one-line", "plain"), "<acpi/>", "<acpi/><apic/>"), "<acpi/><apic/></features>", ""},
	} {
		back, err := domainxml.Unpatch(c.text)
		if err != nil || !strings.Contains(strings.ReplaceAll(strings.ReplaceAll(back.XML, "\n", ""), "  ", ""), c.keep) || strings.Contains(back.XML, "guardring") ||
			(c.note == "") != (len(back.Notes) == 0) || !strings.Contains(strings.Join(back.Notes, ""), c.note) {
			t.Errorf("%s: %v, notes %q\n%s", c.what, err, back.Notes, back.XML)
		}
	}
	// Where our CD was, somebody has put a disk; on its controller, another one.
	const theirs = "<disk type='file' device='disk'><source file='/data'/>TARGET<address type='drive' controller='0' bus='0' target='0' unit='0'/></disk>"
	iso := patched("whonix-gateway", "iso")
	cd := iso[strings.Index(iso, "<disk type='file' device='cdrom'"):]
	cd = cd[:strings.Index(cd, "</disk>")+len("</disk>")]
	target := cd[strings.Index(cd, "<target"):strings.Index(cd, "<readonly")]
	for what, text := range map[string]string{
		"a disk instead of the CD":     edit(iso, cd, strings.Replace(theirs, "TARGET", target, 1)),
		"a disk beside the CD":         edit(iso, "</devices>", strings.Replace(theirs, "TARGET", "<target dev='sdz' bus='scsi'/>", 1)+"</devices>"),
		"the host's device on its bus": edit(iso, "</devices>", "<hostdev mode='subsystem' type='scsi'><source file='/data'/><address type='drive' controller='0' bus='0' target='0' unit='9'/></hostdev></devices>"),
	} {
		back, err := domainxml.Unpatch(text)
		if err != nil || !strings.Contains(back.XML, "/data") || !strings.Contains(back.XML, "<controller type='scsi' index='0'") || strings.Contains(back.XML, "agent.iso") ||
			!strings.Contains(strings.Join(back.Notes, ""), "stays") {
			t.Errorf("%s: %v, notes %q\n%s", what, err, back.Notes, back.XML)
		}
	}
	converted := patched("jessie-i440fx", "convert")
	for _, c := range []struct{ what, text, want string }{
		{"a disk more after converting", edit(converted, "</devices>", disk+"</devices>"), "a device was added since"},
		{"an interface gone after converting", edit(converted, "<mac address='52:54:00:aa:bb:01'/>", "<mac address='52:54:00:aa:bb:03'/>"), "a device was changed or removed since"},
		{"no record", corpus(t)["odd"], "no gateway"},
		{"a damaged record", edit(whonix, "guardring:added", "guardring:painted"), "unknown step <painted>"},
		{"a record of what we never change", edit(whonix, `element="devices/iommu"`, `element="devices/disk"`), `unknown step <added> of "devices/disk"`},
		{"a record of another attribute", edit(converted, `attribute="machine"`, `attribute="arch"`), `unknown step <set> of "os/type"`},
		{"a record that breaks the document", edit(converted, `was="pc-i440fx-7.2"`, `was="&lt;"`), "would not be well-formed"},
		{"a record without a name", edit(whonix, `name="gw"`, `name="g w"`), "no valid name"},
		{"a record of nobody", edit(whonix, `by="attach"`, `by="me"`), "neither by attach nor by create"},
		{"damaged devices in the record", edit(converted, `was="&lt;devices`, `was="&lt;devils`), "the record of the old devices is damaged"},
	} {
		_, err := domainxml.Unpatch(c.text)
		refused(t, c.what, err, c.want)
	}
	// What libvirt adds by itself on q35 does not count as a change.
	if _, err := domainxml.Unpatch(edit(converted, "</devices>", "<watchdog model='itco' action='reset'/><controller type='sata' index='0'/></devices>")); err != nil {
		t.Error(err)
	}
	created, err := browsing.XML()
	if err != nil {
		t.Fatal(err)
	}
	_, err = domainxml.Unpatch(created)
	refused(t, "created", err, "was made as a gateway")
	_, err = domainxml.Attachment{Gateway: "browsing", ServerPath: socket}.Patch(created)
	refused(t, "created", err, "was made by guardring gateway create")
}

// TestRecordHasNoPassword: metadata are for everybody who may look at libvirt.
func TestRecordHasNoPassword(t *testing.T) {
	const one = "<graphics type='vnc' passwd='secret &quot;1&quot;' port='-1'/>"
	before := changed(t, "jessie-i440fx", "</devices>", one+"<graphics type='spice' passwd=\"secret 2\"/></devices>")
	p, err := variants["convert"].Patch(before)
	if err != nil {
		t.Fatal(err)
	}
	if record := p.XML[strings.Index(p.XML, "<guardring:gateway"):strings.Index(p.XML, "</metadata>")]; strings.Contains(record, "secret") {
		t.Errorf("it has: %s", record)
	}
	if back, err := domainxml.Unpatch(p.XML); err != nil || back.XML != before {
		t.Errorf("%v\n%s", err, domainxml.Diff("before", before, "back", back.XML))
	}
	// What is the password by now counts.
	back, err := domainxml.Unpatch(strings.Replace(p.XML, "secret 2", "another", 1))
	if err != nil || back.XML != strings.Replace(before, "secret 2", "another", 1) {
		t.Errorf("%v\n%s", err, domainxml.Diff("before", before, "back", back.XML))
	}
	back, err = domainxml.Unpatch(strings.Replace(p.XML, " passwd=\"secret 2\"", "", 1)) // as virsh dumpxml prints it
	if err != nil || back.XML != strings.Replace(before, " passwd=\"secret 2\"", "", 1) {
		t.Errorf("%v\n%s", err, domainxml.Diff("before", before, "back", back.XML))
	}
}

// TestInspect reads what create has written.
func TestInspect(t *testing.T) {
	text, err := with(browsing, func(g *domainxml.Gateway) { g.ISO, g.Title, g.Role = "/a.iso", "Web & mail", "web" }).XML()
	if err != nil {
		t.Fatal(err)
	}
	got, err := domainxml.Inspect(text)
	if err != nil {
		t.Fatal(err)
	}
	want := domainxml.Facts{
		Name: "browsing", UUID: uuid, GenID: uuid, Title: "Web & mail", Type: "kvm", Arch: "x86_64", Machine: "q35", Chipset: domainxml.Q35,
		Gateway: "browsing", Created: true, Role: "web",
		HasShmem: true, ShmemModel: "ivshmem-doorbell", ServerPath: browsing.ServerPath, Vectors: domainxml.Vectors, Slot: domainxml.Slot,
		IOMMU: "intel", Intremap: true, SplitIRQ: true, ACPI: true, Interrupts: true,
		Disks: []string{browsing.Disk}, CDs: []string{"/a.iso"}, Networks: []string{"guardring-external", "guardring-web"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// FuzzPatch: any text is refused, or patched so that it can be undone exactly.
func FuzzPatch(f *testing.F) {
	for _, text := range corpus(f) {
		f.Add(text, "/run/x.sock", true, false)
		f.Add(text, "/run/<&>.sock", false, true)
	}
	f.Fuzz(func(t *testing.T, text, iso string, convert, polling bool) {
		p, err := domainxml.Attachment{Gateway: "gw", ServerPath: socket, ISO: iso, Convert: convert, Polling: polling}.Patch(text)
		if err != nil {
			if p.XML != "" {
				t.Fatal("a document comes with an error")
			}
			var r *domainxml.Refusal
			if !errors.As(err, &r) {
				t.Fatalf("not a refusal: %v", err)
			}
			return
		}
		if strings.Contains(text, domainxml.Namespace) {
			return // its own record may be anything
		}
		back, err := domainxml.Unpatch(p.XML)
		if err != nil || back.XML != text {
			t.Fatalf("%v\n%q\n%q\n%q", err, text, p.XML, back.XML)
		}
	})
}

// FuzzUnpatch: whatever a record says, the result is refused or a document.
func FuzzUnpatch(f *testing.F) {
	for _, text := range corpus(f) {
		for _, a := range variants {
			if p, err := a.Patch(text); err == nil {
				f.Add(p.XML)
			}
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := domainxml.Unpatch(text)
		var r *domainxml.Refusal
		if err != nil {
			if p.XML != "" || !errors.As(err, &r) {
				t.Fatalf("not a refusal: %v", err)
			}
			return
		}
		if _, err := domainxml.Inspect(p.XML); err != nil && !strings.Contains(err.Error(), "record") {
			t.Fatalf("%v\n%s", err, p.XML)
		}
	})
}
