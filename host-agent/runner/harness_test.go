package runner

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"guardring/host-agent/report"
	"guardring/host-agent/rundir"
	"guardring/host-agent/server"
	"guardring/internal/coordinator"
	"guardring/internal/guardstate"
	"guardring/internal/statussock"
	"guardring/shmproto"
	"guardring/shmproto/ivshmem"
)

// TestMain also is a coordinator process: with GUARDRING_COORDINATE set it runs
// one with that Config, and kills itself after the effect GUARDRING_POINT.
//
// With GUARDRING_GUEST set it is a gateway's agent that publishes those guards
// at that socket and waits to be killed.
func TestMain(m *testing.M) {
	if path := os.Getenv("GUARDRING_GUEST"); path != "" {
		guestMain(path, os.Getenv("GUARDRING_SAMPLE"))
	}
	text := os.Getenv("GUARDRING_COORDINATE")
	if text == "" {
		os.Exit(m.Run())
	}
	var cfg Config
	if err := json.Unmarshal([]byte(text), &cfg); err != nil {
		panic(err)
	}
	where := os.Getenv("GUARDRING_POINT")
	point = func(name string) {
		if name == where {
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
		if name+"+stop" == where { // stop here, once, and go on when continued
			where = ""
			_ = unix.Kill(os.Getpid(), unix.SIGSTOP)
		}
	}
	if err := Run(context.Background(), cfg, slog.New(slog.NewTextHandler(os.Stderr, nil))); err != nil {
		panic(err)
	}
}

// patience bounds what would else hang for ever. No test waits so long for what it expects.
const patience = time.Minute

// rig is a real server with coordinators and guests.
type rig struct {
	t      testing.TB
	cfg    Config
	srv    *server.Server
	end    func()
	answer time.Duration // how long a coordinator may take for its status; some are stopped
}

func newRig(t testing.TB, policy coordinator.Policy, gateways ...string) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "gr")
	if err != nil {
		t.Fatal(err)
	}
	// A disk that is busy with others' work would hold up the heartbeat.
	books, err := os.MkdirTemp("/dev/shm", "gr")
	if err != nil {
		books = dir
	}
	t.Cleanup(func() { os.RemoveAll(dir); os.RemoveAll(books) })
	r := &rig{t: t, answer: 200 * time.Millisecond, cfg: Config{
		RunDir: dir + "/run", LedgerDir: books + "/ledger", Policy: policy,
		Heartbeat: 200 * time.Millisecond, Rescan: time.Second,
		// The core's own tests are about delay and budgets.
		DelayMin: -1, DelayMax: -1, Budgets: unlimited(),
	}}
	r.serve(gateways...)
	return r
}

// unlimited has the core charge nothing.
func unlimited() coordinator.Budgets {
	none := coordinator.Budget{Burst: -1}
	return coordinator.Budgets{NewClaims: none, SampleChanges: none, ForcedUnused: none, ForcedUsed: none, ForcedUsedPerYear: -1, CausedMost: -1}
}

// serve starts a server, in the place of the one before.
func (r *rig) serve(gateways ...string) {
	r.t.Helper()
	cfg := server.Config{RunDir: r.cfg.RunDir, AcceptBurst: 1000, AcceptRate: 1000}
	for _, name := range gateways {
		cfg.Gateways = append(cfg.Gateways, server.Gateway{Name: name, UID: server.KeepID, GID: server.KeepID})
	}
	srv, err := server.New(cfg, quiet())
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	r.srv = srv
	stopped := false
	r.end = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("server: %v", err)
		}
	}
	r.t.Cleanup(func() { r.end() })
	r.eventually("the server's sockets", func() bool {
		missing := false
		for _, name := range append([]string{".lease"}, gateways...) {
			for _, dir := range []string{"host", "gateways"} {
				_, err := os.Stat(filepath.Join(r.cfg.RunDir, dir, name+".sock"))
				missing = missing || err != nil && (dir == "host" || name != ".lease")
			}
		}
		return !missing
	})
}

