// Package vmtest boots real QEMU guests for end-to-end tests: Debian's own cloud kernel from its package, an initramfs that is
// made here (busybox, kernel modules, whatever files a test adds), and a command channel into the guest.
//
//	kit, err := vmtest.Prepare(ctx, vmtest.Config{CacheDir: "../../build/vm", Log: t.Logf})
//	g, err := kit.Boot(ctx, vmtest.Options{Name: "one", Region: "/run/…/one.sock", IOMMU: true,
//		Files: []vmtest.File{{Path: "/usr/bin/guardring-guest", Source: "build/guardring-guest", Mode: 0o755}}})
//	defer g.Close()
//	out, err := g.Run(ctx, "guardring-guest", "prepare")
//	g.Reboot(ctx)            // inside one QEMU
//	g.Pause(); g.Resume()    // by QMP
//	g.Kill(); g.Start(ctx)   // another QEMU, the same guest
//
// Boot returns when the guest answers commands, 3 to 4 seconds after QEMU's start without KVM. Commands run as root; several may
// run at once; a command with a trailing & in `sh -c` goes on by itself. The guest's /sbin/modprobe works for every module of
// Config.Modules and what those need (VFIO and uio are among the defaults). The ivshmem device is at 0000:00:10.0.
//
// What runs in the guest to carry out commands is e2e/vmtest/inside, built by Prepare with the go command.
//
// Options.System boots a whole system from disks instead, by the same means: e2e/hostvm stands on it.
//
// Trust: tests run their own guests; nothing here is hardened against them. Every QEMU dies with the test process, is ended by
// Close, and never gets a network card that leads out of the machine.
package vmtest
