package confinement

import (
	"fmt"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"guardring/apparmor"
	"guardring/internal/checkup"
)

func TestCheckSaysWhichProfileConfinesWhich(t *testing.T) {
	s := machine(t)
	install(t, s, Options{})
	const uuid = "11111111-2222-3333-4444-555555555555"
	for pid, label := range map[int]string{
		10: apparmor.Server + " (enforce)", 11: apparmor.Coordinator + " (complain)", 12: "unconfined",
		13: "libvirt-" + uuid + " (enforce)", 14: "libvirt-other (enforce)",
	} {
		put(t, s, fmt.Sprintf("/proc/%d/attr/apparmor/current", pid), label+"\n")
	}
	lines, processes := s.Check("", []Subject{
		{Name: "server", PID: 10, Want: apparmor.Server, Remedy: "r"},
		{Name: "acting", PID: 11, Want: apparmor.Coordinator, Remedy: "r"},
		{Name: "standby", PID: 12, Want: apparmor.Coordinator, Remedy: "r"},
		{Name: "gateway found", Want: "libvirt-" + uuid, Remedy: "r"},
		{Name: "gateway wrong", PID: 14, Want: "libvirt-" + uuid, Remedy: "r"},
		{Name: "gateway any", PID: 14, Remedy: "r"},
		{Name: "gateway off", Want: "libvirt-nobody", Missing: "off"},
		{Name: "gateway gone", PID: 99, Remedy: "r"},
	})
	got := map[string]string{}
	for _, l := range lines {
		got[l.Name] = l.State.String()
	}
	want := map[string]string{
		"kernel": "pass", "file tunables/guardring": "pass", "file abstractions/guardring": "pass",
		"profile guardring-server": "pass", "profile guardring-coordinator": "pass", "profile guardring": "pass",
		"server": "pass", "acting": "warn", "standby": "fail", "gateway found": "pass", "gateway wrong": "fail",
		"gateway any": "pass", "gateway off": "skip", "gateway gone": "skip",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(processes) != 6 || processes[3] != (Process{"gateway found", 13, "libvirt-" + uuid, "enforce"}) || processes[2].Profile != "unconfined" {
		t.Errorf("%+v", processes)
	}
}

func TestCheckSeesWhatIsWrongWithTheProfiles(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*testing.T, System)
		line  string
		want  checkup.State
	}{
		"not there":  {func(t *testing.T, s System) { _ = os.Remove(s.file(apparmor.Server)) }, "profile guardring-server", checkup.Fail},
		"edited":     {func(t *testing.T, s System) { put(t, s, "/etc/apparmor.d/guardring", "# Profile of guardring\n") }, "profile guardring", checkup.Warn},
		"not loaded": {func(t *testing.T, s System) { put(t, s, "/sys/kernel/security/apparmor/profiles", "") }, "profile guardring", checkup.Fail},
		"complaining": {func(t *testing.T, s System) {
			put(t, s, "/sys/kernel/security/apparmor/profiles", "guardring (complain)\n")
		}, "profile guardring", checkup.Warn},
		"disabled": {func(t *testing.T, s System) { put(t, s, "/etc/apparmor.d/disable/guardring", "") }, "profile guardring", checkup.Warn},
		"stale": {func(t *testing.T, s System) {
			put(t, s, "/etc/apparmor.d/"+apparmor.Configured, "# Profiles of guardring\n")
		}, "file " + apparmor.Configured, checkup.Warn},
		"switched off": {func(t *testing.T, s System) { put(t, s, "/sys/module/apparmor/parameters/enabled", "N\n") }, "kernel", checkup.Fail},
	} {
		s := machine(t)
		install(t, s, Options{})
		c.spoil(t, s)
		lines, _ := s.Check("", nil)
		found := false
		for _, l := range lines {
			if l.Name == c.line {
				found = l.State == c.want && l.Remedy != ""
			}
		}
		if !found {
			t.Errorf("%s: %+v", name, lines)
		}
	}
}
