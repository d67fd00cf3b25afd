package domainxml_test

import (
	"errors"
	"flag"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"guardring/libvirt-xml/domainxml"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew; review the difference")

const uuid = "5a0e3c1e-7f2b-4d8a-9c55-0d1f6b7a9e01"

// browsing is a gateway with nothing but what must be given.
var browsing = domainxml.Gateway{
	Name: "browsing", UUID: uuid, Disk: "/var/lib/libvirt/images/browsing.qcow2", ServerPath: "/run/guardring/gateways/browsing.sock",
}

func with(g domainxml.Gateway, change func(*domainxml.Gateway)) domainxml.Gateway {
	change(&g)
	return g
}

// goldens are whole documents, by file name.
var goldens = map[string]interface{ XML() (string, error) }{
	"gateway.xml": browsing,
	"gateway-full.xml": with(browsing, func(g *domainxml.Gateway) {
		g.Title, g.Role, g.MemoryMiB, g.VCPUs = "Browsing & mail <private>", "web", 384, 2
		g.GenID = "0b1e5a0e-3c1e-4f2b-8d8a-9c550d1f6b7a"
		g.Machine, g.Firmware, g.Emulator = "pc-q35-7.2", "efi", "/usr/bin/qemu-system-x86_64"
		g.DiskFormat, g.ISO = "raw", "/var/lib/guardring/agent.iso"
		g.ExternalNetwork, g.InternalNetwork = "Whonix-External", "Whonix-Internal"
	}),
	"gateway-qemu.xml": with(browsing, func(g *domainxml.Gateway) {
		g.Type, g.Disk, g.UserNetwork = "qemu", "", "192.168.71.0/24"
		g.Kernel, g.Initrd, g.Cmdline = "/boot/vmlinuz", "/boot/initrd.img", "console=ttyS0 quiet"
	}),
	"network-external.xml": browsing.Networks()[0],
	"network-internal.xml": browsing.Networks()[1],
	"network-whonix.xml":   domainxml.Network{Name: "Whonix-External", Bridge: "virbr1", Address: netip.MustParsePrefix("10.0.2.2/24")},
}

func TestGoldens(t *testing.T) {
	for file, from := range goldens {
		got, err := from.XML()
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		golden(t, file, got)
	}
}

// golden compares with a file of testdata, and has libvirt's schema judge the text.
func golden(t *testing.T, file, got string) {
	t.Helper()
	asInFile(t, filepath.Join("testdata", file), got)
	valid(t, file, got)
}

// asInFile compares a text with the file's, or with -rewrite writes the file.
func asInFile(t *testing.T, path, got string) {
	t.Helper()
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; -rewrite writes it anew):\n%s", path, diff)
	}
}

// valid has virt-xml-validate check a document, where the machine has it.
func valid(t *testing.T, what, text string) {
	t.Helper()
	for _, tool := range []string{"virt-xml-validate", "xmllint"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Logf("%s is not checked against libvirt's schema: no %s (try: apt-get install libvirt-clients libxml2-utils)", what, tool)
			return
		}
	}
	file := filepath.Join(t.TempDir(), "document.xml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("virt-xml-validate", file).CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", what, err, out)
	}
}

// TestTheSchemaJudges shows that valid can fail.
func TestTheSchemaJudges(t *testing.T) {
	if _, err := exec.LookPath("xmllint"); err != nil {
		t.Skip("skipping, no xmllint (try: apt-get install libvirt-clients libxml2-utils)")
	}
	text, err := browsing.XML()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "document.xml")
	if err := os.WriteFile(file, []byte(strings.Replace(text, "intremap", "intermap", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command("virt-xml-validate", file).Run(); err == nil {
		t.Error("a misspelt attribute is valid")
	}
}

func TestGatewayFaults(t *testing.T) {
	for want, change := range map[string]func(*domainxml.Gateway){
		`gateway name "a/b"`:                     func(g *domainxml.Gateway) { g.Name = "a/b" },
		`role "x y"`:                             func(g *domainxml.Gateway) { g.Role = "x y" },
		`UUID "1"`:                               func(g *domainxml.Gateway) { g.UUID = "1" },
		`domain type "xen"`:                      func(g *domainxml.Gateway) { g.Type = "xen" },
		`machine "pc-i440fx-7.2"`:                func(g *domainxml.Gateway) { g.Machine = "pc-i440fx-7.2" },
		`firmware "coreboot"`:                    func(g *domainxml.Gateway) { g.Firmware = "coreboot" },
		`disk format "vmdk"`:                     func(g *domainxml.Gateway) { g.DiskFormat = "vmdk" },
		`memory of 64 MiB`:                       func(g *domainxml.Gateway) { g.MemoryMiB = 64 },
		`no disk`:                                func(g *domainxml.Gateway) { g.Disk = "" },
		`disk "images/x" is not an absolute`:     func(g *domainxml.Gateway) { g.Disk = "images/x" },
		`no server path`:                         func(g *domainxml.Gateway) { g.ServerPath = "" },
		`user network "all"`:                     func(g *domainxml.Gateway) { g.UserNetwork = "all" },
		`initrd or command line without a kern`:  func(g *domainxml.Gateway) { g.Cmdline = "quiet" },
		`title "a\uffff"`:                        func(g *domainxml.Gateway) { g.Title = "a\uffff" },
		"title \"a\\nb\"":                        func(g *domainxml.Gateway) { g.Title = "a\nb" },
		"disk format \"vmdk\"\nmemory of 64 MiB": func(g *domainxml.Gateway) { g.DiskFormat, g.MemoryMiB = "vmdk", 64 },
	} {
		_, err := with(browsing, change).XML()
		var refusal *domainxml.Refusal
		if !errors.As(err, &refusal) || refusal.Remedy == "" || !strings.Contains(err.Error(), want) {
			t.Errorf("want a refusal with %q and a remedy, got %v", want, err)
		}
	}
}

func TestNetworkFaults(t *testing.T) {
	for want, n := range map[string]domainxml.Network{
		`network name ""`:              {},
		`network name "a/b"`:           {Name: "a/b"},
		`bridge name "sixteen-letters`: {Name: "a", Bridge: "sixteen-letters."},
		`network address fd00::1/64`:   {Name: "a", Address: netip.MustParsePrefix("fd00::1/64")},
		`network address 10.0.0.1/31`:  {Name: "a", Address: netip.MustParsePrefix("10.0.0.1/31")},
	} {
		if _, err := n.XML(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
