//go:build e2e

package hostvm

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"guardring/e2e/vmtest"
)

// TestHost: the harness itself.
func TestHost(t *testing.T) {
	h, ctx := host(t, booted)
	r, err := h.Sh(ctx, "echo out; echo err >&2; exit 7")
	if err != nil || r != (vmtest.Result{Stdout: "out\n", Stderr: "err\n", Code: 7}) {
		t.Errorf("%+v, %v", r, err)
	}
	var exit *vmtest.ExitError
	if _, err := h.Run(ctx, "false; true"); !errors.As(err, &exit) || exit.Code != 1 {
		t.Errorf("a script goes on after a failure: %v", err)
	}
	short, cancel := context.WithTimeout(ctx, time.Second)
	if _, err := h.Sh(short, "sleep 4711"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a script without end: %v", err)
	}
	cancel()

	if err := h.Put(ctx, "/srv/new/file", []byte("\x00\xff"), 0o640); err != nil {
		t.Fatal(err)
	}
	if b, err := h.Get(ctx, "/srv/new/file"); err != nil || string(b) != "\x00\xff" {
		t.Errorf("%q, %v", b, err)
	}
	if got := must(t, h, ctx, "stat -c %a:%U /srv/new/file; systemctl is-active libvirtd auditd apparmor; cat /sys/module/apparmor/parameters/mode; echo; ls /sys/class/net"); got != "640:root\nactive\nactive\nactive\nenforce\nlo\n" {
		t.Errorf("the host is another one:\n%s", got)
	}
	if got := must(t, h, ctx, "systemctl is-active tor tor@default || true"); strings.TrimSpace(got) != "inactive\ninactive" {
		t.Errorf("tor is %q", got)
	}

	// A denial is seen, one before the mark is not.
	const profile = "profile forbidden flags=(attach_disconnected) { file, deny /etc/shadow rw, audit deny /etc/passwd w, }"
	if err := h.Put(ctx, "/run/forbidden", []byte(profile), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, h, ctx, "apparmor_parser -r /run/forbidden; ! aa-exec -p forbidden -- sh -c 'echo >>/etc/passwd'")
	mark, err := h.Mark(ctx)
	if err != nil {
		t.Fatal(err)
	}
	must(t, h, ctx, "! aa-exec -p forbidden -- sh -c 'echo >>/etc/passwd'")
	denied, err := h.Denials(ctx, mark)
	if err != nil || len(denied) != 1 || denied[0].Fields["name"] != "/etc/passwd" || denied[0].Fields["profile"] != "forbidden" || denied[0].Fields["comm"] != "sh" {
		t.Errorf("denied: %v, %v", denied, err)
	}

	began := time.Now()
	if err := h.Revert(ctx, booted); err != nil {
		t.Fatal(err)
	}
	t.Logf("put back in %.1f s", time.Since(began).Seconds())
	must(t, h, ctx, "test ! -e /srv/new/file; [ $(($(date +%s) - "+strconv.FormatInt(time.Now().Unix(), 10)+")) -lt 60 ]")
}
