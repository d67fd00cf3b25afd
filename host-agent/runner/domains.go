package runner

import (
	"context"
	"time"

	"guardring/host-agent/domains"
)

// firstSight is how long the first look at a region may wait for what libvirt
// knows: without a generation a rollback may go unnoticed. Libvirt can be absent.
const firstSight = time.Second

// watchDomains has Config.Watch tell what it sees, and waits for what there is
// already.
func (r *runner) watchDomains(ctx context.Context) {
	if r.cfg.Watch == nil {
		return
	}
	go r.cfg.Watch(ctx, func(s domains.Seen) {
		select {
		case r.sightings <- s:
		case <-ctx.Done():
		}
	})
	limit := time.NewTimer(firstSight)
	defer limit.Stop()
	for {
		select {
		case s := <-r.sightings:
			if s.Gateway == "" {
				return
			}
			r.domainSeen(s)
		case <-limit.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// domainSeen takes in what libvirt says of a gateway's domain. The header is the
// better witness of who has the guest seat, because the server holds the process
// itself; but while there is no server, nobody writes there that a QEMU has ended.
func (r *runner) domainSeen(s domains.Seen) {
	if s.Gateway == "" {
		return
	}
	r.domains[s.Gateway] = s
	l := r.links[s.Gateway]
	if l == nil {
		return
	}
	switch s.State {
	case domains.StateOff:
		if now := l.seat(); now.held {
			l.over = now.attachment
		}
	case domains.StateUnknown:
	default:
		l.over = 0
	}
	r.look(l)
}
