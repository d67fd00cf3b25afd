package tornet

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// awaitConsensus waits until the first authority's consensus flags every guard Guard and every exit Exit.
func (n *Network) awaitConsensus(ctx context.Context) error {
	ctl := n.Authorities[0].Control()
	ev, cancel := ctl.Events()
	defer cancel()
	if _, err := ctl.Do("SETEVENTS NEWCONSENSUS"); err != nil {
		return err
	}
	began := time.Now()
	for round := 1; ; round++ {
		ns, err := ctl.Info("ns/all")
		if err != nil {
			return err
		}
		guards, exits := unflagged(ns, "Guard", n.Guards), unflagged(ns, "Exit", n.Exits)
		n.cfg.Progress(fmt.Sprintf("consensus after %.0f s: %d of %d guards, %d of %d exits", time.Since(began).Seconds(),
			len(n.Guards)-len(guards), len(n.Guards), len(n.Exits)-len(exits), len(n.Exits)))
		missing := slices.Concat(guards, exits)
		if len(missing) == 0 {
			return nil
		}
		if round%republishAfter == 0 {
			if err := n.republish(ctx, missing); err != nil {
				return err
			}
		}
		select {
		case _, ok := <-ev:
			if !ok {
				return fmt.Errorf("%s ended", n.Authorities[0].Name)
			}
		case <-ctx.Done():
			return fmt.Errorf("no consensus with all %d guards and %d exits (%d and %d are missing): %w", len(n.Guards), len(n.Exits), len(guards), len(exits), ctx.Err())
		}
	}
}

// republishAfter is the number of consensuses after which a relay that is not in them is started again.
const republishAfter = 4

// republish restarts relays. On a busy machine the one publication at a relay's start can fail, and the next one is hours away.
func (n *Network) republish(ctx context.Context, relays []*Relay) error {
	for _, r := range relays {
		n.cfg.Progress("starting " + r.Name + " again, to have it published")
		if err := r.Kill(); err != nil {
			return err
		}
	}
	return startAll(ctx, relays)
}

// unflagged are the relays that do not have the flag in a list of router statuses.
func unflagged(ns, flag string, relays []*Relay) []*Relay {
	flagged := map[string]bool{}
	name := ""
	for l := range strings.Lines(ns) {
		switch f := strings.Fields(l); {
		case len(f) > 1 && f[0] == "r":
			name = f[1]
		case len(f) > 1 && f[0] == "s":
			flagged[name] = slices.Contains(f[1:], flag)
		}
	}
	return slices.DeleteFunc(slices.Clone(relays), func(r *Relay) bool { return flagged[r.Name] })
}

// awaitCaches waits until every guard can serve the microdescriptors of all relays. A client that is refused one asks again only
// after ten seconds or more. Tor announces their arrival to nobody, so they are counted several times a second.
func (n *Network) awaitCaches(ctx context.Context) error {
	began, relays := time.Now(), len(n.Authorities)+len(n.Guards)+len(n.Exits)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for _, g := range n.Guards {
		for {
			all, err := g.Control().Info("md/all")
			if err != nil {
				return fmt.Errorf("%s: %w", g.Name, err)
			}
			have := strings.Count(all, "onion-key\n")
			if have >= relays {
				break
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return fmt.Errorf("%s has %d of %d microdescriptors: %w", g.Name, have, relays, ctx.Err())
			}
		}
	}
	n.cfg.Progress(fmt.Sprintf("all guards have all descriptors after %.0f s", time.Since(began).Seconds()))
	return nil
}
