package statussock_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"guardring/internal/statussock"
)

// patience bounds what would else hang for ever.
const patience = time.Minute

func dir(t *testing.T) string {
	t.Helper()
	d, err := os.MkdirTemp("/tmp", "statussock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(d) })
	return d
}

func serve(t *testing.T, path string, document func() any) (stop func()) {
	t.Helper()
	l, err := statussock.Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	l.SetReaderTime(time.Hour) // what ends sooner has not waited for a reader
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Serve(ctx, document) }()
	var stopped bool
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func TestServeAndFetch(t *testing.T) {
	path := filepath.Join(dir(t), "s")
	var calls int
	stop := serve(t, path, func() any { calls++; return map[string]int{"calls": calls} })
	for want := 1; want <= 3; want++ {
		b, err := statussock.Fetch(path, "server", patience)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]int
		if err := json.Unmarshal(b, &got); err != nil || got["calls"] != want {
			t.Fatalf("%s: %v", b, err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	stop()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket stayed: %v", err)
	}
}

func TestFetchErrorsSayWhatToDo(t *testing.T) {
	d := dir(t)
	stale := filepath.Join(d, "stale")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	silent := filepath.Join(d, "silent")
	l, err = net.ListenUnix("unix", &net.UnixAddr{Name: silent})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	half := filepath.Join(d, "half")
	h, err := net.Listen("unix", half)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	go func() {
		for {
			c, err := h.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, `{"gateways": [`)
			_ = c.Close()
		}
	}()
	for path, want := range map[string]string{
		filepath.Join(d, "missing"): "is server running?",
		stale:                       "is server running?",
		silent:                      "did not answer within",
		half:                        "no complete JSON document",
	} {
		limit := patience
		if path == silent {
			limit = 100 * time.Millisecond
		}
		_, err := statussock.Fetch(path, "server", limit)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}

func TestListenOnBadPaths(t *testing.T) {
	d := dir(t)
	file := filepath.Join(d, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	live := filepath.Join(d, "live")
	serve(t, live, func() any { return nil })
	for path, want := range map[string]string{
		file:                                  "not a socket",
		live:                                  "another process listens there",
		filepath.Join(d, "none", "s"):         "no such file",
		"/tmp/" + strings.Repeat("long/", 25): "at most 107",
	} {
		_, err := statussock.Listen(path, 0o600)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("the file is gone: %v", err)
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(dir(t), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	serve(t, path, func() any { return 1 })
	if _, err := statussock.Fetch(path, "server", patience); err != nil {
		t.Fatal(err)
	}
}

// Readers that take nothing neither stop others nor the end of serving.
func TestReadersThatNeverRead(t *testing.T) {
	path := filepath.Join(dir(t), "s")
	big := strings.Repeat("x", 8<<20) // more than a socket's buffer takes
	stop := serve(t, path, func() any { return big })
	for range 3 {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if _, err := statussock.Fetch(path, "server", patience); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	select {
	case <-stopped:
	case <-time.After(patience):
		t.Fatal("the end waits for the readers")
	}
}

// A document that is ready only after serving was ended is written to nobody who does not
// read, and holds nobody up.
func TestEndWhileADocumentIsMade(t *testing.T) {
	path := filepath.Join(dir(t), "s")
	l, err := statussock.Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	l.SetReaderTime(time.Hour)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- l.Serve(ctx, func() any {
			cancel()
			time.Sleep(10 * time.Millisecond) // that the connection has heard of the end is no event
			return strings.Repeat("x", 8<<20)
		})
	}()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("the end waits for the reader")
	}
}