func quiet() *slog.Logger {
	if testing.Verbose() {
		return slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return slog.New(slog.NewTextHandler(io.Discard, nil))
}

// eventually polls for what another process does, which tells us nothing.
func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("never happened: %s", what)
		}
	}
}

// coordinateHere runs a coordinator in this process.
func (r *rig) coordinateHere() {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, r.cfg, quiet()) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("coordinator: %v", err)
		}
	})
	r.actingDocument()
}

// fingerprint is a relay's, as it must not stand in any log of a coordinator here.
var fingerprint = regexp.MustCompile(`[0-9A-Fa-f]{40}`)

// process is a coordinator in a process of its own.
type process struct {
	*exec.Cmd
	log *strings.Builder
}

// stop stops a process, and returns when it does nothing any more.
func (p *process) stop(t *testing.T) {
	t.Helper()
	err := unix.Kill(p.Process.Pid, unix.SIGSTOP)
	var status unix.WaitStatus
	for err == nil && !status.Stopped() {
		if _, err = unix.Wait4(p.Process.Pid, &status, unix.WUNTRACED, nil); err == unix.EINTR {
			err = nil
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (r *rig) coordinate(where string) *process {
	r.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		r.t.Fatal(err)
	}
	text, err := json.Marshal(r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	p := &process{exec.Command(exe), &strings.Builder{}}
	p.Env = append(os.Environ(), "GUARDRING_COORDINATE="+string(text), "GUARDRING_POINT="+where)
	p.Stderr = p.log
	if err := p.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_ = p.Process.Kill()
		_ = p.Wait()
		if found := fingerprint.FindString(p.log.String()); found != "" {
			r.t.Errorf("the log names a guard, and nobody has asked for that: %s", found)
		}
		if r.t.Failed() {
			r.t.Logf("coordinator %d:\n%s", p.Process.Pid, p.log)
		}
	})
	return p
}

// documents returns what the coordinators that answer say.
func (r *rig) documents() (docs []report.Document) {
	for n := range 2 {
		data, err := statussock.Fetch(rundir.Dir(r.cfg.RunDir).Coordinator(n), "", r.answer)
		if errors.Is(err, os.ErrDeadlineExceeded) { // or this machine is busy
			r.answer = min(r.answer+r.answer/8, 5*time.Second)
		}
		var d report.Document
		if err == nil && json.Unmarshal(data, &d) == nil {
			docs = append(docs, d)
		}
	}
	return docs
}

// actingDocument waits for a coordinator that acts and knows every gateway.
func (r *rig) actingDocument() (acting report.Document) {
	r.t.Helper()
	r.eventually("a coordinator acts", func() bool {
		for _, d := range r.documents() {
			if d.Self.Role == report.RoleActing && len(d.Gateways) > 0 {
				acting = d
				return true
			}
		}
		return false
	})
	return acting
}

// guest is a gateway's agent with one member.
type guest struct {
	t      testing.TB
	client *ivshmem.Client
	region *shmproto.Region
	side   *shmproto.Guest
	pub    shmproto.Publication
	order  shmproto.Order
	gone   bool   // show says that the member has left
	name   string // of the member; "" is default
}

func (r *rig) guest(name string) *guest {
	r.t.Helper()
	g, err := attachGuest(r.guestSocket(name))
	if err != nil {
		r.t.Fatal(err)
	}
	g.t = r.t
	r.t.Cleanup(func() { g.client.Close() })
	return g
}

func (r *rig) guestSocket(name string) string {
	return rundir.Dir(r.cfg.RunDir).GuestSocket(name)
}

func attachGuest(path string) (*guest, error) {
	c, err := ivshmem.Dial(path, shmproto.Vectors, patience)
	if err != nil {
		return nil, err
	}
	region, err := shmproto.Open(c.Memory)
	if err != nil {
		return nil, err
	}
	return &guest{client: c, region: region, side: region.Guest(0, shmproto.Incarnation(time.Now().UnixNano()))}, nil
}

// guestMain is a gateway's agent in a process of its own.
func guestMain(path, sample string) {
	g, err := attachGuest(path)
	if err == nil {
		var numbers []int
		for _, word := range strings.Fields(sample) {
			n, _ := strconv.Atoi(word)
			numbers = append(numbers, n)
		}
		if len(numbers) > 0 {
			err = g.put(numbers...)
		}
	}
	if err == nil {
		err = errors.Join(g.client.Ring(0, shmproto.VectorChanged), g.client.Ring(1, shmproto.VectorChanged))
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ok")
	select {}
}

// guestProcess starts a gateway's agent that publishes a sample, none if it is
// empty, and returns when it has. The function returned kills it.
func (r *rig) guestProcess(name string, sample ...int) (kill func()) {
	r.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "GUARDRING_GUEST="+r.guestSocket(name), "GUARDRING_SAMPLE="+strings.Trim(fmt.Sprint(sample), "[]"))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		r.t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	r.t.Cleanup(kill)
	lines := bufio.NewScanner(out)
	if lines.Scan(); lines.Text() != "ok" {
		r.t.Fatalf("guest process: %q %v", lines.Text(), lines.Err())
	}
	return kill
}

// fp is a fingerprint whose first byte is n.
func fp(n int) guardstate.Fingerprint { return guardstate.Fingerprint{byte(n), byte(n >> 8), 1} }

// publish shows a member whose sample is the given guards, the first three of
// them primary and the first in use, and rings.
func (g *guest) publish(sample ...int) {
	g.t.Helper()
	g.show(sample...)
	g.ring()
}

func (g *guest) ring() {
	g.t.Helper()
	for seat := range 2 {
		if err := g.client.Ring(ivshmem.PeerID(seat), shmproto.VectorChanged); err != nil {
			g.t.Fatal(err)
		}
	}
}

// show is publish without the doorbell.
func (g *guest) show(sample ...int) {
	g.t.Helper()
	if err := g.put(sample...); err != nil {
		g.t.Fatal(err)
	}
}

func (g *guest) put(sample ...int) error {
	g.pub.Seq++
	g.pub.Member, g.pub.State, g.pub.Selection = cmp.Or(g.name, "default"), shmproto.MemberPresent, shmproto.SelectionDefault
	if g.gone {
		g.pub.State = shmproto.MemberLeft
	}
	g.pub.NumPrimary, g.pub.PassPercent = 3, 100
	g.pub.Guards = g.pub.Guards[:0]
	for i, n := range sample {
		f := shmproto.GuardListed | shmproto.GuardFiltered
		if i < 3 {
			f |= shmproto.GuardPrimary
		}
		if i == 0 {
			f |= shmproto.GuardInUse | shmproto.GuardConfirmed
		}
		g.pub.Guards = append(g.pub.Guards, shmproto.Guard{
			Fingerprint: fp(n), Flags: f, Addrs: []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n), 0, 1}), 9001)},
		})
	}
	for held, _ := g.side.Lock().TryAcquire(); !held; held, _ = g.side.Lock().TryAcquire() {
	}
	defer g.side.Lock().Release()
	return g.side.Publish(0, &g.pub)
}

// excludes waits for an order with exactly these guards.
func (g *guest) excludes(r *rig, want ...int) {
	g.t.Helper()
	r.eventually("an order", func() bool { return g.told(want...) })
}

func (g *guest) told(want ...int) bool {
	if err := g.side.ReadOrder(0, "default", &g.order); err != nil {
		if len(want) > 0 || errors.Is(err, shmproto.ErrEmpty) {
			return len(want) == 0
		}
		return false
	}
	if len(g.order.Exclusions) != len(want) {
		return false
	}
	for i, n := range want {
		if g.order.Exclusions[i] != fp(n) {
			return false
		}
	}
	return true
}

// samples of 20 guards in which only guard 1 is shared.
func sampleA() []int { return append([]int{1}, numbers(20, 38)...) }
func sampleB() []int { return append([]int{1}, numbers(60, 78)...) }

func numbers(from, to int) (all []int) {
	for n := from; n <= to; n++ {
		all = append(all, n)
	}
	return all
}
