package gateway

import (
	"context"
	"errors"
	"time"

	"guardring/e2e/rig"
	"guardring/e2e/tornet"
)

// Host is a host for gateway VMs: the server under an emulated service manager's descriptor store, so that it can be restarted while
// VMs run, and a coordinator beside it, each a process of its own.
type Host struct {
	*rig.Rig

	store               *rig.FDStore
	server, coordinator *tornet.Process
}

// NewHost makes a host for the named gateways, whose VMs must be started after StartServer.
func NewHost(host, guest, policy string, names ...string) (*Host, error) {
	r, err := rig.New(host, guest, policy)
	if err != nil {
		return nil, err
	}
	h := &Host{Rig: r}
	r.DescriptorStore = true
	for _, name := range names {
		if _, err := r.Add(name); err != nil {
			return nil, errors.Join(err, r.Stop())
		}
	}
	if h.store, err = rig.NewFDStore(r.Dir); err != nil {
		return nil, errors.Join(err, r.Stop())
	}
	return h, nil
}

// Region is the server's socket for a gateway.
func (h *Host) Region(name string) string {
	for _, g := range h.Gateways {
		if g.Name == name {
			return g.Socket()
		}
	}
	return ""
}

// StartServer starts the server, with what an earlier one has stored, and waits until it is ready.
func (h *Host) StartServer(ctx context.Context) error {
	p, err := h.Rig.StartServer(h.store)
	if err != nil {
		return err
	}
	h.server = p
	return h.store.AwaitReady(ctx, p)
}

// KillServer ends the server with SIGKILL.
func (h *Host) KillServer() error { return h.server.Kill() }

// StartCoordinator starts a coordinator and waits until one acts.
func (h *Host) StartCoordinator(ctx context.Context, env ...string) error {
	p, err := h.Start("host", env, h.Host, "coordinate", "--config", h.ConfigFile())
	if err != nil {
		return err
	}
	h.coordinator = p
	return h.AwaitActing(ctx, p)
}

// KillCoordinator ends the coordinator with SIGKILL.
func (h *Host) KillCoordinator() error { return h.coordinator.Kill() }

// Coordinator is the coordinator's process.
func (h *Host) Coordinator() *tornet.Process { return h.coordinator }

// Upgrade ends both in order and starts those of another program in their place, as a package's upgrade does: the server first, with what the
// former one has stored.
func (h *Host) Upgrade(ctx context.Context, program string) error {
	h.Host = program
	if err := h.server.Stop(stopLimit); err != nil {
		return err
	}
	if err := h.StartServer(ctx); err != nil {
		return err
	}
	if err := h.coordinator.Stop(stopLimit); err != nil {
		return err
	}
	return h.StartCoordinator(ctx)
}

// stopLimit bounds the end of a process that was asked to end.
const stopLimit = 20 * time.Second

// Stop ends all processes of the host and deletes its files.
func (h *Host) Stop() error { return errors.Join(h.Rig.Stop(), h.store.Close()) }
