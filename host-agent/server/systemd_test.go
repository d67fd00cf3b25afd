package server

import (
	"log/slog"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The watchdog hears from a server that works, and not from one whose locks
// nobody can take.
func TestWatchdog(t *testing.T) {
	m := startSystemd(t)
	t.Setenv("NOTIFY_SOCKET", m.socket)
	t.Setenv("WATCHDOG_USEC", "20000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	cfg := testConfig(runDir(t), "a")
	if err := cfg.FromSystemd(); err != nil {
		t.Fatal(err)
	}
	if cfg.Watchdog != 20*time.Millisecond || cfg.Store {
		t.Fatalf("watchdog %s, store %t", cfg.Watchdog, cfg.Store)
	}
	r := startServer(t, cfg)
	beats := func() (n int) {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, text := range m.log {
			if text == "WATCHDOG=1" {
				n++
			}
		}
		return n
	}
	eventually(t, "the watchdog hears us", func() bool { return beats() >= 3 })
	r.Server.regions()[0].mu.Lock()
	before := 0 // beats may be under way
	eventually(t, "a stuck server beats no more", func() bool {
		before = beats()
		time.Sleep(100 * time.Millisecond) // ten beats of one that works
		return beats() == before
	})
	r.Server.regions()[0].mu.Unlock()
	eventually(t, "the watchdog hears us again", func() bool { return beats() > before })
	r.stop()
	eventually(t, "STOPPING=1", func() bool { return m.heard("STOPPING=1") })
}

func TestStoreWithoutServiceManager(t *testing.T) {
	cfg := testConfig(runDir(t), "a")
	cfg.Store, cfg.NotifySocket = true, "/nonexistent/notify"
	s, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "/nonexistent/notify") {
		t.Errorf("%v", err)
	}
}
