package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"guardring/apparmor"
	"guardring/host-agent/config"
	"guardring/host-agent/confinement"
	"guardring/host-agent/domains"
	"guardring/host-agent/runner"
	"guardring/host-agent/server"
	"guardring/internal/hint"
)

// serve runs the server; SIGHUP reads the gateways anew.
func serve(c *cli.Context) error {
	cfg, err := load(c)
	if err != nil {
		return err
	}
	log := newLog()
	sc := serverConfig(cfg)
	sc.Reread = func() ([]server.Gateway, error) {
		cfg, err := load(c)
		return serverConfig(cfg).Gateways, err
	}
	store := sc.Store
	if err := sc.FromSystemd(); err != nil {
		return err
	}
	sc.Store = sc.Store || store
	s, err := server.New(sc, log)
	if err != nil {
		return err
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(c.Context)
	defer cancel()
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-hup:
				if err := s.Reload(); err != nil {
					log.Error("gateways not read anew, the old ones stay where the new ones fail", "error", err)
				}
			}
		}
	}()
	return asRoot(s.Run(ctx))
}

func coordinate(c *cli.Context) error {
	cfg, err := load(c)
	if err != nil {
		return err
	}
	r, err := runnerConfig(cfg)
	if err != nil {
		return err
	}
	log := newLog()
	r.Watch = watchDomains(c, cfg, log)
	return asRoot(runner.Run(c.Context, r, log))
}

// asRoot adds what helps a user who may not make or open our directories.
func asRoot(err error) error {
	if errors.Is(err, fs.ErrPermission) && hint.Of(err) == "" {
		return hint.Wrap(err, "run it as root, or name directories of your own with run-dir and ledger-dir")
	}
	return err
}

// watchDomains watches the domains of the gateways that are configured at each
// moment; nil if the configuration wants none of it.
func watchDomains(c *cli.Context, cfg config.Config, log *slog.Logger) func(context.Context, func(domains.Seen)) {
	if cfg.LibvirtWatch == "" {
		return nil
	}
	return domains.Watch{
		Address: domains.Address{Socket: cfg.LibvirtWatch, URI: cfg.LibvirtURI}, Period: cfg.Rescan, Log: log,
		Gateways: func() []domains.Known {
			if now, err := load(c); err == nil { // a faulty one counts when it is mended
				cfg = now
			}
			return known(cfg)
		},
	}.Run
}

const (
	firstBackoff = 200 * time.Millisecond
	lastBackoff  = 10 * time.Second
	grace        = 5 * time.Second
)

// runBoth starts `serve` and `coordinate` with our own flags, so that neither
// can take the other down, and starts one anew that died.
func runBoth(c *cli.Context) error {
	if _, err := load(c); err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	log := newLog()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	servers := make(chan *os.Process, 1)
	var work sync.WaitGroup
	work.Go(func() {
		supervise(c.Context, log, servers, exe, append([]string{"serve"}, passOn(c, serveSettings)...))
	})
	work.Go(func() {
		supervise(c.Context, log, nil, exe, append([]string{"coordinate"}, passOn(c, coordinateSettings)...))
	})
	work.Go(func() {
		var server *os.Process
		for {
			select {
			case <-c.Context.Done():
				return
			case server = <-servers:
			case <-hup:
				if server != nil {
					_ = server.Signal(syscall.SIGHUP)
				}
			}
		}
	})
	work.Wait()
	return nil
}

// profileOf are the AppArmor profiles of the two processes, where the command itself
// is confined.
var profileOf = map[string]string{"serve": apparmor.Server, "coordinate": apparmor.Coordinator}

// supervise keeps one child running until ctx ends; then it asks it to end, and
// kills it if it does not. started, if not nil, is told of each new child.
func supervise(ctx context.Context, log *slog.Logger, started chan<- *os.Process, exe string, args []string) {
	// The kernel sends Pdeathsig when the thread that started the child ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for backoff := firstBackoff; ctx.Err() == nil; backoff = min(2*backoff, lastBackoff) {
		begun := time.Now()
		cmd := exec.CommandContext(ctx, exe, args...)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		cmd.WaitDelay = grace
		err := confinement.Next(profileOf[args[0]])
		if err == nil {
			err = cmd.Start()
		}
		if err == nil {
			if started != nil {
				select {
				case started <- cmd.Process:
				case <-ctx.Done():
				}
			}
			err = cmd.Wait()
		}
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("it ended by itself")
		}
		if time.Since(begun) > lastBackoff {
			backoff = firstBackoff
		}
		log.Error("process ended, starting it again", "command", args[0], "after", backoff, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(backoff):
		}
	}
}
