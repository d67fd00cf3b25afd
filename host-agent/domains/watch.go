package domains

import (
	"context"
	"log/slog"
	"time"

	"github.com/digitalocean/go-libvirt"

	"guardring/libvirt-xml/domainxml"
)

// Seen is what the watch says of a gateway's domain. One without a gateway says
// that everything that there was at the start, or could be learned, has been told.
type Seen struct {
	Gateway string
	// State is StateOff when there is no QEMU, or none any more; StateUnknown while
	// libvirt does not know the domain, and when the watch has lost libvirt.
	State      State
	Generation string // the domain's generation ID; "" if it has none or it is not known
}

// Watch is how domains are watched. It needs only libvirt's read-only socket.
type Watch struct {
	Address
	// Gateways returns the configuration's gateways; asked every Period.
	Gateways func() []Known
	Period   time.Duration // 0 is 5 s
	Log      *slog.Logger
}

// Limits of the watch.
const (
	watchPeriod = 5 * time.Second
	lastRetry   = 30 * time.Second // between attempts to reach libvirt
	lookAgain   = time.Minute      // at all domains, should an event have been lost
)

// Run tells what there is and each change until ctx ends. While no gateway has a
// domain it does not connect. That libvirt does not answer is logged once, and
// tried again; nothing else depends on it. tell is called from one goroutine.
func (w Watch) Run(ctx context.Context, tell func(Seen)) {
	if w.Period == 0 {
		w.Period = watchPeriod
	}
	s := &sight{watch: w, tell: tell, told: map[string]Seen{}, alive: map[string]bool{}}
	retry, said := w.Period, false
	for ctx.Err() == nil {
		s.known = withDomain(w.Gateways())
		if len(s.known) == 0 {
			s.begun()
		} else {
			connected, err := s.follow(ctx)
			if connected {
				retry, said = w.Period, false
			}
			if ctx.Err() != nil {
				return
			}
			s.begun()
			if err != nil && !said {
				said = true
				w.Log.Warn("domains are not watched, libvirt does not answer; guards are kept disjoint all the same", "error", err)
			}
			s.lost()
		}
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
		retry = min(2*retry, max(lastRetry, w.Period))
		if len(s.known) == 0 {
			retry = w.Period
		}
	}
}

func withDomain(all []Known) (some []Known) {
	for _, k := range all {
		if k.UUID != "" {
			some = append(some, k)
		}
	}
	return some
}

// sight is the watch's state.
type sight struct {
	watch Watch
	tell  func(Seen)
	known []Known
	told  map[string]Seen // by gateway
	alive map[string]bool // UUIDs of domains that had a QEMU when they were last looked at
}

// follow connects and tells changes until the connection is lost.
func (s *sight) follow(ctx context.Context) (connected bool, err error) {
	c, err := Connect(ctx, s.watch.Address)
	if err != nil {
		return false, err
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(ctx)
	events, err := c.lifecycle(ctx)
	// The library's goroutine would wait for ever with an event that nobody takes.
	defer func() {
		cancel()
		c.Close()
		for range events {
		}
	}()
	if err != nil {
		return false, err
	}
	if err := s.look(c, s.known...); err != nil {
		return false, err
	}
	s.begun()
	s.watch.Log.Info("domains are watched", "libvirt", s.watch.Socket, "gateways", len(s.known))
	again := time.NewTicker(s.watch.Period)
	defer again.Stop()
	next := time.Now().Add(lookAgain)
	for {
		select {
		case <-ctx.Done():
			return true, ctx.Err()
		case e, ok := <-events:
			if !ok {
				return true, errLost
			}
			for _, k := range s.known {
				if k.UUID == formatUUID(e.Dom.UUID) {
					err = s.look(c, k)
				}
			}
		case now := <-again.C:
			var fresh []Known
			s.known = withDomain(s.watch.Gateways())
			for _, k := range s.known {
				if _, ok := s.told[k.Name]; !ok || !now.Before(next) {
					fresh = append(fresh, k)
				}
			}
			if !now.Before(next) {
				next = now.Add(lookAgain)
			}
			err = s.look(c, fresh...)
		}
		if err != nil {
			return true, err
		}
	}
}

// lifecycle subscribes to what happens to domains.
func (c *Connection) lifecycle(ctx context.Context) (events <-chan libvirt.DomainEventLifecycleMsg, err error) {
	err = c.call("watch domains", func() error {
		ch, err := c.rpc.LifecycleEvents(ctx)
		events = ch
		return err
	})
	if err != nil {
		none := make(chan libvirt.DomainEventLifecycleMsg)
		close(none)
		return none, err
	}
	return events, nil
}

// look asks for gateways' domains and tells what has changed.
func (s *sight) look(c *Connection, gateways ...Known) error {
	for _, k := range gateways {
		seen := Seen{Gateway: k.Name, State: StateUnknown}
		d, ok, err := c.Find(k.UUID)
		if err != nil {
			return err
		}
		switch {
		case ok:
			seen.State = d.State
			s.alive[k.UUID] = d.State.Alive()
			text, err := c.OpenDocument(d)
			if isNot(err) {
				break // gone in between: the next event says so
			}
			if err != nil {
				return err
			}
			if facts, err := domainxml.Inspect(text); err == nil {
				seen.Generation = facts.GenID
			}
		case s.alive[k.UUID]:
			// It lived when it was last looked at, and libvirt has forgotten it: a
			// transient domain that has ended.
			seen.State = StateOff
		}
		s.say(seen)
	}
	return nil
}

func (s *sight) say(seen Seen) {
	if s.told[seen.Gateway] != seen {
		s.told[seen.Gateway] = seen
		s.tell(seen)
	}
}

// begun tells once that the first look is over.
func (s *sight) begun() {
	if _, done := s.told[""]; !done {
		s.told[""] = Seen{}
		s.tell(Seen{})
	}
}

// lost tells that nothing is known any more, but for generations.
func (s *sight) lost() {
	for _, k := range s.known {
		if seen, ok := s.told[k.Name]; ok {
			seen.State = StateUnknown
			s.say(seen)
		}
	}
}
