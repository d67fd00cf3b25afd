package runner

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"guardring/host-agent/consensusfile"
	"guardring/host-agent/domains"
	"guardring/host-agent/journal"
	"guardring/host-agent/ledger"
	"guardring/host-agent/report"
	"guardring/host-agent/rundir"
	"guardring/internal/coordinator"
	"guardring/internal/coordinator/election"
	"guardring/internal/statussock"
	"guardring/shmproto"
	"guardring/shmproto/ivshmem"
)

// runner is the loop's state. Nothing in it but rung may be touched by another
// goroutine.
type runner struct {
	cfg Config
	log *slog.Logger

	seed    [16]byte // makes the core's random times unpredictable for guests
	dir     *ledger.Dir
	machine *election.Machine
	since   time.Time // when the machine came into its present role

	board     *board
	links     map[string]*link
	dials     map[string]*dial        // back-off of sockets without a link
	domains   map[string]domains.Seen // what libvirt says, by gateway
	wake      chan *link
	dialled   chan dialled
	requests  chan chan report.Document
	commands  chan asked
	sightings chan domains.Seen

	// While acting (and while taking over), else nil.
	core    *coordinator.Coordinator
	book    *ledger.Ledger
	history ledger.History

	verification verification
	records      records

	publication shmproto.Publication // scratch
	bookError   string               // why nothing can be made durable
	late        bool                 // a former coordinator has written late: catch up on the next rescan tick
	rescan      bool                 // look at everything on the next rescan tick, seen or not
	published   uint64
	ordered     uint64
	rung        atomic.Uint64
	speeches    map[string]*speech // by gateway
	compactNext time.Time          // no attempt to compact the ledger before
	unsavedNext time.Time          // no log line about what could not be made durable before
}

// dial is the back-off of one socket.
type dial struct {
	busy  bool
	retry time.Duration
	next  time.Time
	told  bool   // the failure was logged
	fault string // the last one
}

type dialled struct {
	name   string
	client *ivshmem.Client
	err    error
}

// Run coordinates until ctx ends, which is no error: the lease is given up then
// and the standby takes over at once. It waits for the server as long as need
// be, and survives its restarts.
func Run(ctx context.Context, cfg Config, log *slog.Logger) error {
	if err := cfg.validate(); err != nil {
		return err
	}
	// The core checks its own part before anything is touched.
	if _, err := coordinator.New(cfg.core(shmproto.Epoch{Number: 1}, [16]byte{})); err != nil {
		return err
	}
	dir, err := ledger.Open(cfg.LedgerDir, time.Now())
	if err != nil {
		return err
	}
	defer dir.Close()
	r := &runner{
		cfg: cfg, log: log, dir: dir, since: time.Now(),
		links: map[string]*link{}, dials: map[string]*dial{}, speeches: map[string]*speech{},
		wake: make(chan *link, 64), dialled: make(chan dialled, 16), requests: make(chan chan report.Document), commands: make(chan asked),
		domains: map[string]domains.Seen{}, sightings: make(chan domains.Seen),
		records: records{journal: journal.New(rundir.Dir(cfg.RunDir).Journal(), cfg.JournalSize), foreign: map[string]*rate.Limiter{}, faults: map[string]string{}},
	}
	if cfg.Consensus != "" {
		r.verification.file = consensusfile.New(cfg.Consensus)
	}
	_, _ = rand.Read(r.seed[:]) // never fails (crypto/rand)
	if err := r.openBoard(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	defer r.closeAll()
	status, err := r.listen(rundir.Dir.Coordinator, r.cfg.StatusMode)
	if err != nil {
		return err
	}
	command, err := r.listen(rundir.Dir.Command, 0o600)
	if err != nil {
		_ = status.Close()
		return err
	}
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 2)
	var servers sync.WaitGroup
	servers.Go(func() { served <- status.Serve(serving, r.document) })
	servers.Go(func() { served <- command.ServeAnswers(serving, r.ask) })
	defer func() { cancel(); servers.Wait() }()
	return r.loop(ctx, served)
}

