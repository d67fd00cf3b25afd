package vmtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// metaPackage is the package that depends on Debian's newest cloud kernel.
const metaPackage = "linux-image-cloud-amd64"

// kernel is an unpacked kernel package.
type kernel struct {
	// root holds boot/ and lib/modules/ as the package has them, and modules.dep, which it has not.
	root, version string
}

func (k kernel) image() string { return filepath.Join(k.root, "boot", "vmlinuz-"+k.version) }

func (k kernel) moduleDir() string { return filepath.Join(k.root, "lib/modules", k.version) }

// FetchKernel makes sure that the newest cloud kernel is in the cache. Prepare does so, too, but may be called where no package mirror
// can be reached.
func FetchKernel(ctx context.Context, cacheDir string) error {
	cache, err := filepath.Abs(cacheDir)
	if err != nil {
		return err
	}
	_, err = findKernel(ctx, cache)
	return err
}

// LockCache makes the directory of a cache and locks it, until unlock or the end of this process. A second process waits for the first.
func LockCache(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		lock.Close()
		return nil, fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	return func() { lock.Close() }, nil
}

// findKernel returns the newest cloud kernel, unpacked below dir.
func findKernel(ctx context.Context, dir string) (kernel, error) {
	unlock, err := LockCache(dir)
	if err != nil {
		return kernel{}, err
	}
	defer unlock()
	name, err := newestKernel(ctx)
	if err != nil {
		if had := unpacked(dir); len(had) > 0 { // no package lists: what is there will do
			return had[len(had)-1], nil
		}
		return kernel{}, err
	}
	k := kernel{root: filepath.Join(dir, name), version: strings.TrimPrefix(name, "linux-image-")}
	if _, err := os.Stat(k.root); err == nil {
		return k, nil
	}
	return k, k.unpack(ctx, dir, name)
}

// unpacked are the kernels below dir, the newest last.
func unpacked(dir string) []kernel {
	found, err := filepath.Glob(filepath.Join(dir, "linux-image-*-cloud-amd64"))
	if err != nil {
		return nil
	}
	var out []kernel
	for _, f := range found {
		out = append(out, kernel{root: f, version: strings.TrimPrefix(filepath.Base(f), "linux-image-")})
	}
	slices.SortFunc(out, func(a, b kernel) int { return len(a.version) - len(b.version) })
	return out
}

func newestKernel(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "apt-cache", "depends", "--important", metaPackage).Output()
	if err != nil {
		return "", fmt.Errorf("apt-cache depends %s: %w (hint: apt-get update)", metaPackage, err)
	}
	for _, f := range strings.Fields(string(out)) {
		if strings.HasPrefix(f, "linux-image-") && f != metaPackage {
			return f, nil
		}
	}
	return "", fmt.Errorf("apt-cache knows no kernel of %s (hint: apt-get update)", metaPackage)
}

// unpack downloads the package with apt-get, which checks its signature, and puts it below dir under its name. It needs no root.
func (k kernel) unpack(ctx context.Context, dir, name string) error {
	tmp, err := os.MkdirTemp(dir, "unpack-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	download := []string{"apt-get", "download", "-q", name}
	if os.Geteuid() == 0 { // apt's own user cannot write into our directory, and apt would warn
		download = slices.Insert(download, 1, "-o", "APT::Sandbox::User=root")
	}
	if err := in(ctx, tmp, download...); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil || len(debs) != 1 {
		return errors.Join(fmt.Errorf("apt-get download %s left %d packages", name, len(debs)), err)
	}
	root := filepath.Join(tmp, "root")
	if err := in(ctx, tmp, "dpkg-deb", "-x", debs[0], root); err != nil {
		return err
	}
	// The package brings no modules.dep: its postinst makes one.
	if err := in(ctx, tmp, "busybox", "depmod", "-b", root, k.version); err != nil {
		return err
	}
	return os.Rename(root, k.root)
}

func in(ctx context.Context, dir string, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
	}
	return nil
}

// modules are the files of the named modules and of all that they need, relative to moduleDir.
func (k kernel) modules(names []string) ([]string, error) {
	list, err := os.ReadFile(filepath.Join(k.moduleDir(), "modules.dep"))
	if err != nil {
		return nil, err
	}
	needs, byName := map[string][]string{}, map[string]string{}
	for l := range strings.Lines(string(list)) {
		file, deps, ok := strings.Cut(strings.TrimSpace(l), ":")
		if ok {
			needs[file] = strings.Fields(deps) // all of them, also those of those
			byName[moduleName(file)] = file
		}
	}
	var out []string
	for _, n := range names {
		file, ok := byName[moduleName(n)]
		if !ok {
			return nil, fmt.Errorf("%s has no module %s", k.root, n)
		}
		out = append(append(out, file), needs[file]...)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// moduleName is the kernel's name for a module's file.
func moduleName(file string) string {
	return strings.ReplaceAll(strings.TrimSuffix(filepath.Base(file), ".ko"), "-", "_")
}
