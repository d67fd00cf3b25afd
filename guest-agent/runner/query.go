package runner

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"guardring/guest-agent/include"
	"guardring/guest-agent/rotation"
	"guardring/guest-agent/torctl"
	"guardring/internal/guardstate"
)

// reasonablyLive is how long after its end Tor still takes a consensus for
// choosing guards (dir-spec, "reasonably live").
const reasonablyLive = 24 * time.Hour

// query asks Tor what the core wants to know.
func (l *link) query(ctx context.Context, conn *torctl.Conn, q rotation.Query) (rotation.Event, error) {
	switch q.What {
	case rotation.QueryConfig:
		return l.queryConfig(ctx, conn)
	case rotation.QueryEntryGuards:
		return l.queryEntryGuards(ctx, conn)
	case rotation.QueryCircuits:
		return l.queryCircuits(ctx, conn)
	case rotation.QueryConsensus:
		return l.queryConsensus(ctx, conn)
	case rotation.QueryRelays:
		return l.queryRelays(ctx, conn, q.Relays)
	case rotation.QueryNetwork:
		return l.queryNetwork(ctx, conn, q.Countries)
	}
	return nil, fmt.Errorf("unknown query %s", q.What)
}

// info asks for one value. A key that Tor does not know, or has nothing for, is
// "".
func (l *link) info(ctx context.Context, conn *torctl.Conn, key string) (string, error) {
	r, err := l.do(ctx, conn, "GETINFO "+key)
	var refusal *torctl.Error
	if errors.As(err, &refusal) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if v := r.Values(key); len(v) > 0 {
		return v[0], nil
	}
	return "", fmt.Errorf("GETINFO %s: no value in the answer", key)
}

func (l *link) queryConfig(ctx context.Context, conn *torctl.Conn) (rotation.Event, error) {
	r, err := l.do(ctx, conn, "GETCONF "+strings.Join(rotation.ConfigKeys(), " "))
	if err != nil {
		return nil, err
	}
	var text strings.Builder
	for _, line := range r.Lines {
		text.WriteString(line.Text + "\n")
	}
	conf, err := guardstate.ParseConf(text.String())
	if err != nil {
		return nil, err
	}
	return rotation.ConfigRead{Conf: conf, Include: inspect(l.tor.Site)}, nil
}

// inspect tells what is known of the include file.
func inspect(site include.Site) rotation.Include {
	if site.Torrc == "" || site.Include == "" {
		return rotation.Include{Problem: "neither torrc nor include file of this Tor is known: name them in the configuration, then run guardring-guest join"}
	}
	st, err := include.Inspect(site)
	if err != nil {
		return rotation.Include{Problem: fmt.Sprintf("%v: run guardring-guest join, and let the agent's user read the file", err)}
	}
	return rotation.Include{Text: st.Text, Exists: st.Exists, Included: st.Included, First: st.First, Problem: st.Problem}
}

func (l *link) queryEntryGuards(ctx context.Context, conn *torctl.Conn) (rotation.Event, error) {
	text, err := l.info(ctx, conn, "entry-guards")
	if err != nil {
		return nil, err
	}
	guards, err := guardstate.ParseEntryGuards(text)
	if err != nil {
		return nil, err
	}
	dormant, err := l.info(ctx, conn, "dormant")
	if err != nil {
		return nil, err
	}
	return rotation.EntryGuards{Guards: guards, Dormant: dormant != "" && dormant != "0"}, nil
}

func (l *link) queryCircuits(ctx context.Context, conn *torctl.Conn) (rotation.Event, error) {
	var e rotation.Circuits
	text, err := l.info(ctx, conn, "circuit-status")
	if err == nil {
		e.Circuits, err = guardstate.ParseCircuitStatus(text)
	}
	if err != nil {
		return nil, err
	}
	text, err = l.info(ctx, conn, "stream-status")
	if err == nil {
		e.Streams, err = guardstate.ParseStreamStatus(text)
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}

func (l *link) queryConsensus(ctx context.Context, conn *torctl.Conn) (rotation.Event, error) {
	var e rotation.Consensus
	until, err := l.info(ctx, conn, "consensus/valid-until")
	if err != nil {
		return nil, err
	}
	// Both times are of this machine's clock, as Tor's own comparison is.
	if t, err := time.Parse(time.DateTime, until); err == nil {
		e.Live = time.Now().Before(t.Add(reasonablyLive))
	}
	const key = "dir/status-vote/current/consensus-microdesc"
	r, err := l.lines(ctx, conn, "GETINFO "+key, func(line []byte) bool { return strings.HasPrefix(string(line), "params ") })
	var refusal *torctl.Error
	switch {
	case errors.As(err, &refusal): // none there: Tor's defaults hold
	case err != nil:
		return nil, err
	default:
		for _, v := range r.Values(key) {
			e.Params = guardstate.ParseParams(v)
		}
	}
	return e, nil
}

// lines is do for an answer of megabytes.
func (l *link) lines(ctx context.Context, conn *torctl.Conn, request string, keep func([]byte) bool) (torctl.Reply, error) {
	l.waits.begin(time.Now())
	defer func() { l.waits.end(time.Now()) }()
	return conn.DoLines(ctx, request, keep)
}

func (l *link) queryRelays(ctx context.Context, conn *torctl.Conn, relays []guardstate.Fingerprint) (rotation.Event, error) {
	e := rotation.Relays{Relays: make([]guardstate.Relay, 0, len(relays))}
	for _, f := range relays {
		ns, err := l.info(ctx, conn, "ns/id/$"+f.String())
		if err != nil {
			return nil, err
		}
		md, err := l.info(ctx, conn, "md/id/$"+f.String())
		if err != nil {
			return nil, err
		}
		// One relay's odd descriptor must not hide the others: what can be read of
		// it counts.
		r, err := guardstate.ParseRelay(ns, md)
		if err != nil {
			if r, err = guardstate.ParseRelay(ns, ""); err != nil {
				r = guardstate.Relay{}
			}
		}
		if !r.Fingerprint.IsZero() && r.Fingerprint != f {
			return nil, fmt.Errorf("asked for relay $%s, Tor answered with $%s", f.Short(), r.Fingerprint.Short())
		}
		r.Fingerprint = f
		e.Relays = append(e.Relays, r)
	}
	return e, nil
}

func (l *link) queryNetwork(ctx context.Context, conn *torctl.Conn, countries bool) (rotation.Event, error) {
	// The list has megabytes: read line by line, nothing of it is kept.
	var reader guardstate.NetworkReader
	_, err := l.lines(ctx, conn, "GETINFO ns/all", func(line []byte) bool { reader.Line(line); return false })
	if err != nil {
		return nil, err
	}
	e := rotation.Network{Guards: reader.Guards()}
	if countries {
		known := map[netip.Addr]string{}
		for i := range e.Guards {
			g := &e.Guards[i]
			if len(g.Addrs) == 0 {
				continue
			}
			a := g.Addrs[0].Addr()
			if _, ok := known[a]; !ok {
				if known[a], err = l.info(ctx, conn, "ip-to-country/"+a.String()); err != nil {
					return nil, err
				}
			}
			if c := known[a]; c != "??" {
				g.Country = strings.ToLower(c)
			}
		}
	}
	return e, nil
}