// listen takes the socket of our seat's number. A server that was restarted
// without its descriptors has given the seats anew: then the other coordinator
// may still have that socket, and the other number is free.
func (r *runner) listen(path func(d rundir.Dir, seat int) string, mode fs.FileMode) (*statussock.Listener, error) {
	l, err := statussock.Listen(path(r.runDir(), r.board.seat), mode)
	if err == nil {
		return l, nil
	}
	l, err2 := statussock.Listen(path(r.runDir(), 1-r.board.seat), mode)
	if err2 != nil {
		return nil, errors.Join(err, err2)
	}
	return l, nil
}

func (c Config) core(e shmproto.Epoch, seed [16]byte) coordinator.Config {
	return coordinator.Config{
		Epoch: e, Policy: c.Policy, Retention: c.Retention, Hold: c.Hold, Levels: c.Levels, Groups: c.Groups,
		Budgets: c.Budgets, MaxGatewayClaims: c.MaxGatewayClaims, DelayMin: c.DelayMin, DelayMax: c.DelayMax, Seed: seed,
	}
}

// openBoard waits for the server, takes a coordinator's seat, and starts the
// election.
func (r *runner) openBoard(ctx context.Context) error {
	retry, told := firstRetry, ""
	for ctx.Err() == nil {
		b, err := dialBoard(r.runDir().HostSocket(rundir.Board))
		if err == nil {
			r.board = b
			return r.begin()
		}
		if err.Error() != told {
			told = err.Error()
			r.log.Warn("waiting for the server", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
		retry = min(2*retry, time.Second)
	}
	return nil
}

func (r *runner) begin() error {
	highest, err := r.dir.Highest()
	if err != nil {
		return err
	}
	machine, actions, err := election.New(election.Config{
		Seat: r.board.seat, Epoch: r.dir.Epoch(), Highest: highest, Own: r.board.read(r.board.seat),
		Observe: r.cfg.Policy == coordinator.PolicyObserve,
	})
	if err != nil {
		return err
	}
	r.machine = machine
	r.log.Info("coordinator started", "seat", r.board.seat, "policy", string(r.cfg.Policy), "epoch", ledger.FormatEpoch(r.dir.Epoch()), "highest_term", highest, "pid", os.Getpid())
	r.do(actions)
	return nil
}

func (r *runner) runDir() rundir.Dir { return rundir.Dir(r.cfg.RunDir) }

// loop owns everything until ctx ends or the status socket fails.
func (r *runner) loop(ctx context.Context, served chan error) error {
	lease := time.NewTicker(r.cfg.Heartbeat / election.TicksPerHeartbeat)
	defer lease.Stop()
	discover := time.NewTicker(min(r.cfg.Heartbeat, time.Second))
	defer discover.Stop()
	rescan := time.NewTicker(r.cfg.Rescan)
	defer rescan.Stop()
	r.watchDomains(ctx)
	r.discover()
	r.elect(election.Tick{Other: r.board.other()})
	for {
		select {
		case <-ctx.Done():
			r.elect(election.Stop{})
			return nil
		case err := <-served:
			return fmt.Errorf("socket: %w", err)
		case l := <-r.wake:
			if r.links[l.name] == l {
				r.look(l)
			}
		case d := <-r.dialled:
			r.connected(d)
		case <-lease.C:
			r.elect(election.Tick{Other: r.board.other()})
		case now := <-discover.C:
			r.discover()
			r.watch()
			r.step(coordinator.Tick{At: now}, "")
		case now := <-rescan.C:
			if r.late && r.acting() {
				r.late = false
				r.catchUp()
			}
			r.verify()
			r.lookAll()
			r.summarise(now)
		case answer := <-r.requests:
			answer <- r.describe()
		case s := <-r.sightings:
			r.domainSeen(s)
		case a := <-r.commands:
			a.answer <- r.command(a.request)
		}
	}
}

// document is called by status readers, in goroutines of their own.
func (r *runner) document() any {
	answer := make(chan report.Document, 1)
	select {
	case r.requests <- answer:
		return <-answer
	case <-time.After(2 * time.Second):
		return map[string]string{"error": "the coordinator is busy"}
	}
}

func (r *runner) closeAll() {
	for _, l := range r.links {
		l.close()
	}
	if r.book != nil {
		_ = r.book.Close()
	}
	r.records.journal.End()
	if r.board != nil {
		_ = r.board.client.Close()
	}
}
