package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"guardring/e2e/namespace"
	"guardring/e2e/tornet"
	"guardring/e2e/vmtest"
	"guardring/e2e/vmtest/gateway"
)

// machines are the gateways of a run with VMs: each a QEMU guest, with the PCI device between it and the host.
type machines struct {
	kit      *vmtest.Kit
	host     *gateway.Host
	gateways map[string]*gateway.Gateway
}

// enterForMachines fetches the guests' kernel, and then leaves the machine's network for good: guests reach relays at addresses that
// only a loopback interface of our own may have.
func enterForMachines(ctx context.Context, cache string) error {
	if os.Getuid() != 0 {
		return errors.New("gateway VMs need a network namespace, and this is not root (hint: run it as root, or without VM=1)")
	}
	if err := vmtest.FetchKernel(ctx, cache); err != nil {
		return err
	}
	return namespace.Enter()
}

// startMachines starts the server, and then the three VMs with a Tor in each.
func (s *stage) startMachines(ctx context.Context, planted map[string][]*tornet.Relay) error {
	m := &machines{gateways: map[string]*gateway.Gateway{}}
	s.vm = m
	var err error
	if m.kit, err = vmtest.Prepare(ctx, gateway.Kit(s.cfg.vmCache, func(format string, args ...any) { s.say("  "+format, args...) })); err != nil {
		return err
	}
	if m.host, err = gateway.NewHost(s.cfg.host, s.cfg.guest, s.cfg.policy, gatewayNames...); err != nil {
		return err
	}
	s.rig = m.host.Rig
	if err := m.host.StartServer(ctx); err != nil {
		return err
	}
	s.say("booting three VMs (%s, machine q35 with an emulated IOMMU); the state files of %s and %s both begin with %s %s",
		strings.ToUpper(m.kit.Accelerator(ctx)), s.rivals[0], s.rivals[1], s.net.Guards[0].Name, s.common[:8])
	type result struct {
		g   *gateway.Gateway
		err error
	}
	results := make(chan result)
	for i, name := range gatewayNames {
		go func() {
			g, err := gateway.Boot(ctx, m.kit, gateway.Config{Name: name, Number: i, Network: s.net, Plant: planted[name],
				Region: m.host.Region(name), Agent: s.cfg.guest, Options: "join-gate: off\n"})
			results <- result{g, err}
		}()
	}
	var errs []error
	for range gatewayNames {
		r := <-results
		errs = append(errs, r.err)
		if r.g != nil {
			m.gateways[r.g.Name] = r.g
			s.clients[r.g.Name] = r.g.Tor
			s.say("  %s answers %.1f s after the start of its QEMU", r.g.Name, r.g.Ready().Seconds())
		}
	}
	return errors.Join(errs...)
}

// startAgents runs in each VM what a user would: prepare as root, run as Tor's user.
func (m *machines) startAgents(ctx context.Context) error {
	errs := make(chan error)
	for _, g := range m.gateways {
		go func() {
			_, err := g.Prepare(ctx)
			if err == nil {
				err = g.StartAgent(ctx)
			}
			errs <- err
		}()
	}
	var all []error
	for range m.gateways {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

// printInterrupts shows that doorbells reached the guests as interrupts.
func (s *stage) printInterrupts(ctx context.Context) error {
	var counts []string
	for _, name := range gatewayNames {
		n, err := s.vm.gateways[name].Interrupts(ctx)
		if err != nil {
			return err
		}
		counts = append(counts, fmt.Sprintf("%s %d", name, n))
	}
	fmt.Printf("      interrupts from the device, by the guests' kernels: %s\n", strings.Join(counts, ", "))
	return nil
}

// logs are the files that show what happens inside.
func (m *machines) logs() []string {
	var out []string
	for _, name := range gatewayNames {
		out = append(out, filepath.Join(m.gateways[name].Dir, "agent.log"), filepath.Join(m.gateways[name].Dir, "console"))
	}
	return out
}

func (m *machines) stop() error {
	var errs []error
	for _, g := range m.gateways {
		errs = append(errs, g.Close())
	}
	if m.host != nil {
		errs = append(errs, m.host.Stop())
	}
	if m.kit != nil {
		errs = append(errs, m.kit.Close())
	}
	return errors.Join(errs...)
}
