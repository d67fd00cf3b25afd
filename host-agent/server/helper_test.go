package server

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"guardring/host-agent/rundir"
	"guardring/internal/statussock"
	"guardring/shmproto"
	"guardring/shmproto/ivshmem"
)

// patience bounds what would else hang for ever. No test waits so long for what it expects.
const patience = time.Minute

// TestMain lets the test binary play other processes: a client that holds a
// seat, and a whole server.
func TestMain(m *testing.M) {
	switch os.Getenv("GUARDRING_TEST_ROLE") {
	case "client":
		clientMain()
	case "server":
		serverMain()
	default:
		os.Exit(m.Run())
	}
}

// clientMain obeys lines on stdin: "dial PATH", "drop" (lose the connection but
// live), "ring PEER", "wait"; it answers each with a line.
func clientMain() {
	var c *ivshmem.Client
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		verb, arg, _ := strings.Cut(lines.Text(), " ")
		var err error
		answer := "ok"
		switch verb {
		case "dial":
			c, err = ivshmem.Dial(arg, shmproto.Vectors, patience)
			if err == nil {
				answer = fmt.Sprintf("seat %d", c.ID)
			}
		case "drop":
			err = c.Close()
		case "ring":
			peer, _ := strconv.Atoi(arg)
			err = c.Ring(ivshmem.PeerID(peer), shmproto.VectorChanged)
		case "wait":
			_, err = c.Interrupt(shmproto.VectorChanged).Wait()
		case "gone":
			<-c.Gone()
		}
		if err != nil {
			answer = "error " + err.Error()
		}
		fmt.Println(strings.ReplaceAll(answer, "\n", " "))
	}
	os.Exit(0)
}

// serverMain runs a server as main would under systemd.
func serverMain() {
	if os.Getenv("LISTEN_FDS") != "" {
		_ = os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	}
	cfg := testConfig(os.Getenv("GUARDRING_TEST_RUN"), strings.Fields(os.Getenv("GUARDRING_TEST_GATEWAYS"))...)
	cfg.Store, cfg.StoreTimeout = true, patience
	if text := os.Getenv("GUARDRING_TEST_STORE_TIMEOUT"); text != "" {
		cfg.StoreTimeout, _ = time.ParseDuration(text)
	}
	step = func(name string) {
		if name == os.Getenv("GUARDRING_TEST_KILL_AT") {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	err := cfg.FromSystemd()
	if err == nil {
		err = Run(ctx, cfg, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func testConfig(run string, gateways ...string) Config {
	cfg := Config{RunDir: run, AcceptBurst: 1000, AcceptRate: 1000}
	for _, name := range gateways {
		cfg.Gateways = append(cfg.Gateways, Gateway{Name: name, UID: KeepID, GID: KeepID})
	}
	return cfg
}

func tempDir(t testing.TB) string {
	t.Helper()
	d, err := os.MkdirTemp("/tmp", "guardring")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(d) })
	return d
}

// logBuffer keeps a log for looking into.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// runner is a server in this process.
type runner struct {
	*Server
	run  string
	log  *logBuffer
	stop func()
}

// startServer runs a server until the test ends.
func startServer(t testing.TB, cfg Config) *runner {
	t.Helper()
	r := &runner{run: cfg.RunDir, log: &logBuffer{}}
	s, err := New(cfg, slog.New(slog.NewTextHandler(r.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	r.Server = s
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("server: %v", err)
			}
		})
	}
	t.Cleanup(func() {
		r.stop()
		if t.Failed() {
			t.Log(r.log.String())
		}
	})
	eventually(t, "the status socket answers", func() bool {
		select {
		case err := <-done:
			t.Fatalf("server: %v", err)
		default:
		}
		_, err := statussock.Fetch(statusSocket(cfg.RunDir), "server", patience)
		return err == nil
	})
	return r
}

// status reads the document as `guardring status` does.
func status(t testing.TB, run string) Status {
	t.Helper()
	b, err := statussock.Fetch(statusSocket(run), "server", patience)
	if err != nil {
		t.Fatal(err)
	}
	var st Status
	if err := json.Unmarshal(b, &st); err != nil {
		t.Fatal(err)
	}
	return st
}

func (r *runner) gateway(t testing.TB, name string) GatewayStatus {
	t.Helper()
	for _, g := range status(t, r.run).Gateways {
		if g.Name == name {
			return g
		}
	}
	t.Fatalf("no gateway %s in the status", name)
	return GatewayStatus{}
}

// eventually waits for what another process or goroutine does and nobody tells.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// child is another process that holds seats.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func self(t testing.TB, role string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "GUARDRING_TEST_ROLE="+role)
	cmd.Stderr = os.Stderr
	return cmd
}

func startChild(t testing.TB) *child {
	t.Helper()
	return startChildWith(t)
}

// startChildWith starts one with arguments that it does not look at.
func startChildWith(t testing.TB, args ...string) *child {
	t.Helper()
	c := &child{cmd: self(t, "client")}
	c.cmd.Args = append(c.cmd.Args, args...)
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewScanner(out)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
	return c
}

// do sends a command and returns the answer.
func (c *child) do(t testing.TB, command string) string {
	t.Helper()
	if _, err := io.WriteString(c.in, command+"\n"); err != nil {
		t.Fatal(err)
	}
	if !c.out.Scan() {
		t.Fatalf("no answer to %q: %v", command, c.out.Err())
	}
	return c.out.Text()
}

// want is do with a check.
func (c *child) want(t testing.TB, command, answer string) {
	t.Helper()
	if got := c.do(t, command); !strings.HasPrefix(got, answer) {
		t.Fatalf("%s: %q, want %q", command, got, answer)
	}
}

func (c *child) kill() {
	if c.cmd.ProcessState == nil {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
	}
}

func dial(t testing.TB, path string) *ivshmem.Client {
	t.Helper()
	c, err := ivshmem.Dial(path, shmproto.Vectors, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func itoa(n int) string { return strconv.Itoa(n) }

func atoi(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

func runDir(t testing.TB) string { return filepath.Join(tempDir(t), "run") }

func guestSocket(run, gateway string) string { return rundir.Dir(run).GuestSocket(gateway) }

func hostSocket(run, name string) string { return rundir.Dir(run).HostSocket(name) }

func statusSocket(run string) string { return rundir.Dir(run).Server() }
