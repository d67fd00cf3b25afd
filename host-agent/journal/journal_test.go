package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func begin(t *testing.T, j *Journal, header string) {
	t.Helper()
	if err := j.Begin([]byte(header)); err != nil {
		t.Fatal(err)
	}
}

func TestTwoSegmentsStay(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	j := New(dir, 100)
	if j.Ready() || !errors.Is(j.Append([]byte("x")), os.ErrClosed) {
		t.Error("ready before it was begun")
	}
	for n := range 5 {
		begin(t, j, fmt.Sprintf(`{"n":%d}`, n))
		for j.Ready() {
			if err := j.Append([]byte(strings.Repeat("x", 30))); err != nil {
				t.Fatal(err)
			}
		}
	}
	all, err := Segments(dir)
	if err != nil || len(all) != 2 || all[0].N != 4 || all[1].N != 5 {
		t.Fatalf("%v %v", all, err)
	}
	lines, torn, err := Lines(all[1].Path)
	if err != nil || torn || len(lines) != 4 || string(lines[0]) != `{"n":4}` {
		t.Errorf("%q %v %v", lines, torn, err)
	}
	for _, path := range []string{dir, all[0].Path} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: mode %v %v", path, st.Mode(), err)
		}
	}
	// Another process goes on after the highest.
	k := New(dir, 100)
	begin(t, k, "{}")
	if all, _ := Segments(dir); len(all) != 2 || all[1].N != 6 {
		t.Errorf("%v", all)
	}
}

// TestOtherFiles: what others leave in the directories is neither read nor removed;
// a history that is renamed between listing and reading is no error.
func TestOtherFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"journal.1.jsonl.new", "journal.x.jsonl", "journal.2", "2.jsonl", "web.txt", "web.jsonl", "web.old"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if s, err := Segments(dir); err != nil || len(s) != 0 {
		t.Errorf("segments %v, %v", s, err)
	}
	if err := os.Symlink(filepath.Join(dir, "renamed"), filepath.Join(dir, "apps.jsonl")); err != nil {
		t.Fatal(err)
	}
	lines, err := History(dir)
	if got := string(bytes.Join(lines, []byte(" "))); err != nil || got != "web.old 2.jsonl journal.x.jsonl web.jsonl" { // the older first
		t.Errorf("history %q, %v", got, err)
	}
}

func TestALargeFirstLineLeavesRoom(t *testing.T) {
	j := New(t.TempDir(), 100)
	begin(t, j, strings.Repeat("h", 1000))
	n := 0
	for ; j.Ready(); n++ {
		if err := j.Append([]byte("123456789")); err != nil {
			t.Fatal(err)
		}
	}
	if n != 5 {
		t.Errorf("%d lines, want half of a segment", n)
	}
}

// TestTornLines: wherever a process is killed, what was whole can be read.
func TestTornLines(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x")
	whole := "one\ntwo\nthree\n"
	for n := range len(whole) + 1 {
		if err := os.WriteFile(path, []byte(whole[:n]), 0o600); err != nil {
			t.Fatal(err)
		}
		lines, torn, err := Lines(path)
		if err != nil || len(lines) != strings.Count(whole[:n], "\n") || torn != (n > 0 && whole[n-1] != '\n') {
			t.Errorf("%q: %q %v %v", whole[:n], lines, torn, err)
		}
	}
}

func TestHistoryIsBoundedForEachGatewayAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "history")
	if err := Note(dir, "victim", []byte(`{"n":1}`)); err != nil {
		t.Fatal(err)
	}
	line := []byte(strings.Repeat("h", 1000))
	for range 2000 {
		if err := Note(dir, "hostile", line, line); err != nil {
			t.Fatal(err)
		}
	}
	sum := int64(0)
	items, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range items {
		st, err := item.Info()
		if err != nil {
			t.Fatal(err)
		}
		sum += st.Size()
	}
	if sum > 2*HistorySize+5000 {
		t.Errorf("%d bytes", sum)
	}
	lines, err := History(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, l := range lines {
		if string(l) == `{"n":1}` {
			found++
		}
	}
	if found != 1 || len(lines) < HistorySize/1001 {
		t.Errorf("the other gateway's line is there %d times among %d", found, len(lines))
	}
}

func TestNoteGoesOnAfterATornLine(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.jsonl"), []byte("one\nhal"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Note(dir, "a", []byte("two")); err != nil {
		t.Fatal(err)
	}
	lines, err := History(dir)
	if err != nil || len(lines) != 3 || string(lines[2]) != "two" {
		t.Errorf("%q %v", lines, err)
	}
}

// TestFullDisk writes to a device that is always full.
func TestFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("skipping, no /dev/full")
	}
	j := &Journal{dir: t.TempDir(), size: 100, f: full, limit: 100}
	if err := j.Append([]byte("x")); err == nil || j.Ready() {
		t.Errorf("a line is in a full file: %v, ready %v", err, j.Ready())
	}
	begin(t, j, "{}")
	if !j.Ready() {
		t.Error("does not come back")
	}
}

func TestNothingThere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	if s, err := Segments(dir); s != nil || err != nil {
		t.Error(s, err)
	}
	if l, err := History(dir); l != nil || err != nil {
		t.Error(l, err)
	}
}

// TestWhatIsNoFile: the folders are the coordinators', and root reads them. A FIFO in
// them had kept "guardring explain" and "replay" waiting for ever.
func TestWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "web.jsonl")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := History(dir)
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%v", err)
		}
	case <-time.After(time.Minute):
		t.Error("waits for who would write into a FIFO")
	}
}
