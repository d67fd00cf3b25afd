package doctor

import (
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/dustin/go-humanize/english"
)

// socket: it must be as configured, and QEMU must be able to connect.
func (c *check) socket(g Gateway) {
	name := of("socket", g)
	if c.Server == nil {
		c.Skip(name, "no server runs")
		return
	}
	if !g.Served {
		c.Fail(name, "guardring gateway reload; guardring check-config, if it has faults", "the server does not serve the gateway")
		return
	}
	mode, uid, gid, err := c.stat(g.Socket)
	switch {
	case err != nil:
		c.Fail(name, "restart the server: somebody has removed the socket", "%s", err)
	case mode.Type() != fs.ModeSocket:
		c.Fail(name, "remove it and restart the server", "%s is no socket", g.Socket)
	case g.UID >= 0 && uid != g.UID || g.GID >= 0 && gid != g.GID || uint32(mode.Perm()) != g.Mode:
		c.Fail(name, "guardring gateway reload; see the server's log", "%s has owner %d:%d and mode %04o, configured are %s and %04o",
			g.Socket, uid, gid, mode.Perm(), owner(g), g.Mode)
	case c.Libvirt != nil && g.HasUUID && c.Libvirt.UID >= 0 && !can(mode, uid, gid, c.Libvirt.UID, c.Libvirt.GID, 0o6):
		c.Fail(name, fmt.Sprintf("write into the gateway's file: group: %d, mode: 0660", c.Libvirt.GID), "QEMU runs as %d:%d and may not connect to %s (owner %d:%d, mode %04o)",
			c.Libvirt.UID, c.Libvirt.GID, g.Socket, uid, gid, mode.Perm())
	case mode.Perm()&0o007 != 0:
		c.Warn(name, "mode: 0660 in the gateway's file", "everybody can try to take the gateway's seat (mode %04o)", mode.Perm())
	default:
		c.Pass(name, "owner %d:%d, mode %04o", uid, gid, mode.Perm())
	}
}

func owner(g Gateway) string {
	part := func(n int) string {
		if n < 0 {
			return "the server's"
		}
		return fmt.Sprint(n)
	}
	return part(g.UID) + ":" + part(g.GID)
}

// region: the coordinators can read it, and its guest keeps to the protocol.
func (c *check) region(g Gateway) {
	switch name := of("region", g); {
	case c.Server == nil || !g.Served:
		c.Skip(name, "the gateway is not served")
	case g.Fault != "":
		c.Fail(name, "look into the coordinator's log; a coordinator and a server of different builds do not always fit", "%s", g.Fault)
	case g.Quarantined != "":
		c.Fail(name, "look into the gateway: its agent is broken, or somebody has taken it over", "the gateway breaks the protocol and gets no orders: %s", g.Quarantined)
	default:
		c.Pass(name, "guest seat %s", orElse(g.Seat, "unknown"))
	}
}

func (c *check) domain(g Gateway) {
	name, d := of("domain", g), g.Domain
	switch {
	case !g.HasUUID:
		c.Warn(name, "add domain: UUID to the gateway's configuration (virsh domuuid NAME)", "the configuration does not say whose QEMU may take its seat: whoever may open the socket can")
	case c.Libvirt == nil:
		c.Skip(name, "libvirt does not answer")
	case d.Name == "":
		c.Fail(name, orElse(d.Remedy, "guardring gateway remove "+g.Name), "libvirt has no domain with its UUID")
	case d.Fault != "":
		c.Fail(name, d.Remedy, "%s: %s", d.Name, d.Fault)
	case d.KVM && !c.Libvirt.KVM:
		c.Fail(name, "mend KVM, or change the domain's type to qemu (virsh edit "+d.Name+")", "%s is of type kvm, and libvirt has no KVM: it cannot start", d.Name)
	case !d.Interrupts:
		c.Warn(name, "guardring gateway attach "+d.Name+" --convert, if it is an i440fx machine", "%s is %s; its guest cannot be interrupted, so its agent polls", d.Name, d.State)
	default:
		c.Pass(name, "%s is %s", d.Name, d.State)
	}
}

// process: who holds the guest seat.
func (c *check) process(g Gateway) {
	name := of("process", g)
	if g.PID == 0 {
		c.Skip(name, "nobody has the guest seat")
		return
	}
	proc := fmt.Sprintf("/proc/%d", g.PID)
	_, uid, gid, err := c.stat(proc)
	if err != nil {
		c.Skip(name, "process %d has just ended", g.PID)
		return
	}
	label := c.label(proc)
	switch l := c.Libvirt; {
	case g.HasUUID && strings.HasPrefix(label, "libvirt-") && !strings.HasPrefix(strings.ToLower(label), "libvirt-"+g.Domain.UUID):
		c.Fail(name, "shut both domains down and start them: the server has checked this since domain: was configured", "process %d has the seat and is another domain's (%s)", g.PID, label)
	case g.HasUUID && l != nil && l.UID >= 0 && uid != l.UID:
		c.Warn(name, "shut the domain down and start it", "process %d runs as %d:%d, libvirt's QEMUs as %d:%d", g.PID, uid, gid, l.UID, l.GID)
	case g.HasUUID && l != nil && l.AppArmor && !strings.HasPrefix(label, "libvirt-"):
		c.Warn(name, "look for a <seclabel> in the domain", "process %d is not confined by libvirt's profile (%s)", g.PID, orElse(label, "no label"))
	default:
		c.Pass(name, "process %d, user %d, %s", g.PID, uid, orElse(label, "no AppArmor label"))
	}
}

// label is the AppArmor label of a process, "" without AppArmor.
func (c *check) label(proc string) string {
	for _, name := range []string{"apparmor/current", "current"} {
		if b, err := os.ReadFile(c.path(proc + "/attr/" + name)); err == nil {
			return strings.TrimRight(string(b), "\n\x00")
		}
	}
	return ""
}

// agent: a device that nobody uses protects nothing.
func (c *check) agent(g Gateway) {
	switch name := of("agent", g); {
	case g.PID == 0:
		c.Skip(name, "nobody has the guest seat")
	case len(c.Coordinators) == 0:
		c.Skip(name, "no coordinator answers")
	case g.Members == 0 && g.Away == 0:
		c.Warn(name, "install it in the gateway (guardring gateway create or attach --with-agent puts a CD in); guardring-guest doctor tells more there", "the gateway runs, and its agent has never been heard of")
	case g.Members == 0:
		c.Warn(name, "look into the gateway: guardring-guest doctor", "the gateway runs, and its agent has not been heard of since it started")
	default:
		c.Pass(name, "it shows %s", english.Plural(g.Members, "Tor", ""))
	}
}
