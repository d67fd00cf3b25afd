package hostvm

import "testing"

func TestParseRecord(t *testing.T) {
	const line = `type=AVC msg=audit(1795290713.888:85): apparmor="DENIED" operation="open" profile="libvirt-1" name=2F746D702F612062 pid=535 comm="qemu system" requested_mask="rw" fsuid=0` + "\x1d" + `FSUID="root"`
	r := parseRecord(line)
	for name, want := range map[string]string{"apparmor": "DENIED", "operation": "open", "profile": "libvirt-1", "name": "/tmp/a b", "pid": "535",
		"comm": "qemu system", "requested_mask": "rw", "FSUID": "root"} {
		if got := r.Fields[name]; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if r.Type != "AVC" || r.Text != line {
		t.Errorf("%+v", r)
	}
	// What programs say of themselves stands in single quotes.
	if r := parseRecord(`type=USER msg=audit(1.2:3): pid=1 uid=0 msg='text=hostvm-1 exe="/usr/sbin/auditctl" res=success'`); r.Fields["res"] != "success" || r.Type != "USER" {
		t.Errorf("%+v", r)
	}
}
