package vmtest

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Config is what all guests of a test have in common.
type Config struct {
	// CacheDir keeps the unpacked kernel between runs. Required; build/vm of the clone is usual.
	CacheDir string
	// Modules are kernel modules that guests have besides those that all have.
	Modules []string
	// Programs are programs of this machine that every guest has, with the libraries that they are linked to.
	Programs []string
	// Files are in every guest.
	Files []File
	// Log is told what is done; nil for silence.
	Log func(format string, args ...any)
}

// baseModules are in every guest: what rc.sh loads, a disk, the ways to a PCI device from user space, and the packet filter.
var baseModules = []string{"virtio_pci", "virtio_console", "virtio_rng", "virtio_net",
	"virtio_blk", "vfio-pci", "vfio_iommu_type1", "uio_pci_generic", "nf_tables"}

// Kit has what guests are made of. Its methods may be called by several goroutines.
type Kit struct {
	cfg    Config
	dir    string
	kernel kernel
	base   string // the archive that all guests have

	probe sync.Once
	accel accelerator

	mu     sync.Mutex
	guests []*Guest
}

//go:embed rc.sh
var rcScript []byte

// inittab is the table of busybox's init. It starts the errand runner again if that ends.
const inittab = `::sysinit:/etc/rc
::respawn:/usr/lib/vmtest/inside
::ctrlaltdel:/bin/reboot
`

// The guest's users as Debian has them; tor's user is in the gateway's files.
const (
	passwd = "root:x:0:0:root:/root:/bin/sh\ndebian-tor:x:101:101::/var/lib/tor:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n"
	groups = "root:x:0:\ntty:x:5:\ndebian-tor:x:101:\nnogroup:x:65534:\n"
)

// DebianTor is the user and group ID of Debian's Tor in guests.
const DebianTor = 101

// Prepare finds or downloads the kernel, and makes the initramfs. The caller must Close the kit.
func Prepare(ctx context.Context, cfg Config) (*Kit, error) {
	if cfg.CacheDir == "" {
		return nil, errors.New("vmtest: no CacheDir")
	}
	if cfg.Log == nil {
		cfg.Log = func(string, ...any) {}
	}
	for _, p := range []string{"qemu-system-x86_64", "busybox", "go"} {
		if _, err := exec.LookPath(p); err != nil {
			return nil, fmt.Errorf("%w (hint: make setup, as root)", err)
		}
	}
	cache, err := filepath.Abs(cfg.CacheDir)
	if err != nil {
		return nil, err
	}
	k := &Kit{cfg: cfg}
	if k.kernel, err = findKernel(ctx, cache); err != nil {
		return nil, err
	}
	if k.dir, err = os.MkdirTemp("/tmp", "vm-"); err != nil {
		return nil, err
	}
	k.base = filepath.Join(k.dir, "base.cpio")
	if err := k.makeBase(ctx); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	cfg.Log("guests run Linux %s", k.kernel.version)
	return k, nil
}

// makeBase writes the archive with busybox, the modules and what carries out commands.
func (k *Kit) makeBase(ctx context.Context) error {
	inside := k.Inside()
	build := exec.CommandContext(ctx, "go", "build", "-o", inside, "guardring/e2e/vmtest/inside")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build e2e/vmtest/inside: %w: %s", err, out)
	}
	files, err := k.baseFiles(inside)
	if err != nil {
		return err
	}
	folders := []File{{Path: "/tmp", Folder: true, Mode: os.ModeSticky | 0o777}, {Path: "/root", Folder: true, Mode: 0o700}}
	for _, d := range []string{"/proc", "/sys", "/dev", "/run", "/disk", "/var/lib", "/var/log", "/etc"} {
		folders = append(folders, File{Path: d, Folder: true})
	}
	out, err := os.Create(k.base)
	if err != nil {
		return err
	}
	return errors.Join(writeArchive(out, slices.Concat(folders, files, k.cfg.Files)), out.Close())
}

// Inside is the program that carries out commands in guests. It is static.
func (k *Kit) Inside() string { return filepath.Join(k.dir, "inside") }

func (k *Kit) baseFiles(inside string) ([]File, error) {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return nil, err
	}
	files, err := Program(busybox) // Debian has it static, and with libraries
	if err != nil {
		return nil, err
	}
	files[0].Path = "/bin/busybox"
	files = append(files, []File{
		{Path: "/init", Link: "/bin/busybox"},
		{Path: "/etc/rc", Data: rcScript, Mode: 0o755},
		{Path: "/etc/inittab", Data: []byte(inittab)},
		{Path: "/etc/passwd", Data: []byte(passwd)},
		{Path: "/etc/group", Data: []byte(groups)},
		{Path: "/usr/lib/vmtest/inside", Source: inside, Mode: 0o755},
	}...)
	applets, err := exec.Command(busybox, "--list-full").Output()
	if err != nil {
		return nil, fmt.Errorf("%s --list-full: %w", busybox, err)
	}
	for _, a := range strings.Fields(string(applets)) {
		if a != "bin/busybox" && a != "linuxrc" {
			files = append(files, File{Path: "/" + a, Link: "/bin/busybox"})
		}
	}
	for _, p := range k.cfg.Programs {
		at, err := exec.LookPath(p)
		if err != nil {
			return nil, fmt.Errorf("%w (hint: make setup, as root)", err)
		}
		needed, err := Program(at)
		if err != nil {
			return nil, err
		}
		files = append(files, needed...)
	}
	modules, err := k.kernel.modules(append(slices.Clone(baseModules), k.cfg.Modules...))
	if err != nil {
		return nil, err
	}
	dir := filepath.Join("/lib/modules", k.kernel.version)
	for _, m := range append(modules, "modules.dep", "modules.alias", "modules.builtin") {
		files = append(files, File{Path: filepath.Join(dir, m), Source: filepath.Join(k.kernel.moduleDir(), m), Mode: 0o644})
	}
	return files, nil
}

// Close ends every guest and deletes all files of the kit; the kernel stays in the cache. With KEEP_VMTEST in the environment the
// files stay.
func (k *Kit) Close() error {
	k.mu.Lock()
	guests := k.guests
	k.guests = nil
	k.mu.Unlock()
	var errs []error
	for _, g := range guests {
		errs = append(errs, g.Kill())
	}
	if os.Getenv("KEEP_VMTEST") == "" {
		errs = append(errs, os.RemoveAll(k.dir))
	}
	return errors.Join(errs...)
}
