package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"sync/atomic"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"

	"guardring/guest-agent/config"
	"guardring/internal/hint"
	"guardring/internal/statussock"
)

// memoryLimit is the soft limit of the Go heap: a gateway has 256 to 512 MB in
// all, and the agent may have 15.
const memoryLimit = 8 << 20

// leftCode is the exit code of an agent whose Tors have all left: its unit must not start
// it again, for it would serve them anew. The unit names it.
const leftCode = 4

// runAgent is the command run. SIGUSR1 makes the members leave that LeaveFile
// names.
func runAgent(ctx context.Context, cfg config.Config, verbose bool) error {
	debug.SetMemoryLimit(memoryLimit)
	debug.SetGCPercent(50)
	if err := os.MkdirAll(cfg.RunDir, 0o700); err != nil {
		return fmt.Errorf("runtime directory: %w", err)
	}
	listener, err := statussock.Listen(cfg.StatusSocket(), 0o600)
	if err != nil {
		return hint.Wrap(err, "stop the other agent, or give this one another run-dir")
	}
	leave := make(chan string)
	var left atomic.Bool // all of them; known before leave is closed
	usr1 := make(chan os.Signal, 1)
	signal.Notify(usr1, syscall.SIGUSR1)
	defer signal.Stop(usr1)
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	log := newLog(level)
	agent, release, err := newAgent(cfg, log, false, leave)
	if err != nil {
		_ = listener.Close()
		return err
	}
	defer release()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- listener.Serve(ctx, agent.Status) }()
	go passRequests(ctx, usr1, cfg.LeaveFile(), log, leave, &left)
	// Not being started by systemd is no error.
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		log.Warn("systemd was not told that the agent is ready", "error", err)
	}
	err = agent.Run(ctx)
	told := ctx.Err() != nil // to stop, before all had left
	cancel()
	if err = errors.Join(err, <-served); err == nil && left.Load() && !told {
		return hint.Exit{Code: leftCode}
	}
	return err
}

// passRequests tells the agent who must leave, by leave, each time that a signal says that
// there is a request in the file. If all must, it notes that, closes leave and returns.
func passRequests(ctx context.Context, signals <-chan os.Signal, file string, log *slog.Logger, leave chan<- string, left *atomic.Bool) {
	for {
		select {
		case <-signals:
		case <-ctx.Done():
			return
		}
		names, all, err := takeRequest(file)
		if err != nil {
			log.Error("a request to leave cannot be read", "error", err)
			continue
		}
		if all {
			left.Store(true)
			close(leave)
			return
		}
		for _, name := range names {
			select {
			case leave <- name:
			case <-ctx.Done():
				return
			}
		}
	}
}
