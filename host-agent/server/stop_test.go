package server

import (
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stored is a configuration with the emulated store.
func stored(m *systemd, run string, gateways ...string) Config {
	cfg := testConfig(run, gateways...)
	cfg.Store, cfg.NotifySocket, cfg.StoreTimeout = true, m.socket, time.Hour
	return cfg
}

// hangs makes the emulated service manager confirm nothing any more.
func (m *systemd) hangs() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.deaf = true
}

// goesOn is the end of that.
func (m *systemd) goesOn() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.deaf = false
	for _, fd := range m.held {
		_ = unix.Close(fd)
	}
	m.held = nil
}

// unconfirmed is how many barriers wait.
func (m *systemd) unconfirmed() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.held)
}

// TestServiceManagerThatHangs: what it does not confirm is given up after a time, also when
// the connection ends meanwhile, or the server is told to stop.
func TestServiceManagerThatHangs(t *testing.T) {
	t.Run("stop", func(t *testing.T) {
		m, run := startSystemd(t), runDir(t)
		cfg := stored(m, run, "a")
		cfg.StoreTimeout = 200 * time.Millisecond
		r := startServer(t, cfg)
		m.hangs()
		client := startChild(t)
		go func() { _, _ = client.in.Write([]byte("dial " + guestSocket(run, "a") + "\n")) }()
		eventually(t, "the barrier came", func() bool { return m.unconfirmed() == 1 })
		stopped := make(chan struct{})
		go func() { defer close(stopped); r.stop() }()
		select {
		case <-stopped:
		case <-time.After(patience):
			t.Fatal("the server does not stop")
		}
	})
	t.Run("the client ends", func(t *testing.T) {
		m, run := startSystemd(t), runDir(t)
		r := startServer(t, stored(m, run, "a"))
		defer m.goesOn()
		client := startChild(t)
		client.want(t, "dial "+guestSocket(run, "a"), "seat 2")
		client.want(t, "drop", "ok")
		eventually(t, "the seat is lost", func() bool { return r.gateway(t, "a").Seats[2].State == SeatLost })
		m.hangs()
		go func() { _, _ = client.in.Write([]byte("dial " + guestSocket(run, "a") + "\n")) }()
		eventually(t, "the barrier came", func() bool { return m.unconfirmed() == 1 })
		client.kill()
		eventually(t, "the seat is free", func() bool { return r.gateway(t, "a").Seats[2].State == SeatFree })
		m.goesOn()
		r.stop()
		eventually(t, "nothing of it is stored", func() bool { return !strings.Contains(strings.Join(m.names(), " "), "/seat/2/") })
	})
}

// TestStoppedWhileSomebodyIsLookedAt: who was accepted gets its seat from this server or the
// next, also when this one is told to stop before it knows who it is: a QEMU that is turned
// away does not start, and one that is forgotten waits for ever.
func TestStoppedWhileSomebodyIsLookedAt(t *testing.T) {
	m, run := startSystemd(t), runDir(t)
	cfg := stored(m, run, "a")
	cfg.Gateways[0].Domain = ours
	r := startServer(t, cfg)
	lines, release := hanging(t)
	g := r.regions()[1]
	g.lines.mu.Lock()
	g.lines.limit, g.lines.path = time.Hour, func(int) string { return lines.path(1) }
	g.lines.mu.Unlock()
	client := startChild(t)
	answer := make(chan string, 1)
	go func() { answer <- client.do(t, "dial "+guestSocket(run, "a")) }()
	eventually(t, "it is looked at", func() bool { return g.lines.waiting() == 1 })
	stopped := make(chan struct{})
	go func() { defer close(stopped); r.stop() }()
	eventually(t, "the server stops", func() bool { _, err := os.Lstat(statusSocket(run)); return err != nil })
	release(1, "qemu\x00-uuid\x00"+ours+"\x00")
	if got := <-answer; got != "seat 2" {
		t.Errorf("answer %q", got)
	}
	<-stopped
	next := m.start(t, run, "a")
	defer next.kill()
	if s := status(t, run).Gateways[0].Seats[2]; s.State != SeatConnected || s.PID != client.cmd.Process.Pid {
		t.Errorf("the next server has %+v", s)
	}
}
