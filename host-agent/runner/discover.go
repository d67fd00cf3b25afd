package runner

import (
	"maps"
	"os"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"guardring/host-agent/rundir"
	"guardring/internal/coordinator"
	"guardring/internal/coordinator/election"
	"guardring/shmproto"
	"guardring/shmproto/ivshmem"
)

// missingLimit is how often in a row a gateway must be missing before it counts
// as served no more: a server that starts makes its sockets one by one.
const missingLimit = 3

// discover dials what is served and not attached, redials what lost its server,
// and drops gateways that a living server serves no more.
func (r *runner) discover() {
	now := time.Now()
	names, served := r.served()
	if r.board.gone() {
		r.dialAside(rundir.Board, now)
	}
	for _, name := range names {
		if l := r.links[name]; l == nil || l.gone() {
			r.dialAside(name, now)
		}
	}
	if !served || r.board.gone() {
		return // no server, or one that has just started: go on with the old mappings
	}
	for _, name := range slices.Sorted(maps.Keys(r.links)) {
		l := r.links[name]
		if slices.Contains(names, name) {
			l.missing = 0
		} else if l.missing++; l.missing >= missingLimit {
			r.detach(name)
			r.log.Info("gateway is served no more", "gateway", name)
		}
	}
	for name := range r.dials {
		if name != rundir.Board && !r.dials[name].busy && !slices.Contains(names, name) {
			delete(r.dials, name)
		}
	}
}

// served lists the gateways that have a host socket, sorted; ok is false if the
// lease board has none: then the server is down.
func (r *runner) served() (names []string, ok bool) {
	items, err := os.ReadDir(r.runDir().Host())
	if err != nil {
		return nil, false
	}
	for _, item := range items {
		name, isSocket := rundir.SocketName(item.Name())
		switch {
		case isSocket && name == rundir.Board:
			ok = true
		case isSocket && shmproto.ValidName(name):
			names = append(names, name)
		}
	}
	return names, ok
}

// dialAside connects in a goroutine of its own, unless one is at it or it is
// too early after the last failure.
func (r *runner) dialAside(name string, now time.Time) {
	d := r.dials[name]
	if d == nil {
		d = &dial{retry: firstRetry}
		r.dials[name] = d
	}
	if d.busy || now.Before(d.next) {
		return
	}
	d.busy = true
	path := r.runDir().HostSocket(name)
	go func() {
		c, err := ivshmem.Dial(path, shmproto.Vectors, dialTime)
		r.dialled <- dialled{name, c, err}
	}()
}

// connected takes in what dialAside brought.
func (r *runner) connected(d dialled) {
	state := r.dials[d.name]
	if state == nil {
		state = &dial{retry: firstRetry}
		r.dials[d.name] = state
	}
	state.busy = false
	err := d.err
	if err == nil {
		if err = r.adopt(d); err != nil {
			_ = d.client.Close()
		}
	}
	if err == nil {
		delete(r.dials, d.name)
		return
	}
	state.fault = err.Error()
	state.next = time.Now().Add(state.retry)
	state.retry = min(2*state.retry, lastRetry)
	if !state.told {
		state.told = true
		r.log.Warn("no seat yet", "region", d.name, "error", err)
	}
}

// adopt puts a new connection in the place of none or of an ended one.
func (r *runner) adopt(d dialled) error {
	if d.name == rundir.Board {
		return r.adoptBoard(d.client)
	}
	name := d.name
	l, err := attach(name, d.client, r.wake, rate.NewLimiter(rate.Limit(r.cfg.DoorbellRate), r.cfg.DoorbellBurst), func() { r.rung.Add(1) })
	if err != nil {
		return err
	}
	old := r.links[name]
	same := old != nil && old.epoch == l.epoch
	l.budget = rate.NewLimiter(rate.Limit(r.cfg.LedgerRate), r.cfg.LedgerBurst)
	l.paper, l.relief = r.cfg.paper(), rate.NewLimiter(rate.Every(reliefPeriod), 1)
	if old != nil {
		l.budget, l.paper, l.relief = old.budget, old.paper, old.relief
		l.paced.Store(old.paced.Load())
		old.close()
	}
	r.links[name] = l
	// Fence before the first publication is read: an order of a predecessor that
	// is still valid here was in its ledger before this. Whoever had this seat may
	// have fenced with a term that came up after our last tick.
	r.elect(election.Looked{Other: r.board.other()})
	l.host.SetLease(r.machine.Lease())
	shmproto.Fence()
	r.log.Info("gateway attached", "gateway", name, "seat", int(d.client.ID), "known", same)
	if !r.acting() {
		return nil
	}
	if r.catchUp() {
		return nil
	}
	if same {
		l.told, l.seen, l.known = old.told, old.seen, old.known
		r.look(l)
	} else {
		if old != nil { // whoever was in another region is gone with it
			r.step(coordinator.GatewaySeen{At: time.Now(), Gateway: name, Present: false}, name)
		}
		r.introduce(l)
	}
	r.rewrite(l)
	return nil
}

func (r *runner) adoptBoard(c *ivshmem.Client) error {
	b, err := newBoard(c)
	if err != nil {
		return err
	}
	b.succeed(r.board)
	_ = r.board.client.Close()
	r.board = b
	r.show(r.machine.Lease())
	r.log.Info("lease board attached again", "seat", b.seat)
	return nil
}

// detach forgets a gateway's region.
func (r *runner) detach(name string) {
	r.links[name].close()
	delete(r.links, name)
	r.step(coordinator.GatewaySeen{At: time.Now(), Gateway: name, Present: false}, name)
}
