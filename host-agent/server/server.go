package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"guardring/host-agent/rundir"
	"guardring/internal/statussock"
)

// Server serves regions. Make one with New, then Run it once.
type Server struct {
	cfg     Config
	log     *slog.Logger
	started time.Time

	reloading sync.Mutex // held by Reload, which reads and applies as one

	mu       sync.Mutex
	want     []Gateway // the configuration's newest list
	running  *running  // nil before and after Run
	finished bool
}

// running is what exists while Run is at work. Server.mu guards it.
type running struct {
	regions map[string]*gateway // by name, the lease board included
	store   *store
}

// New checks cfg, reporting all faults at once, and touches nothing else.
func New(cfg Config, log *slog.Logger) (*Server, error) {
	cfg.Gateways = slices.Clone(cfg.Gateways)
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Server{cfg: cfg, log: log, want: cfg.Gateways}, nil
}

// Run makes a Server and runs it.
func Run(ctx context.Context, cfg Config, log *slog.Logger) error {
	s, err := New(cfg, log)
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

// Run serves until ctx ends, which is no error, or until the server cannot go
// on. It may be called once. All sockets accept connections before the service
// manager is told READY.
func (s *Server) Run(ctx context.Context) error {
	lock, err := prepareRunDir(s.cfg.RunDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	status, err := statussock.Listen(rundir.Dir(s.cfg.RunDir).Server(), s.cfg.StatusMode)
	if err != nil {
		return err
	}
	command, err := statussock.Listen(rundir.Dir(s.cfg.RunDir).ServerCommand(), 0o600)
	if err != nil {
		_ = status.Close()
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := s.start(ctx); err != nil {
		_ = status.Close()
		_ = command.Close()
		return err
	}
	defer s.stop()

	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() {
		if err := status.Serve(ctx, func() any { return s.Status() }); err != nil {
			cancel(err)
		}
	})
	work.Go(func() {
		if err := command.ServeAnswers(ctx, s.answer); err != nil {
			cancel(err)
		}
	})
	s.notify(daemon.SdNotifyReady)
	s.log.Info("serving", "run", s.cfg.RunDir, "gateways", len(s.Status().Gateways), "store", s.cfg.Store)
	s.tick(ctx)
	s.notify(daemon.SdNotifyStopping)
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// tick writes log summaries and answers the watchdog until ctx ends. The
// watchdog hears from us only while the server's locks can be taken.
func (s *Server) tick(ctx context.Context) {
	period := summaryPeriod
	if w := s.cfg.Watchdog; w > 0 {
		period = min(period, w/2)
	}
	ticker := time.NewTicker(max(period, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			for _, g := range s.regions() {
				g.summarise(now)
			}
			if s.cfg.Watchdog > 0 {
				s.notify(daemon.SdNotifyWatchdog)
			}
		}
	}
}

func (s *Server) notify(state string) {
	if s.cfg.NotifySocket == "" {
		return
	}
	if _, err := daemon.SdNotify(false, state); err != nil {
		s.log.Warn("service manager not told", "state", state, "error", err)
	}
}

// start makes or takes over all regions.
func (s *Server) start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != nil || s.finished {
		return errors.New("the server has been run already")
	}
	s.started = time.Now()
	r := &running{regions: make(map[string]*gateway)}
	if s.cfg.Store {
		var err error
		if r.store, err = openStore(s.cfg.NotifySocket, s.cfg.StoreTimeout); err != nil {
			return err
		}
	}
	found := sortInherited(s.cfg.Inherited, r.store, s.log)
	s.running = r
	err := s.apply(ctx, found)
	found.discardRest(s.cfg.RunDir, r.store, s.log)
	if err == nil && r.store != nil {
		if err := r.store.barrier(); err != nil {
			s.log.Warn("descriptor store", "error", err)
		}
	}
	if err != nil {
		s.closeAll()
		s.finished = true
	}
	return err
}

func (s *Server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeAll()
	s.finished = true
}

// closeAll gives everything up, but leaves the store as it is: the next server
// goes on with it.
func (s *Server) closeAll() {
	for _, g := range s.running.regions { // first: each may have somebody to give a seat to
		g.stopListening(keepStored)
	}
	for _, name := range slices.Sorted(maps.Keys(s.running.regions)) {
		s.running.regions[name].close(keepStored)
	}
	s.running.store.close()
	s.running = nil
}

// Apply replaces the list of gateways while the server runs. New ones get a
// region and sockets; those that are missing lose theirs, though a QEMU that
// runs goes on with the old memory, which nobody else reads any more; changed
// ones get new socket owners and rules, which hold for the next connection. A
// faulty list changes nothing. If single gateways fail, the others are served
// all the same and the error names each failure. Before Run, the list is kept
// for it.
func (s *Server) Apply(gateways []Gateway) error {
	gateways = slices.Clone(gateways)
	if err := errors.Join(validateGateways(s.cfg.RunDir, gateways)...); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.want = gateways
	if s.running == nil {
		if s.finished {
			return errors.New("the server does not run any more")
		}
		return nil
	}
	return s.apply(context.Background(), nil)
}

// apply makes what runs equal to s.want. Server.mu is held.
func (s *Server) apply(ctx context.Context, found inherited) error {
	r := s.running
	want := map[string]Gateway{rundir.Board: {Name: rundir.Board, UID: KeepID, GID: KeepID}}
	for _, g := range s.want {
		want[g.Name] = g
	}
	for _, name := range slices.Sorted(maps.Keys(r.regions)) {
		if _, ok := want[name]; !ok {
			r.regions[name].close(dropStored)
			delete(r.regions, name)
			s.log.Info("gateway removed", "gateway", name)
		}
	}
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if old := r.regions[name]; old != nil {
			if err := old.reconfigure(want[name]); err != nil {
				faults = append(faults, fmt.Errorf("gateway %q: %w", name, err))
			}
			continue
		}
		g, err := newGateway(&s.cfg, want[name], found.take(name), r.store, s.log)
		if err != nil {
			faults = append(faults, fmt.Errorf("gateway %q: %w", name, err))
			continue
		}
		r.regions[name] = g
	}
	return errors.Join(faults...)
}

// regions returns what is served now, sorted by name.
func (s *Server) regions() []*gateway {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		return nil
	}
	var all []*gateway
	for _, name := range slices.Sorted(maps.Keys(s.running.regions)) {
		all = append(all, s.running.regions[name])
	}
	return all
}
