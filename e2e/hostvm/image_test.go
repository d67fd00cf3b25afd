package hostvm

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Two that want an image at once make it once, whole; a build that fails leaves none.
func TestFetch(t *testing.T) {
	cache := filepath.Join(t.TempDir(), "cache")
	broken := errors.New("no mirror")
	if _, err := fetch(cache, "one", func(string) error { return broken }); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	var builds atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			i, err := fetch(cache, "one", func(dir string) error {
				builds.Add(1)
				return os.WriteFile(filepath.Join(dir, "disk"), []byte("whole"), 0o600)
			})
			if err != nil {
				t.Error(err)
				return
			}
			if b, err := os.ReadFile(i.disk()); err != nil || string(b) != "whole" {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
	all.Wait()
	if builds.Load() != 1 {
		t.Errorf("it was made %d times", builds.Load())
	}
}

// What nobody has used for long goes, and what a killed run has left.
func TestFetchTidies(t *testing.T) {
	cache := t.TempDir()
	long := time.Now().Add(-keep - time.Hour)
	for _, name := range []string{"old", "recent", "new-123"} {
		if err := os.Mkdir(filepath.Join(cache, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(filepath.Join(cache, "old"), long, long); err != nil {
		t.Fatal(err)
	}
	if _, err := fetch(cache, "one", func(string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(cache)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := []string{"lock", "one", "recent"}; !slices.Equal(left, want) {
		t.Errorf("left are %q, want %q", left, want)
	}
}

func TestAptSources(t *testing.T) {
	etc := t.TempDir()
	for name, text := range map[string]string{
		"os-release":                     "ID=debian\nVERSION_CODENAME=bookworm\n",
		"apt/sources.list":               "# deb http://mirror bookworm main\n",
		"apt/sources.list.d/a.list":      "deb [signed-by=/x] http://mirror bookworm main contrib\n",
		"apt/sources.list.d/b.sources":   "Types: deb\nURIs: http://mirror\nSuites: bookworm bookworm-updates\n",
		"apt/sources.list.d/c.sources":   "Types: deb\nURIs: http://other\nSuites: nodistro\n",
		"apt/sources.list.d/d.list":      "deb http://other cloud-sdk-bookworm main\n",
		"apt/sources.list.d/e.list.save": "deb http://mirror bookworm main\n",
	} {
		file := filepath.Join(etc, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	suite, files, err := aptSources(etc)
	want := []string{filepath.Join(etc, "apt/sources.list.d/a.list"), filepath.Join(etc, "apt/sources.list.d/b.sources")}
	if err != nil || suite != "bookworm" || !slices.Equal(files, want) {
		t.Errorf("%q, %q, %v", suite, files, err)
	}
	if err := os.RemoveAll(filepath.Join(etc, "apt/sources.list.d")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := aptSources(etc); err == nil {
		t.Error("no source, and no error")
	}
}
