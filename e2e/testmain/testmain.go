// Package testmain is what the TestMain functions of the end-to-end packages have in common: what the tests share is made before
// the first of them, in namespaces of their own where they need that, and nothing of it is left behind, also when the run is interrupted.
//
// Trust: a test's own. Programs are built from this module's sources.
package testmain

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"guardring/e2e/binaries"
	"guardring/e2e/namespace"
)

// Setup is what a package's tests need before the first of them.
type Setup struct {
	// NeedsRoot says what root is needed for: without root no test runs then, and that is said. Empty: root is not needed.
	NeedsRoot string
	// Fetch gets what comes from a network, for there is none behind OwnNamespaces. It is called again there, and must find everything
	// then. Nil: nothing.
	Fetch func(context.Context) error
	// OwnNamespaces runs the tests in a network and a view of the machine's files of their own: see namespace.Enter.
	OwnNamespaces bool
	// Programs are built: each package, and what gets the program's path. All lie in one folder, under the names of binaries.Name.
	Programs map[string]*string
	// Begin makes what the tests share, and hands the way to end it to Run.Defer as soon as it is there. The context ends with Begin.
	// Nil: nothing.
	Begin func(context.Context, *Run) error
	// Limit bounds Fetch, building and Begin together; 0: five minutes.
	Limit time.Duration
}

// Run is one run of a package's tests. Its methods are for several goroutines.
type Run struct {
	// Dir is for files of this run, and deleted at its end. It is short: sockets fit into it.
	Dir string

	mu   sync.Mutex
	ends []func()
}

// Defer has end called when the tests have run or are interrupted. What is deferred last is called first.
func (r *Run) Defer(end func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ends = append(r.ends, end)
}

// end calls what was deferred, once. A second caller waits for the first.
func (r *Run) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.ends) - 1; i >= 0; i-- {
		r.ends[i]()
	}
	r.ends = nil
}

// Main makes what the setup says, runs the tests, ends everything, and ends the process.
//
// Preconditions: the process has started nothing yet, for it may be started again (see namespace.Enter).
func Main(m *testing.M, s Setup) {
	flag.Parse() // or m.Run would, after Begin
	os.Exit(s.run(m.Run))
}

func (s Setup) run(tests func() int) (code int) {
	if s.NeedsRoot != "" && os.Getuid() != 0 {
		log.Printf("skipping, %s (try: make test, as root)", s.NeedsRoot)
		return 0
	}
	limit := s.Limit
	if limit == 0 {
		limit = 5 * time.Minute
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := s.enter(ctx); err != nil {
		log.Print(err)
		return 1
	}
	r := &Run{}
	defer r.end()
	begun := make(chan struct{})
	onInterrupt(func() {
		cancel()
		<-begun // else what is being started now would be left
		r.end()
	})
	err := s.begin(ctx, r)
	cancel()
	close(begun)
	if err != nil {
		log.Print(err)
		return 1
	}
	return tests()
}

func (s Setup) enter(ctx context.Context) error {
	if s.Fetch != nil {
		if err := s.Fetch(ctx); err != nil {
			return err
		}
	}
	if s.OwnNamespaces {
		return namespace.Enter()
	}
	return nil
}

func (s Setup) begin(ctx context.Context, r *Run) (err error) {
	if r.Dir, err = os.MkdirTemp("/tmp", "e2e-"); err != nil {
		return fmt.Errorf("folder of this run: %w", err)
	}
	r.Defer(func() { os.RemoveAll(r.Dir) })
	programs := map[string]string{}
	for pkg, path := range s.Programs {
		*path = filepath.Join(r.Dir, binaries.Name(pkg))
		programs[*path] = pkg
	}
	if err := binaries.Build(ctx, programs); err != nil {
		return err
	}
	if s.Begin == nil {
		return nil
	}
	return s.Begin(ctx, r)
}

// onInterrupt has this process call end, and then end itself, when it gets SIGINT or SIGTERM.
func onInterrupt(end func()) {
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		log.Printf("%v: ending every process", <-interrupted)
		end()
		os.Exit(1)
	}()
}
