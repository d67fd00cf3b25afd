// Package namespace gives a test binary a network and a view of the machine's
// files of its own. Private Tor networks have fixed loopback addresses, and
// scenarios make users, Tor instances and configuration files: neither may meet
// what the machine has, and nothing may be left when a run is killed.
package namespace

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
)

// marker tells the second start from the first.
const marker = "GUARDRING_NAMESPACE"

// written are the folders that scenarios write to. What they hold is seen, what
// is written there ends with the last process.
var written = []string{"/etc", "/var/lib"}

// Enter starts this program again, as the same process, with network and mount
// namespaces of its own: only a loopback interface, copies on write of /etc and
// /var/lib, an empty /run. It returns nil in the second start, or at once where
// we are not root: then scenarios that need root are skipped anyway.
//
// Preconditions: the process has started nothing yet.
func Enter() error {
	if os.Getuid() != 0 {
		return nil
	}
	if os.Getenv(marker) == "" {
		return again()
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("loopback interface of the namespace: %w: %s", err, out)
	}
	// A mount point that exists on every machine; it is covered in this namespace only.
	const upper = "/mnt"
	if err := syscall.Mount("none", upper, "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("mount a tmpfs on %s: %w", upper, err)
	}
	for _, dir := range written {
		top, work := filepath.Join(upper, dir, "top"), filepath.Join(upper, dir, "work")
		for _, d := range []string{top, work} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				return err
			}
		}
		if err := syscall.Mount("overlay", dir, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", dir, top, work)); err != nil {
			return fmt.Errorf("mount a copy of %s: %w", dir, err)
		}
	}
	if err := syscall.Mount("none", "/run", "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("mount a tmpfs on /run: %w", err)
	}
	return nil
}

// again never returns nil.
func again() error {
	runtime.LockOSThread() // namespaces belong to a thread until exec, which keeps the caller's
	if err := syscall.Unshare(syscall.CLONE_NEWNS | syscall.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare namespaces: %w", err)
	}
	if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	return fmt.Errorf("start %s again: %w", os.Args[0], syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), marker+"=1")))
}
