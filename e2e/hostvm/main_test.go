//go:build e2e

package hostvm

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"guardring/e2e/testmain"
	"guardring/e2e/vmtest"
)

// programs are in every host's /kit, built with kill points.
var programs = map[string]*string{"guardring/host-agent": new(string), "guardring/e2e/hostvm/bell": new(string), "guardring/e2e/hostvm/publish": new(string),
	"guardring/e2e/hostvm/trespass": new(string), "guardring/e2e/hostvm/standin": new(string), "guardring/e2e/hostvm/giver": new(string)}

// What all tests share: what guests are made of, and one host, which is booted once.
var (
	kit    *vmtest.Kit
	image  Image
	work   string // for files of this run
	shared *Host
)

const kernelCache = "../../build/vm"

func TestMain(m *testing.M) {
	// Two tests at once keep two processors busy: one has the shared host, one the gateways. The others wait for the host, each in a place of its own.
	if err := flag.Set("test.parallel", "100"); err != nil {
		log.Fatal(err)
	}
	testmain.Main(m, testmain.Setup{
		NeedsRoot:     "the image of a host is made by root",
		Fetch:         fetchAll,
		OwnNamespaces: true,
		Programs:      programs,
		Begin:         begin,
		Limit:         10 * time.Minute,
	})
}

func fetchAll(ctx context.Context) (err error) {
	if image, err = FetchImage(ctx, log.Printf); err != nil {
		return err
	}
	return vmtest.FetchKernel(ctx, kernelCache)
}

func begin(ctx context.Context, run *testmain.Run) (err error) {
	work = run.Dir
	if err := nextPackage(ctx); err != nil {
		return err
	}
	if kit, err = vmtest.Prepare(ctx, vmtest.Config{CacheDir: kernelCache, Log: log.Printf}); err != nil {
		return err
	}
	run.Defer(func() { kit.Close() })
	run.Defer(func() {
		if shared != nil {
			shared.Close()
		}
	})
	run.Defer(closeStage)
	return nil
}

// States of the shared host. Each is made once, when a test wants it, and kept as a snapshot.
const (
	booted    = "booted"    // a Debian host; libvirt has looked at its QEMU
	installed = "installed" // and our packages are installed from /kit: the host's services run; the guest's package has started nothing
	attached  = "attached"  // and two domains are gateways and have their seats: see gateways
)

// bootLimit bounds the boot, stateLimit the making of a state, caseLimit a test: what is calm takes a fifth of it, and a load of 30 nearly all.
const (
	bootLimit  = 12 * time.Minute
	stateLimit = 10 * time.Minute
	caseLimit  = 15 * time.Minute
)

// state is made from another one.
type state struct {
	from  string
	make  func(ctx context.Context, h *Host) error
	saved bool
}

var states = map[string]*state{
	booted: {make: func(ctx context.Context, h *Host) error {
		// libvirt runs QEMU a few times to see what it can, and remembers it.
		_, err := h.Run(ctx, "virsh domcapabilities --virttype qemu")
		return err
	}},
	installed: {from: booted, make: func(ctx context.Context, h *Host) error {
		_, err := h.Run(ctx, "dpkg -i /kit/guardring.deb /kit/guardring-guest.deb 2>&1")
		return err
	}},
	attached: {from: installed, make: attach},
}

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
	return nil
})

// reach puts the shared host into a state.
func reach(ctx context.Context, name string) error {
	if err := bootOnce(); err != nil {
		return err
	}
	s := states[name]
	if s.saved {
		return shared.Revert(ctx, name)
	}
	if s.from != "" {
		if err := reach(ctx, s.from); err != nil {
			return err
		}
	}
	began := time.Now()
	limit, cancel := context.WithTimeout(ctx, stateLimit)
	defer cancel()
	if err := s.make(limit, shared); err != nil {
		return fmt.Errorf("a host that is %s: %w", name, err)
	}
	if err := shared.Save(ctx, name); err != nil {
		return err
	}
	log.Printf("the host is %s after %.1f s", name, time.Since(began).Seconds())
	s.saved = true
	return nil
}

// sharing is held by the test that has the shared host.
var sharing sync.Mutex

// host is the shared host in one of its states, for this test alone until it ends; the gateways' test runs at the same time. The context bounds the test.
func host(t *testing.T, state string) (*Host, context.Context) {
	t.Helper()
	t.Parallel()
	sharing.Lock()
	t.Cleanup(sharing.Unlock)
	t.Cleanup(func() { judge(t) })
	t.Cleanup(func() {
		if t.Failed() && shared != nil {
			r, err := shared.Sh(context.Background(), "journalctl -b --no-pager | grep -v ' audit' | tail -n 60; tail -n 20 /var/log/libvirt/qemu/*.log || true")
			t.Logf("the host's journal ends with:\n%s%v", r.Stdout, err)
		}
	})
	if err := reach(t.Context(), state); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), caseLimit)
	t.Cleanup(cancel)
	return shared, ctx
}

// judge has what the coordinators of the shared host have decided held against the promises, as package rig does: see there.
func judge(t *testing.T) {
	if t.Failed() || shared == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stateLimit)
	defer cancel()
	r, err := shared.Sh(ctx, `for f in /run/guardring/host/journal/*.jsonl; do
	if test -e "$f" && command -v guardring; then guardring replay; fi
	break
done 2>&1`)
	if err != nil || r.Code != 0 && !strings.Contains(r.Stdout, "was written by another build") {
		t.Errorf("the journal is not as promised: %v, code %d\n%s", err, r.Code, r.Stdout)
	}
	t.Logf("the journal: %s", strings.TrimSpace(r.Stdout))
}

// nextPackage builds the host's package once more, as make deb does, with another version and a program that says so: work/next/debs.
func nextPackage(ctx context.Context) error {
	dir := filepath.Join(work, "next")
	script := `
for p in guardring:host-agent guardring-guest:guest-agent; do
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X guardring/internal/version.stamp=next" -o "$BUILD/amd64/${p%:*}" "./${p#*:}"
	ln -s "amd64/${p%:*}" "$BUILD/${p%:*}"
done
.ci/make-debs "$BUILD/debs" amd64`
	cmd := exec.CommandContext(ctx, "sh", "-ec", script)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "BUILD="+dir, "DEB_VERSION=1~next", "LINTIAN=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the next package: %w: %s", err, out)
	}
	return nil
}

// files are the built packages, as guardring.deb and guardring-guest.deb, the host's next one as next.deb, and the programs.
func files() ([]File, error) {
	var all []File
	for name, pattern := range map[string]string{"guardring": "../../build/deb/guardring_*_amd64.deb", "guardring-guest": "../../build/deb/guardring-guest_*_amd64.deb",
		"next": filepath.Join(work, "next/debs/guardring_*_amd64.deb")} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) != 1 {
			return nil, fmt.Errorf("package %s: %q, %v (try: make deb)", pattern, found, err)
		}
		all = append(all, File{Name: name + ".deb", Source: found[0]})
	}
	for _, path := range programs {
		all = append(all, File{Name: filepath.Base(*path), Source: *path})
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
