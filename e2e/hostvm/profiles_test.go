//go:build e2e

package hostvm

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// attempt is something that no program of ours has to do, and how the kernel's log names its denial.
type attempt struct {
	argument  string // of trespass
	operation string // in the log
	about     string // field in the log that tells what it was about
	is        string // its value
}

// attempts are made under each profile. sleeper is a process that nobody confines.
func attempts(sleeper string) []attempt {
	return []attempt{
		{"read=/etc/shadow", "open", "name", "/etc/shadow"},
		{"write=/etc/passwd", "open", "name", "/etc/passwd"},
		{"write=/dev/shm/memory", "open", "name", "/dev/shm/memory"},
		{"bind=/run/trespass.sock", "mknod", "name", "/run/trespass.sock"},
		{"tcp=127.0.0.1:9", "create", "family", "inet"},
		{"packet=", "create", "family", "packet"},
		{"netlink=", "create", "family", "netlink"},
		{"ptrace=" + sleeper, "ptrace", "peer", "unconfined"},
		{"kill=" + sleeper, "signal", "peer", "unconfined"},
		{"exec=/usr/bin/true", "exec", "name", "/usr/bin/true"},
	}
}

// TestProfilesDeny: each of our profiles is needed. A program under it that was taken over gets at no file, socket, network or process that it
// has no business with, and each attempt is in the log; the same program without the profile may do all of it.
func TestProfilesDeny(t *testing.T) {
	h, ctx := host(t, installed)
	sleeper := strings.TrimSpace(must(t, h, ctx, "install -m 666 /dev/null /dev/shm/memory; systemd-run --quiet --unit=sleeper sleep infinity; systemctl show -P MainPID sleeper"))
	all := attempts(sleeper)
	var arguments []string
	for _, a := range all {
		arguments = append(arguments, a.argument)
	}
	for _, profile := range []string{"guardring-server", "guardring-coordinator", "guardring", "guardring-guest"} {
		t.Run(profile, func(t *testing.T) {
			said, denied := trespass(t, h, ctx, profile, arguments)
			for _, a := range all {
				if got := said[a.argument]; got != "denied" {
					t.Errorf("%s: %s", a.argument, got)
				}
				n := slices.IndexFunc(denied, func(r Record) bool {
					return r.Fields["profile"] == profile && r.Fields["operation"] == a.operation && r.Fields[a.about] == a.is
				})
				if n < 0 {
					t.Errorf("%s: the log has no denial", a.argument)
					continue
				}
				denied = slices.Delete(denied, n, n+1)
			}
			// So nothing but the attempts was in the program's way.
			for _, r := range denied {
				t.Errorf("also denied: %v", r)
			}
		})
	}
	t.Run("no profile", func(t *testing.T) {
		said, denied := trespass(t, h, ctx, "", arguments)
		for _, a := range all {
			if got := said[a.argument]; got != "allowed" {
				t.Errorf("%s: %s", a.argument, got)
			}
		}
		if len(denied) > 0 {
			t.Errorf("denied: %v", denied)
		}
	})
}

// trespass has trespass try these things under a profile, "" for none, started by the command before it. It returns what came of each, and what AppArmor has denied meanwhile.
func trespass(t *testing.T, h *Host, ctx context.Context, profile string, arguments []string, before ...string) (said map[string]string, denied []Record) {
	t.Helper()
	mark := mark(t, h, ctx)
	command := "/kit/trespass " + strings.Join(arguments, " ")
	if profile != "" {
		command = fmt.Sprintf("aa-exec -p %s -- %s", profile, command)
	}
	said = map[string]string{}
	for line := range strings.Lines(must(t, h, ctx, strings.Join(before, " ")+command)) {
		what, came, _ := strings.Cut(strings.TrimSpace(line), " ")
		said[what] = came
	}
	denied, err := h.Denials(ctx, mark)
	if err != nil {
		t.Fatal(err)
	}
	return said, denied
}

func mark(t *testing.T, h *Host, ctx context.Context) Mark {
	t.Helper()
	m, err := h.Mark(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
