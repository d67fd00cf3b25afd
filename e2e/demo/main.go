package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"
)

// config is what the command line says.
type config struct {
	policy      string
	hold        bool
	out         string
	host, guest string
	cache       string
	vm          bool
	vmCache     string
	colour      bool
}

func main() {
	var cfg config
	flag.StringVar(&cfg.policy, "policy", "disjoint", "disjoint: the duplicate is taken apart; observe: it is only reported")
	flag.BoolVar(&cfg.hold, "hold", false, "leave everything running until Ctrl-C")
	flag.StringVar(&cfg.out, "out", "build/demo/report.json", "where the report goes")
	flag.StringVar(&cfg.host, "guardring", "build/guardring", "the host's binary")
	flag.StringVar(&cfg.guest, "guest", "build/guardring-guest", "the guest's binary")
	flag.StringVar(&cfg.cache, "keys", "build/tornet-keys", "where the private network's keys are kept between runs")
	flag.BoolVar(&cfg.vm, "vm", false, "gateways are VMs, as in real life; needs root")
	flag.StringVar(&cfg.vmCache, "kernels", "build/vm", "where the VMs' kernel is kept between runs")
	flag.Parse()
	cfg.colour = term.IsTerminal(int(os.Stdout.Fd())) && os.Getenv("NO_COLOR") == ""
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := cfg.check()
	if err == nil && cfg.vm {
		err = enterForMachines(ctx, cfg.vmCache)
	}
	if err == nil {
		err = run(ctx, cfg)
	}
	cancel()
	if err != nil {
		fmt.Fprintf(os.Stderr, "demo: error: %v\n", err)
		os.Exit(1)
	}
}

func (c config) check() error {
	if c.policy != "disjoint" && c.policy != "observe" {
		return fmt.Errorf("policy %q is neither disjoint nor observe", c.policy)
	}
	if flag.NArg() > 0 {
		return errors.New("arguments after the flags")
	}
	return nil
}
