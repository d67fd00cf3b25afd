package consensusfile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	good, err := os.ReadFile("../../internal/consensus/testdata/microdesc.txt")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "cached-microdesc-consensus")
	f := New(path)
	put := func(text []byte) {
		t.Helper()
		// As Tor does: another file takes the name.
		if err := os.WriteFile(path+".tmp", text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".tmp", path); err != nil {
			t.Fatal(err)
		}
	}
	for i, step := range []struct {
		prepare func()
		fault   string // "": none
		doc     bool
	}{
		{func() {}, "there is no such file", false},
		{func() {}, "", false}, // said once
		{func() { put(good) }, "", true},
		{func() {}, "", false}, // has not changed
		{func() { put([]byte("nonsense\n")) }, "line 1", false},
		{func() {}, "", false},
		{func() { put(good) }, "", true},
		{func() { os.Remove(path) }, "no such file", false},
		{func() { os.Mkdir(path, 0o700) }, "is no regular file", false},
	} {
		step.prepare()
		doc, err := f.Read()
		if (err != nil) != (step.fault != "") || err != nil && !strings.Contains(err.Error(), step.fault) || (doc != nil) != step.doc {
			t.Errorf("step %d: %v, document %v, want fault %q, document %v", i, err, doc != nil, step.fault, step.doc)
		}
	}
}
