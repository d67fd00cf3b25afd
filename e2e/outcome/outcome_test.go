package outcome

import (
	"strings"
	"testing"

	"guardring/e2e/oracle"
)

// fp makes a fingerprint from a letter.
func fp(s string) string { return strings.Repeat(s, 40)[:40] }

func view(primary, inUse string) oracle.View {
	var v oracle.View
	for _, r := range primary {
		v.Primary = append(v.Primary, fp(string(r)))
	}
	for _, r := range inUse {
		v.InUse = append(v.InUse, fp(string(r)))
	}
	return v
}

// TestVerdict shows that each way of failing is told from success.
func TestVerdict(t *testing.T) {
	before := Snapshot{"a": view("XBC", "XB"), "b": view("XDE", "XD"), "c": view("FGH", "F")}
	rivals := []string{"a", "b"}
	for _, tc := range []struct {
		name  string
		after Snapshot
		want  string // in the faults; empty: no fault
	}{
		{"right", Snapshot{"a": view("XBC", "X"), "b": view("DEI", "DE"), "c": view("FGH", "FG")}, ""},
		{"nothing happened", before, "both hold"},
		{"both moved", Snapshot{"a": view("BCI", "B"), "b": view("DEJ", "D"), "c": view("FGH", "F")}, "not exactly one"},
		{"third moved", Snapshot{"a": view("XBC", "X"), "b": view("DEI", "D"), "c": view("GHJ", "G")}, "not exactly one"},
		{"lost more than the common one", Snapshot{"a": view("XBC", "X"), "b": view("EIJ", "E"), "c": view("FGH", "F")}, "same order"},
		{"newcomer ahead", Snapshot{"a": view("XBC", "X"), "b": view("IDE", "D"), "c": view("FGH", "F")}, "same order"},
		{"still in use", Snapshot{"a": view("XBC", "X"), "b": view("DEI", "XD"), "c": view("FGH", "F")}, "both hold"},
		{"next duplicate", Snapshot{"a": view("XBC", "X"), "b": view("DEB", "D"), "c": view("FGH", "F")}, "both hold"},
		{"cut off", Snapshot{"a": view("XBC", "X"), "b": view("DEI", ""), "c": view("FGH", "F")}, "not connected"},
	} {
		got := strings.Join(Disjoint(before, tc.after, rivals, fp("X")), "; ")
		if (tc.want == "") != (got == "") || !strings.Contains(got, tc.want) {
			t.Errorf("%s: faults %q, want %q", tc.name, got, tc.want)
		}
	}
	if f := Unchanged(before, before, rivals, fp("X")); len(f) != 0 {
		t.Errorf("unchanged: %v", f)
	}
	moved := Snapshot{"a": view("XBC", "X"), "b": view("DEI", "DE"), "c": view("FGH", "FG")}
	if f := Unchanged(before, moved, rivals, fp("X")); len(f) == 0 {
		t.Error("a moved guard passes as unchanged")
	}
}
