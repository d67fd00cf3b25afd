//go:build e2e

package hostvm

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"guardring/e2e/namespace"
	"guardring/e2e/vmtest"
)

// programs are in every host's /kit, under their package's last name.
var programs = []string{"guardring/e2e/hostvm/trespass"}

// What all tests share: what guests are made of, and one host, which is booted once.
var (
	kit    *vmtest.Kit
	image  Image
	work   string // for files of this run
	shared *Host
)

const kernelCache = "../../build/vm"

func TestMain(m *testing.M) { os.Exit(start(m)) }

func start(m *testing.M) int {
	if os.Getuid() != 0 {
		log.Print("skipping, the image of a host is made by root (try: make test, as root)")
		return 0
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	err := prepare(ctx)
	defer end()
	if err != nil {
		log.Print(err)
		return 1
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		log.Printf("%v: ending the host", <-interrupted)
		end()
		os.Exit(1)
	}()
	return m.Run()
}

func prepare(ctx context.Context) (err error) {
	// These need the package mirror, which cannot be reached behind Enter.
	if image, err = FetchImage(ctx, log.Printf); err != nil {
		return err
	}
	if err := vmtest.FetchKernel(ctx, kernelCache); err != nil {
		return err
	}
	if err := namespace.Enter(); err != nil {
		return err
	}
	if work, err = os.MkdirTemp("/tmp", "hostvm-"); err != nil {
		return err
	}
	for _, p := range programs {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(work, filepath.Base(p)), p)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w: %s", p, err, out)
		}
	}
	kit, err = vmtest.Prepare(ctx, vmtest.Config{CacheDir: kernelCache, Log: log.Printf})
	return err
}

func end() {
	if shared != nil {
		shared.Close()
	}
	if kit != nil {
		kit.Close()
	}
	os.RemoveAll(work)
}

// States of the shared host.
const (
	booted    = "booted"    // a Debian host, libvirt has looked at its QEMU
	installed = "installed" // and our packages are installed from /kit; the guest's runs no agent
)

// bootLimit and caseLimit bound a boot with installation, and a test. A calm machine needs a third of both.
const (
	bootLimit = 6 * time.Minute
	caseLimit = 4 * time.Minute
)

var bootOnce = sync.OnceValue(func() error {
	ctx, cancel := context.WithTimeout(context.Background(), bootLimit)
	defer cancel()
	files, err := files()
	if err != nil {
		return err
	}
	if shared, err = Boot(ctx, kit, image, Options{Name: "host", Files: files}); err != nil {
		return err
	}
	log.Printf("the host has booted in %.1f s", shared.Booted().Seconds())
	began := time.Now()
	// libvirt runs QEMU a few times to see what it can, and remembers it.
	if _, err := shared.Run(ctx, "virsh domcapabilities --virttype qemu"); err != nil {
		return err
	}
	if err := shared.Save(ctx, booted); err != nil {
		return err
	}
	log.Printf("libvirt knows its QEMU after %.1f s", time.Since(began).Seconds())
	began = time.Now()
	if _, err := shared.Run(ctx, "apt-get install -q -y /kit/guardring.deb /kit/guardring-guest.deb 2>&1"); err != nil {
		return err
	}
	log.Printf("the packages are installed after %.1f s", time.Since(began).Seconds())
	return shared.Save(ctx, installed)
})

// host is the shared host in one of its states. The context bounds the test.
func host(t *testing.T, state string) (*Host, context.Context) {
	t.Helper()
	if err := bootOnce(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), caseLimit)
	t.Cleanup(cancel)
	if err := shared.Revert(ctx, state); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			r, err := shared.Sh(context.Background(), "journalctl -b --no-pager | grep -v ' audit' | tail -n 60; tail -n 20 /var/log/libvirt/qemu/*.log || true")
			t.Logf("the host's journal ends with:\n%s%v", r.Stdout, err)
		}
	})
	return shared, ctx
}

// files are the built packages, as guardring.deb and guardring-guest.deb, and the programs.
func files() ([]File, error) {
	var all []File
	for _, name := range []string{"guardring", "guardring-guest"} {
		found, err := filepath.Glob("../../build/deb/" + name + "_*_amd64.deb")
		if err != nil || len(found) != 1 {
			return nil, fmt.Errorf("the package %s: %q, %v (try: make deb)", name, found, err)
		}
		all = append(all, File{Name: name + ".deb", Source: found[0]})
	}
	for _, p := range programs {
		all = append(all, File{Name: filepath.Base(p), Source: filepath.Join(work, filepath.Base(p))})
	}
	return all, nil
}

// must runs a script that has to succeed, and returns what it says.
func must(t *testing.T, h *Host, ctx context.Context, script string) string {
	t.Helper()
	out, err := h.Run(ctx, script)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}
