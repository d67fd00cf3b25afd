package main

import (
	"path/filepath"
	"slices"
	"testing"
)

// TestLeaveRequests: what several commands asked for close together is done, and no
// more: a signal that finds no request must not make everybody leave.
func TestLeaveRequests(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leave")
	take := func(wantAll bool, want ...string) {
		t.Helper()
		names, all, err := takeRequest(path)
		if err != nil || all != wantAll || !slices.Equal(names, want) {
			t.Errorf("names %q, all %t, %v; want %q, %t", names, all, err, want, wantAll)
		}
	}
	ask := func(names ...string) {
		t.Helper()
		if err := writeRequest(path, names); err != nil {
			t.Fatal(err)
		}
	}
	ask("web")
	take(false, "web")
	ask("web")
	ask("mail", "apps")
	take(false, "web", "mail", "apps")
	take(false)
	ask()
	take(true)
	ask("web")
	ask()
	take(true, "web")
	ask("../x")
	if _, _, err := takeRequest(path); err == nil {
		t.Error("an odd name was taken")
	}
	take(false)
}
