//go:build e2e

package vmtest

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestAgentImage: the image that guardring makes is a CD to Debian's cloud kernel,
// and what is on it installs the agent, again, and removes it without a trace.
func TestAgentImage(t *testing.T) {
	dir := t.TempDir()
	for name, source := range map[string]string{"guardring": "../../host-agent", "guardring-guest": "../../guest-agent"} {
		build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, name), source)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v: %s", name, err, out)
		}
	}
	config := filepath.Join(dir, "guardring.yaml")
	if err := os.WriteFile(config, []byte("gateways-dir: \"\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(dir, "agent.iso")
	if out, err := exec.Command(filepath.Join(dir, "guardring"), "agent-image", image, "--config", config).CombinedOutput(); err != nil || !strings.Contains(string(out), "sh /mnt/install") {
		t.Fatalf("%v: %s", err, out)
	}
	agent, err := os.ReadFile(filepath.Join(dir, "guardring-guest"))
	if err != nil {
		t.Fatal(err)
	}
	const torrc = "SocksPort 9050\n"
	g := boot(t, Options{Name: "image", MemoryMiB: 224,
		Files: []File{{Path: "/etc/tor/torrc", Data: []byte(torrc)}, {Path: "/etc/apparmor.d", Folder: true}, {Path: "/mnt", Folder: true}},
		QEMU: []string{"-device", "virtio-scsi-pci,addr=0x11,id=scsi", "-drive", "if=none,id=cd,media=cdrom,readonly=on,format=raw,file=" + image,
			"-device", "scsi-cd,bus=scsi.0,drive=cd"}})
	for _, module := range []string{"virtio_scsi", "sr_mod", "isofs"} {
		g.must(t, "modprobe", module)
	}
	g.must(t, "sh", "-c", "i=0; until mount -t iso9660 -o ro /dev/sr0 /mnt 2>/dev/null; do i=$((i+1)); [ $i -lt 100 ] || exit 1; usleep 50000; done")
	sum := sha256.Sum256(agent)
	if got := g.must(t, "sha256sum", "/mnt/guardring-guest"); !strings.HasPrefix(got, hex.EncodeToString(sum[:])) {
		t.Errorf("the agent on the CD is another one: %s", got)
	}
	listing := g.must(t, "ls", "-ln", "/mnt")
	for _, want := range []string{"-rwxr-xr-x    1 0        0", "install", "README.txt", "guardring-guest.service", "guardring-guest.apparmor"} {
		if !strings.Contains(listing, want) {
			t.Errorf("no %q on the CD:\n%s", want, listing)
		}
	}
	// ECMA-119: the volume identifier of the primary descriptor; udev makes the link in by-label of it.
	if got := g.must(t, "dd", "if=/dev/sr0", "bs=1", "skip=32808", "count=32"); got != "GUARDRING" {
		t.Errorf("the CD's label: %q", got)
	}

	before := g.must(t, "sh", "-c", "find /etc /usr/local -type f | sort")
	g.must(t, "sh", "/mnt/install", "--dry-run")
	if after := g.must(t, "sh", "-c", "find /etc /usr/local -type f | sort"); after != before {
		t.Errorf("a dry run changed files:\n%s", after)
	}
	for range 2 {
		out := g.must(t, "sh", "/mnt/install")
		t.Log(out)
		if !strings.Contains(out, "next: do what join said") {
			t.Error("it does not say what to do next")
		}
	}
	if got := g.must(t, "cat", "/etc/tor/torrc"); !strings.Contains(got, "%include /etc/tor/guardring/default.conf") || !strings.HasSuffix(got, strings.TrimSpace(torrc)) {
		t.Errorf("torrc after install:\n%s", got)
	}
	if got := g.must(t, "ls", "-ld", "/etc/tor/guardring/default.conf"); !strings.Contains(got, "debian-t") {
		t.Errorf("the include file is not the agent's: %s", got)
	}
	if got := g.must(t, "/usr/local/bin/guardring-guest", "check-config"); !strings.Contains(got, "the configuration is good") {
		t.Error(got)
	}
	out := g.must(t, "sh", "/mnt/install", "--remove")
	t.Log(out)
	if got := g.must(t, "cat", "/etc/tor/torrc"); got != strings.TrimSpace(torrc) {
		t.Errorf("torrc after removal:\n%s", got)
	}
	if got := g.must(t, "sh", "-c", "find /etc /usr/local -name '*guardring*' -type f"); got != "" {
		t.Errorf("left behind: %s", got)
	}
}
