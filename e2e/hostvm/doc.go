// Package hostvm boots a whole Debian host as a VM for end-to-end tests: systemd, a kernel that enforces AppArmor, audit, libvirt
// with QEMU (so machines inside are emulated by an emulated machine), and whatever packages and programs a test brings. It stands on
// e2e/vmtest, which knows how to run QEMU and to have things done inside.
//
//	image, err := hostvm.FetchImage(ctx, log.Printf)   // before namespace.Enter (testmain.Setup.Fetch): it may need the package mirror
//	kit, err := vmtest.Prepare(ctx, vmtest.Config{CacheDir: "../../build/vm", Log: log.Printf})
//	h, err := hostvm.Boot(ctx, kit, image, hostvm.Options{Name: "host", Files: []hostvm.File{{Source: "../../build/deb/guardring_…_amd64.deb", Name: "guardring.deb"}}})
//	defer h.Close()
//	mark, err := h.Mark(ctx)                           // a place in the audit log
//	out, err := h.Run(ctx, "dpkg -i /kit/guardring.deb")   // a shell script; not code 0: *vmtest.ExitError
//	r, err := h.Sh(ctx, "guardring doctor")            // with its exit code, standard output and standard error
//	err = h.Put(ctx, "/etc/guardring/gateways.d/x.yaml", text, 0o644); text, err = h.Get(ctx, "/etc/os-release")
//	err = h.Await(ctx, "the coordinator acts", "guardring status | grep -q acting")
//	denied, err := h.Denials(ctx, mark)                // what AppArmor has denied since then
//	err = h.Save(ctx, "installed"); err = h.Revert(ctx, "installed")  // the running host as it was, in a second or two
//	err = h.Reboot(ctx)
//
// A gateway (Options.Gateway) is booted once, and copied:
//
//	err = g.Freeze(ctx)                                // it ends
//	a, err := g.Thaw(ctx, "updates", socket)           // goes on where g was, with a region of its own: after some seconds
//
// Boot returns when systemd has finished: after 25 s without KVM on two calm cores. Files are read-only in /kit. Changes to the disk end
// with the host. The host has no network card but what Options.Network gives it, and that leads into the caller's network namespace only; enter one by
// package e2e/testmain. Tor is installed and does not run.
//
// Scripts run as root by sh -e, several at once if wanted; the end of a context ends the shell (not what it has left in the background).
//
// The tests of this package share one host, in states that main_test.go names: a test that is added there begins with
//
//	h, ctx := host(t, installed)
//
// and finds the host as it was when the packages had just been installed, whatever others have done to it.
//
// Without a guest system a machine inside can be exercised by its QEMU's qtest socket: e2e/hostvm/bell does it.
//
// Trust: tests run their own hosts; nothing here is hardened against them. Everything ends with the test process.
package hostvm
