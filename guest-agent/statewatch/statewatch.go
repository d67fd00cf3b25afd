// Package statewatch watches Tor's state file. It is the only importer of
// github.com/fsnotify/fsnotify.
//
// Tor writes "state.tmp" and renames it over "state", up to 30 s late (600 s with
// AvoidDiskWrites), so the directory is watched and not the file; and when the
// directory itself goes away, the nearest parent that is left, until it is back.
//
// Trust: the file is the user's own Tor's. It may be missing, unreadable, of any
// size, or not a file at all (a FIFO would hang its reader): only a regular file is
// opened, and read up to a limit.
package statewatch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"guardring/internal/plainfile"

	"github.com/fsnotify/fsnotify"
)

// MaxSize is the largest state file that is read. A Tor with 60 guards in three
// selections writes some 60 KB.
const MaxSize = 1 << 20

// ErrTooLarge marks a file of more than MaxSize bytes.
var ErrTooLarge = errors.New("state file too large")

// Watch calls changed, from its own goroutine, whenever the file at path was
// replaced or written, until ctx ends. Changes that come close together may be
// told once. It also calls it when it has had to find the directory again,
// because something may have been missed. Watch returns when it watches; wait
// then waits for its end after ctx.
func Watch(ctx context.Context, path string, changed func()) (wait func(), err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", path, err)
	}
	fs, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", path, err)
	}
	w := &watcher{fs: fs, path: path, dir: filepath.Dir(path), changed: changed}
	if err := w.settle(); err != nil {
		fs.Close()
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer fs.Close()
		w.run(ctx)
	}()
	return func() { <-done }, nil
}

type watcher struct {
	fs      *fsnotify.Watcher
	path    string
	dir     string // where the file lies
	at      string // what is watched: dir, or the nearest parent that exists
	changed func()
}

// settle watches the nearest folder that exists on the way to the file.
func (w *watcher) settle() error {
	for {
		at := w.dir
		err := w.fs.Add(at)
		for errors.Is(err, os.ErrNotExist) && at != filepath.Dir(at) {
			at = filepath.Dir(at)
			err = w.fs.Add(at)
		}
		if err != nil {
			return fmt.Errorf("watch %s: %w", at, err)
		}
		if w.at != "" && w.at != at {
			_ = w.fs.Remove(w.at)
		}
		w.at = at
		if at == w.dir {
			return nil
		}
		// The next folder may have come between the two steps.
		rest, _ := filepath.Rel(at, w.dir)
		next := filepath.Join(at, strings.Split(rest, string(filepath.Separator))[0])
		if _, err := os.Stat(next); err != nil {
			return nil
		}
	}
}

func (w *watcher) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-w.fs.Events:
			if !ok {
				return
			}
			switch {
			case w.at == w.dir && e.Name == w.path && e.Op&(fsnotify.Create|fsnotify.Write|fsnotify.Rename) != 0:
				w.changed()
			case e.Name == w.at && e.Op&(fsnotify.Remove|fsnotify.Rename) != 0,
				w.at != w.dir && e.Op&fsnotify.Create != 0:
				_ = w.fs.Remove(w.at) // a renamed folder would be watched under its old name
				w.at = ""
				if err := w.settle(); err == nil && w.at == w.dir {
					w.changed()
				}
			}
		case _, ok := <-w.fs.Errors: // the kernel's queue overflowed
			if !ok {
				return
			}
			w.changed()
		}
	}
}

// Read returns the state file's text, at most MaxSize bytes.
func Read(path string) (string, error) {
	f, _, err := plainfile.Open(path)
	if err != nil {
		return "", fmt.Errorf("read the state file: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("read the state file: %w", err)
	case len(b) > MaxSize:
		return "", fmt.Errorf("%w: %s has more than %d bytes", ErrTooLarge, path, MaxSize)
	}
	return string(b), nil
}
