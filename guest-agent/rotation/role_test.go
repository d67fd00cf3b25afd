package rotation

import "testing"

// TestRoleIsPublished: with another role the publication is another one.
func TestRoleIsPublished(t *testing.T) {
	a := newAgent(newFakeTor(8), Config{Role: "updates"})
	a.up()
	if a.last == nil || a.last.Role != "updates" {
		t.Fatalf("published %+v", a.last)
	}
	other := *a.last
	if other.Role = "apps"; samePublication(a.last, &other) {
		t.Error("a changed role is no change")
	}
	if _, err := New(Config{Member: "default", Role: "two words"}); err == nil {
		t.Error("a role that is no name is accepted")
	}
}
