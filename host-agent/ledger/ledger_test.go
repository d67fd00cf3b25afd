package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"guardring/shmproto"
)

var start = time.UnixMilli(1_700_000_000_000)

func step(n int) json.RawMessage { return fmt.Appendf(nil, `{"step":%d,"pad":"0123456789"}`, n) }

func lastStep(lines []json.RawMessage) int {
	last := 0
	for _, line := range lines {
		var s struct{ Step int }
		if json.Unmarshal(line, &s) == nil {
			last = max(last, s.Step)
		}
	}
	return last
}

func private(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "ledger")
}

func mustOpen(t testing.TB, path string) *Dir {
	t.Helper()
	d, err := Open(path, start)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// begin makes the ledger of term with n steps after the snapshot.
func begin(t testing.TB, d *Dir, term shmproto.Term, n int) *Ledger {
	t.Helper()
	if err := d.Claim(term); err != nil {
		t.Fatal(err)
	}
	h, err := d.Read(term)
	if err != nil {
		t.Fatal(err)
	}
	l, err := d.Create(term, h, step(lastStep(h.Lines)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	for i := range n {
		if err := l.Append(step(i + 1)); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func texts(lines []json.RawMessage) string {
	return string(bytes.Join(func() (b [][]byte) {
		for _, l := range lines {
			b = append(b, l)
		}
		return
	}(), []byte(" ")))
}

func TestRoundTripAndModes(t *testing.T) {
	path := private(t)
	d := mustOpen(t, path)
	if h, err := d.Read(1); err != nil || h.Term != 0 || h.Lines != nil {
		t.Fatalf("empty: %+v, %v", h, err)
	}
	begin(t, d, 1, 3)
	h, err := d.Read(2)
	if err != nil || h.Term != 1 || len(h.Lines) != 4 || lastStep(h.Lines) != 3 || h.Torn {
		t.Fatalf("%+v, %v", h, err)
	}
	if err := d.Claim(1); !errors.Is(err, ErrTaken) {
		t.Errorf("second claim: %v", err)
	}
	if high, err := d.Highest(); high != 1 || err != nil {
		t.Errorf("highest %d, %v", high, err)
	}
	again := mustOpen(t, path)
	if again.Epoch() != d.Epoch() {
		t.Errorf("epochs %v and %v", again.Epoch(), d.Epoch())
	}
	items, _ := os.ReadDir(path)
	for _, item := range items {
		if info, _ := item.Info(); info.Mode() != 0o600 {
			t.Errorf("%s has mode %v", item.Name(), info.Mode())
		}
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o700 {
		t.Errorf("directory has mode %v", info.Mode())
	}
	if err := os.Chmod(path, 0o750); err != nil {
		t.Fatal(err)
	}
	var pe *PermissionError
	if _, err := Open(path, start); !errors.As(err, &pe) || !strings.Contains(pe.Hint(), "chmod 0700") {
		t.Errorf("open directory readable by the group: %v", err)
	}
}

// TestRootLeavesAnothersLedgerAlone: its files would be root's, and the packaged
// coordinators, which are not root, could not open them.
func TestRootLeavesAnothersLedgerAlone(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipping, only root can give a directory away (try: sudo go test)")
	}
	path := private(t)
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]func() error{
		"open":    func() error { _, err := Open(path, start); return err },
		"rebuild": func() error { _, _, err := Rebuild(path, start); return err },
	} {
		var oe *OwnerError
		if err := open(); !errors.As(err, &oe) || !strings.Contains(oe.Hint(), "run it as") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left, err := os.ReadDir(path); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
}

// TestLateWriter: what a deposed coordinator appends after its successor has
// read its file is found by Grown, read in its place, and inherited.
func TestLateWriter(t *testing.T) {
	d := mustOpen(t, private(t))
	one := begin(t, d, 1, 1)
	two := begin(t, d, 2, 0)
	h, err := d.Read(3)
	if err != nil || texts(h.Lines) != texts([]json.RawMessage{step(1)}) {
		t.Fatalf("%s, %v", texts(h.Lines), err)
	}
	if grown, err := d.Grown(h); grown || err != nil {
		t.Fatalf("grown %v, %v", grown, err)
	}
	if err := errors.Join(one.Append(step(70)), two.Append(step(2))); err != nil {
		t.Fatal(err)
	}
	if grown, err := d.Grown(h); !grown || err != nil {
		t.Fatalf("grown %v, %v", grown, err)
	}
	h, err = d.Read(3)
	if want := texts([]json.RawMessage{step(1), step(70), step(2)}); err != nil || texts(h.Lines) != want {
		t.Fatalf("got %s, %v\nwant %s", texts(h.Lines), err, want)
	}
	if err := one.Compact(History{}, step(71)); err != nil {
		t.Fatal(err)
	}
	if grown, err := d.Grown(h); !grown || err != nil {
		t.Errorf("compacted: grown %v, %v", grown, err)
	}
	if h, err = d.Read(3); err != nil || !strings.Contains(texts(h.Lines), "71") {
		t.Errorf("compacted: %s, %v", texts(h.Lines), err)
	}
	if err := d.Sweep(2); err != nil {
		t.Fatal(err)
	}
	if h, err = d.Read(3); err != nil || texts(h.Lines) != texts([]json.RawMessage{step(1), step(2)}) {
		t.Errorf("swept: %s, %v", texts(h.Lines), err)
	}
}

// TestEveryByteDamaged flips and blanks each byte of a small ledger: the reader
// refuses it by line, or drops the last line as torn; it never returns other
// lines than were written.
func TestEveryByteDamaged(t *testing.T) {
	path := private(t)
	d := mustOpen(t, path)
	l := begin(t, d, 1, 2)
	name := l.dir.file(l.name())
	good, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	want, err := d.Read(2)
	if err != nil {
		t.Fatal(err)
	}
	lastLine := bytes.LastIndexByte(good[:len(good)-1], '\n') + 1
	for i := range good {
		for _, b := range []byte{good[i] ^ 1, good[i] ^ 0x20, good[i] ^ 0x80, 0, '\n', ' '} {
			if b == good[i] {
				continue
			}
			bad := bytes.Clone(good)
			bad[i] = b
			if err := os.WriteFile(name, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			h, err := d.Read(2)
			var ce *CorruptError
			switch {
			case errors.As(err, &ce):
				if ce.File != name || !strings.Contains(ce.Hint(), "ledger rebuild") {
					t.Fatalf("byte %d: %v", i, err)
				}
			case err != nil:
				t.Fatalf("byte %d: %v", i, err)
			case !h.Torn || i < lastLine || texts(h.Lines) != texts(want.Lines[:2]):
				t.Fatalf("byte %d of %d (last line at %d) as %q passed: %s", i, len(good), lastLine, b, texts(h.Lines))
			}
		}
	}
	// Every cut: short of the snapshot it is no ledger, later a torn one.
	for n := range good {
		if err := os.WriteFile(name, good[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		h, err := d.Read(2)
		var ce *CorruptError
		if err != nil && !errors.As(err, &ce) || err == nil && !strings.HasPrefix(texts(want.Lines), texts(h.Lines)) {
			t.Fatalf("cut at %d: %s, %v", n, texts(h.Lines), err)
		}
	}
}

func TestRebuild(t *testing.T) {
	path := private(t)
	d := mustOpen(t, path)
	l := begin(t, d, 1, 2)
	if _, _, err := Rebuild(path, start); !errors.Is(err, ErrInUse) {
		t.Fatalf("beside a coordinator: %v", err)
	}
	old := d.Epoch()
	d.Close()
	if err := os.WriteFile(l.dir.file(l.name()), []byte("junk\nmore\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := mustOpen(t, path).Read(2); err == nil {
		t.Fatal("junk was read")
	}
	path2 := private(t) // a fresh lock: the one above is held until the test ends
	if err := os.Rename(path, path2); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(path2, "lock")); err != nil {
		t.Fatal(err)
	}
	e, kept, err := Rebuild(path2, start.Add(-time.Hour))
	if err != nil || e.Compare(old) <= 0 {
		t.Fatalf("epoch %v after %v, %v", e, old, err)
	}
	if items, _ := os.ReadDir(kept); len(items) != 2 {
		t.Errorf("kept %v", items)
	}
	d2 := mustOpen(t, path2)
	h, err := d2.Read(100)
	high, _ := d2.Highest()
	if err != nil || h.Term != 0 || high != 0 || d2.Epoch() != e {
		t.Errorf("%+v, highest %d, epoch %v, %v", h, high, d2.Epoch(), err)
	}
}

func TestMissingAndDamagedEpoch(t *testing.T) {
	path := private(t)
	d := mustOpen(t, path)
	begin(t, d, 1, 0)
	for _, data := range [][]byte{nil, []byte("junk"), []byte("00000000 \"1.0000000000000000\"\n")} {
		os.Remove(filepath.Join(path, "epoch"))
		if data != nil {
			if err := os.WriteFile(filepath.Join(path, "epoch"), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var ce *CorruptError
		if _, err := Open(path, start); !errors.As(err, &ce) || !strings.HasSuffix(ce.File, "/epoch") {
			t.Errorf("%q: %v", data, err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	line := bytes.Repeat([]byte("x"), 300)
	text := fmt.Appendf(nil, `[{"pad":"%s"}]`, line)
	for name, parent := range map[string]string{"tmpfs": "/dev/shm", "disk": "/var/tmp"} {
		b.Run(name, func(b *testing.B) {
			dir, err := os.MkdirTemp(parent, "guardring-bench")
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { os.RemoveAll(dir) })
			l := begin(b, mustOpen(b, dir), 1, 0)
			b.ReportAllocs()
			for b.Loop() {
				if err := l.Append(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// FuzzParseFile: no file makes the reader panic, and what it returns can be
// written and read again.
func FuzzParseFile(f *testing.F) {
	head := `{"format":1,"epoch":"1.0000000000000001","term":1,"cut":0}`
	f.Add(appendLine(appendLine(nil, []byte(head)), []byte(`[]`)))
	f.Add([]byte("00000000 {}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parseFile("f", data)
		if err != nil {
			return
		}
		if p.size > int64(len(data)) || len(p.lines) != len(p.ends) {
			t.Fatalf("%+v", p)
		}
		for _, line := range p.lines {
			back, err := parseLine(bytes.TrimSuffix(appendLine(nil, line), []byte("\n")))
			if err != nil || !bytes.Equal(back, line) {
				t.Fatalf("%q: %q, %v", line, back, err)
			}
		}
	})
}
