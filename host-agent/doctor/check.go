package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"guardring/internal/checkup"
	"guardring/internal/hint"
)

// manyGateways: above this, each gateway's guards are too much of the network's.
const manyGateways = 4

// Check judges. The lines' order is that in which faults should be mended.
func Check(f Findings) checkup.Lines {
	c := &check{Findings: f}
	if f.ConfigErr != nil {
		c.Fail("configuration", orElse(hint.Of(f.ConfigErr), "guardring check-config names each fault"), "%s", f.ConfigErr)
		return c.Lines
	}
	c.Pass("configuration", "%s: %d gateways", f.Config, len(f.Gateways))
	c.number()
	c.runDir()
	c.server()
	c.coordinator()
	c.ledger()
	c.libvirt()
	for _, g := range f.Gateways {
		c.socket(g)
		c.region(g)
		c.domain(g)
		c.process(g)
		c.agent(g)
	}
	for _, d := range f.Strays {
		c.Warn("domain "+d.Name, d.Remedy, "%s", d.Fault)
	}
	c.hook()
	return c.Lines
}

type check struct {
	Findings
	checkup.Lines
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// remedy is what to do about somebody who does not answer: the error's own hint, or
// otherwise, unless it is only we who may not ask.
func remedy(err error, otherwise string) string {
	if errors.Is(err, fs.ErrPermission) {
		otherwise = "run the doctor as root"
	}
	return orElse(hint.Of(err), otherwise)
}

func (c *check) path(p string) string { return filepath.Join(c.Root, p) }

func (c *check) stat(p string) (mode fs.FileMode, uid, gid int, err error) {
	info, err := os.Lstat(c.path(p))
	if err != nil {
		return 0, 0, 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return info.Mode(), -1, -1, nil
	}
	return info.Mode(), int(st.Uid), int(st.Gid), nil
}

func (c *check) number() {
	switch n := len(c.Gateways); {
	case n == 0:
		c.Warn("gateways", "guardring gateway create NAME --disk IMAGE, or guardring gateway attach DOMAIN", "none is configured")
	case n > manyGateways:
		c.Warn("gateways", "have fewer activities apart: each gateway meets more guards, and more of them are bad ones", "%d are configured, more than %d", n, manyGateways)
	default:
		c.Pass("gateways", "%d are configured", n)
	}
}

// runDir: QEMU's user must get through, and nobody else may write there.
func (c *check) runDir() {
	for _, dir := range []string{c.RunDir, filepath.Join(c.RunDir, "gateways")} {
		mode, _, _, err := c.stat(dir)
		switch {
		case err != nil:
			c.Fail("run directory", "systemctl start guardring-server (by hand: guardring run)", "%s", err)
			return
		case !mode.IsDir():
			c.Fail("run directory", "remove it, or set run-dir", "%s is no directory", dir)
			return
		case mode.Perm()&0o022 != 0:
			c.Fail("run directory", "chmod go-w "+dir, "others can write in %s (mode %04o), and could answer in the server's place", dir, mode.Perm())
			return
		case mode.Perm()&0o011 != 0o011:
			c.Fail("run directory", "chmod 0755 "+dir, "QEMU cannot get through %s (mode %04o) to its socket", dir, mode.Perm())
			return
		}
	}
	c.Pass("run directory", "%s", c.RunDir)
}

func (c *check) server() {
	if c.Server == nil {
		c.Fail("server", remedy(c.ServerErr, "systemctl start guardring-server (by hand: guardring run); no gateway can start before"), "%v", c.ServerErr)
		return
	}
	c.Pass("server", "process %d answers", c.Server.PID)
	if c.Server.Store {
		c.Pass("descriptor store", "a restart of the server goes unnoticed")
	} else {
		c.Warn("descriptor store", "run the server as its service, guardring-server (one of your own needs FileDescriptorStoreMax, and descriptor-store: true in the configuration)",
			"without it, every gateway must be shut down and started after the server was restarted")
	}
}

func (c *check) coordinator() {
	if len(c.Coordinators) == 0 {
		c.Fail("coordinator", remedy(c.CoordinatorErr, "systemctl start guardring-coordinator guardring-standby (by hand: guardring run)"), "%v", c.CoordinatorErr)
		return
	}
	for _, x := range c.Coordinators {
		if x.LedgerFault != "" {
			c.Fail("ledger", "guardring status tells more; a damaged ledger can be made anew with guardring ledger rebuild", "%s", x.LedgerFault)
		}
	}
	for _, x := range c.Coordinators {
		if x.Acting {
			c.Pass("coordinator", "process %d acts", x.PID)
			return
		}
	}
	c.Fail("coordinator", "look into the coordinators' logs; one of those that answer should act within three heartbeats", "%d answer, and none acts", len(c.Coordinators))
}

// ledger: it lists one person's guards per activity.
func (c *check) ledger() {
	mode, _, _, err := c.stat(c.LedgerDir)
	switch {
	case os.IsNotExist(err):
		c.Skip("ledger directory", "%s is not there yet: a coordinator makes it", c.LedgerDir)
	case err != nil:
		c.Fail("ledger directory", "run the doctor as root", "%s", err)
	case mode.Perm()&0o077 != 0:
		c.Fail("ledger directory", "chmod 0700 "+c.LedgerDir, "others can look into %s (mode %04o), which lists guards per activity", c.LedgerDir, mode.Perm())
	default:
		c.Pass("ledger directory", "%s is closed to others", c.LedgerDir)
	}
}

func (c *check) libvirt() {
	l := c.Libvirt
	if l == nil {
		if c.LibvirtErr == nil {
			c.Skip("libvirt", "no gateway has a domain")
		} else {
			c.Fail("libvirt", orElse(hint.Of(c.LibvirtErr), "start libvirtd, or set libvirt-socket and libvirt-uri"), "%s", c.LibvirtErr)
		}
		return
	}
	c.Pass("libvirt", "it answers")
	if l.AppArmor {
		c.Pass("apparmor", "libvirt confines its QEMUs")
	} else {
		c.Warn("apparmor", "install AppArmor and set security_driver = \"apparmor\" in /etc/libvirt/qemu.conf", "QEMU is not confined: who breaks out of a gateway is on the host")
	}
	if l.UID == 0 {
		c.Warn("qemu's user", "set user and group in /etc/libvirt/qemu.conf", "QEMU runs as root")
	}
	switch _, _, _, err := c.stat("/dev/kvm"); {
	case l.KVM:
		c.Pass("kvm", "libvirt has it (whether a guest boots on it, only a start shows)")
	case err != nil:
		c.Warn("kvm", "turn virtualisation on in the firmware, and load kvm_intel or kvm_amd", "there is no /dev/kvm: gateways are emulated, which works and is slow")
	default:
		c.Warn("kvm", "let QEMU's user open it: group kvm, mode 0660", "there is a /dev/kvm, and libvirt cannot use it: gateways are emulated, which works and is slow")
	}
}

func (c *check) hook() {
	switch {
	case c.HookFault != "":
		c.Warn("hook", "guardring hook install", "%s: %s", c.Hook, c.HookFault)
	case c.Hook != "":
		c.Pass("hook", "%s says what is missing when a gateway starts without the server", c.Hook)
	default:
		c.Skip("hook", "none is installed: a gateway that starts without the server ends with QEMU's own words (guardring hook install)")
	}
}

// can reports whether a process with this user and group may do all that the bits
// (of 7) say.
func can(mode fs.FileMode, owner, group, uid, gid int, bits fs.FileMode) bool {
	perm := mode.Perm()
	switch {
	case uid == 0:
		return true
	case uid == owner:
		return perm>>6&bits == bits
	case gid == group:
		return perm>>3&bits == bits
	}
	return perm&bits == bits
}

func of(what string, g Gateway) string { return fmt.Sprintf("%s of %s", what, g.Name) }
