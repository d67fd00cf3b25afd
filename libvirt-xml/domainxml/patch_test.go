package domainxml_test

import (
	"testing"

	"guardring/libvirt-xml/domainxml"
)

func TestDiffOfNothing(t *testing.T) {
	if d := domainxml.Diff("a", "x\n", "b", "x\n"); d != "" {
		t.Errorf("same texts differ: %q", d)
	}
}
