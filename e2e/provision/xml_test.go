//go:build e2e

package provision

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// corpus are domains as people have them, which domainxml's own tests use too.
const corpus = "../../libvirt-xml/domainxml/testdata/domains/*.xml"

// TestLibvirtThereAndBack: what `guardring xml patch` makes of a domain is taken by
// libvirt; undone, and taken again, the domain is what it was, byte for byte.
func TestLibvirtThereAndBack(t *testing.T) {
	files, err := filepath.Glob(corpus)
	if err != nil || len(files) == 0 {
		t.Fatalf("no corpus: %v", err)
	}
	variants := map[string][]string{
		"plain": nil, "iso": {"--iso", "/images/a.iso"}, "polling": {"--polling"}, "convert": {"--convert"}, "convert-iso": {"--convert", "--iso", "/images/a.iso"},
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".xml")
		before := define(t, anyMachine(string(text)))
		for variant, flags := range variants {
			t.Run(name+"/"+variant, func(t *testing.T) {
				attached := define(t, patch(t, before, flags...))
				if want := "<shmem name='guardring'>"; !strings.Contains(attached, want) {
					t.Errorf("libvirt's document has no %s", want)
				}
				if again := patch(t, attached, flags...); again != attached {
					t.Errorf("attached twice:\n%s", firstDifference(attached, again))
				}
				if after := define(t, patch(t, attached, "--undo")); after != before {
					t.Errorf("not what it was (-before +after):\n%s", firstDifference(before, after))
				}
			})
		}
		undefine(t, before)
	}
}

// TestLibvirtTakesNewGateways: domain and networks of `guardring xml`.
func TestLibvirtTakesNewGateways(t *testing.T) {
	for name, args := range map[string][]string{
		"plain": {"--disk", "/images/x.qcow2", "--type", "qemu"},
		"full": {"--disk", "/images/x.raw", "--disk-format", "raw", "--type", "qemu", "--iso", "/images/a.iso", "--memory", "384", "--vcpus", "2", "--title", "a & b",
			"--user-network", "192.168.71.0/24", "--external-network", "Whonix-External", "--internal-network", "Whonix-Internal"},
		"kernel": {"--kernel", "/boot/vmlinuz", "--initrd", "/boot/initrd", "--cmdline", "quiet", "--type", "qemu"},
	} {
		t.Run(name, func(t *testing.T) {
			dumped := define(t, xml(t, append([]string{"gateway", "xml-" + name}, args...)...))
			defer undefine(t, dumped)
			for _, want := range []string{"<ioapic driver='qemu'/>", "<driver intremap='on' caching_mode='on'/>", "slot='0x10'", `name="xml-` + name + `"`} {
				if !strings.Contains(dumped, want) {
					t.Errorf("libvirt's document has no %s:\n%s", want, dumped)
				}
			}
		})
	}
	for i, only := range []string{"external", "internal"} {
		text := xml(t, "networks", "xml-net", "--only", only, "--external-network", "xml-external", "--address", fmt.Sprintf("10.88.%d.1/24", i))
		file := filepath.Join(t.TempDir(), "network.xml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := daemon.Virsh("qemu:///system", "net-define", "--validate", file); err != nil {
			t.Errorf("%s: %v: %s", only, err, out)
			continue
		}
		if _, err := daemon.Virsh("qemu:///system", "net-undefine", map[string]string{"external": "xml-external", "internal": "guardring-xml-net"}[only]); err != nil {
			t.Error(err)
		}
	}
}

// firstDifference is the first line in which two documents differ.
func firstDifference(before, after string) string {
	a, b := strings.Split(before, "\n"), strings.Split(after, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("line %d\n-%s\n+%s", i+1, a[i], b[i])
		}
	}
	return fmt.Sprintf("%d and %d lines", len(a), len(b))
}

var (
	uuidOf      = regexp.MustCompile(`<uuid>([0-9a-f-]{36})</uuid>`)
	passthrough = regexp.MustCompile(`<cpu mode=.host-passthrough.[^>]*/>`)
)

// anyMachine takes out of a domain what only machines with KVM can define.
func anyMachine(text string) string {
	text = regexp.MustCompile(`type ?= ?["']kvm["']`).ReplaceAllString(text, `type="qemu"`)
	return passthrough.ReplaceAllString(text, "")
}

// define has libvirt check and take a document, and returns what it makes of it.
func define(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "domain.xml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := daemon.Virsh("qemu:///system", "define", "--validate", file); err != nil {
		t.Fatalf("define: %v: %s\n%s", err, out, text)
	}
	dumped, err := daemon.Virsh("qemu:///system", "dumpxml", "--inactive", uuid(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return dumped
}

func undefine(t *testing.T, text string) {
	t.Helper()
	if _, err := daemon.Virsh("qemu:///system", "undefine", uuid(t, text)); err != nil {
		t.Error(err)
	}
}

func uuid(t *testing.T, text string) string {
	t.Helper()
	m := uuidOf.FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no UUID in\n%s", text)
	}
	return m[1]
}

// patch is `guardring xml patch` of a document.
func patch(t *testing.T, text string, flags ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "domain.xml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return xml(t, append([]string{"patch", "gw", file}, flags...)...)
}

func xml(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(binary, append([]string{"xml"}, args...)...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("guardring xml %q: %v: %s", args, err, said.String())
	}
	return string(out)
}
